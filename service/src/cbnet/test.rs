//! Connectivity tests in cb-network's words: the specification is JSON in a string, and so is the answer, in the shape in
//! which its agents reported (names misspelt as there, seconds, lost packets as a number).

use cladnet_proto::{
    cbnet::v1::TestResponse,
    cladnet::v1::{ConnectivityTest, PairResult},
    convert::FieldError,
};
use serde::{Deserialize, Serialize};

use crate::peers::PeerRow;

/// Bytes of one echo request, as cb-network counted them.
const ECHO_BYTES: u32 = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    #[serde(default)]
    trial_count: u32,
}

/// Pings per pair that a specification asks for; one, if it says nothing. `"string"` is what Swagger pages send.
pub(super) fn trials(specification: &str) -> Result<u32, FieldError> {
    if matches!(specification.trim(), "" | "string") {
        return Ok(1);
    }
    let read: Specification = serde_json::from_str(specification).map_err(|error| {
        FieldError::new("test_spec", format!("is no specification ({error}); write {{\"trialCount\": 3}}"))
    })?;
    Ok(read.trial_count.max(1))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    inter_host_network_status: Vec<Pair>,
    /// Peers without a result, and why: cb-network left them out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<Missing>,
}

#[derive(Serialize)]
struct Pair {
    #[serde(rename = "sourceIP")]
    source_ip: String,
    #[serde(rename = "sourceName")]
    source_name: String,
    #[serde(rename = "destinationIP")]
    destination_ip: String,
    #[serde(rename = "destinationName")]
    destination_name: String,
    #[serde(rename = "minimunRTT")]
    minimum_rtt: f64,
    #[serde(rename = "averageRTT")]
    average_rtt: f64,
    #[serde(rename = "maximumRTT")]
    maximum_rtt: f64,
    #[serde(rename = "stddevRTT")]
    stddev_rtt: f64,
    #[serde(rename = "packetsReceive")]
    packets_received: u32,
    #[serde(rename = "packetLoss")]
    packets_lost: u32,
    #[serde(rename = "bytesReceived")]
    bytes_received: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Missing {
    host_id: String,
    outcome: String,
    detail: String,
}

/// The answer; it succeeded if every peer took part and every pair answered.
pub(super) fn outcome(test: &ConnectivityTest, peers: &[PeerRow]) -> TestResponse {
    let is_succeeded = test.missing.is_empty() && test.results.iter().all(|pair| pair.received > 0);
    let missing = test.missing.iter().map(|missing| Missing {
        host_id: missing.host_id.clone(),
        outcome: missing.outcome.clone(),
        detail: missing.detail.clone(),
    });
    let status = Status {
        inter_host_network_status: test.results.iter().map(|result| pair(result, peers)).collect(),
        missing: missing.collect(),
    };
    // Text and finite numbers always become JSON.
    TestResponse { is_succeeded, message: serde_json::to_string(&status).unwrap_or_default() }
}

fn pair(result: &PairResult, peers: &[PeerRow]) -> Pair {
    let address = |id: &str| {
        let peer = peers.iter().find(|peer| peer.id().as_str() == id);
        peer.and_then(PeerRow::address).map(|address| address.to_string()).unwrap_or_default()
    };
    let seconds = |microseconds: u32| f64::from(microseconds) / 1e6;
    Pair {
        source_ip: address(&result.source),
        source_name: result.source_name.clone(),
        destination_ip: address(&result.destination),
        destination_name: result.destination_name.clone(),
        minimum_rtt: seconds(result.min_us),
        average_rtt: seconds(result.avg_us),
        maximum_rtt: seconds(result.max_us),
        stddev_rtt: seconds(result.stddev_us),
        packets_received: result.received,
        packets_lost: result.sent.saturating_sub(result.received),
        bytes_received: result.received.saturating_mul(ECHO_BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specification_is_json_or_nothing() {
        assert_eq!(trials(""), Ok(1));
        assert_eq!(trials("string"), Ok(1));
        assert_eq!(trials(r#"{"cladnetId": "a", "trialCount": 5}"#), Ok(5));
        assert_eq!(trials("{}"), Ok(1));
        assert_eq!(trials("five").map_err(|error| error.field), Err("test_spec".to_owned()));
    }

    #[test]
    fn the_answer_has_the_names_that_cb_networks_agents_reported_under() {
        let result = PairResult {
            source_name: "vm-1".to_owned(),
            destination_name: "vm-2".to_owned(),
            sent: 3,
            received: 2,
            min_us: 1_500,
            avg_us: 2_000,
            max_us: 2_500,
            stddev_us: 500,
            ..PairResult::default()
        };
        let test = ConnectivityTest { results: vec![result], ..ConnectivityTest::default() };
        let answer = outcome(&test, &[]);
        assert!(answer.is_succeeded);
        let message: serde_json::Value = serde_json::from_str(&answer.message).expect("is JSON");
        assert_eq!(
            message,
            serde_json::json!({"interHostNetworkStatus": [{
                "sourceIP": "", "sourceName": "vm-1", "destinationIP": "", "destinationName": "vm-2",
                "minimunRTT": 0.0015, "averageRTT": 0.002, "maximumRTT": 0.0025, "stddevRTT": 0.0005,
                "packetsReceive": 2, "packetLoss": 1, "bytesReceived": 128,
            }]})
        );
    }
}
