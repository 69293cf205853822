//! The records as they stand in a store. A change here is a change of what running installations hold: add fields
//! with defaults, rename and remove none.

#![expect(clippy::unwrap_used, reason = "a helper of tests may just fail, as a test may")]

use std::time::Duration;

use cladnet_model::{
    path::{Limits, PathSettings},
    tariff::Price,
    *,
};
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The record is written as `stored`, and read from it again.
fn assert_stored<T>(record: T, stored: Value)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_value(&record).unwrap(), stored);
    assert_eq!(serde_json::from_value::<T>(stored).unwrap(), record);
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_network() {
    let network = Network {
        id: "prod".parse().unwrap(),
        name: "Production".into(),
        address_space: "10.77.0.0/16".parse().unwrap(),
        description: String::new(),
        rule_type: RuleType::LatencyPrioritized,
        encryption_policy: EncryptionPolicy::Public,
        path_settings: PathSettings {
            price_per_ms: Price(2_000_000),
            price_per_loss_percent: Price(0),
            limits: Limits {
                max_rtt: Some(Duration::from_millis(80)),
                max_price_per_gb: Some(Price(50_000_000)),
                forbid: [Scope::PublicV6].into(),
            },
        },
        generation: 3,
        created_at: at(0),
    };
    let stored = json!({
        "id": "prod", "name": "Production", "address_space": "10.77.0.0/16", "description": "",
        "rule_type": "latency-prioritized", "encryption_policy": "public",
        "path_settings": {
            "price_per_ms": 2_000_000, "price_per_loss_percent": 0, "max_rtt_ms": 80, "max_price_per_gb": 50_000_000,
            "forbid": ["public-v6"],
        },
        "generation": 3, "created_at": "1970-01-01T00:00:00Z",
    });
    assert_stored(network, stored);
}

#[test]
fn the_rules_of_a_network() {
    let document = json!({
        "default_access": "deny",
        "rules": [
            {"id": "web", "kind": "access", "from": "role=web", "to": "any", "action": "allow", "protocol": "tcp",
             "ports": ["443"]},
            {"id": "pods", "kind": "advertise", "prefix": "10.244.0.0/16", "via": "role=gateway"},
            {"id": "dear", "kind": "path", "comment": "money", "enabled": false, "from": "any", "to": "any",
             "forbid": ["public"], "max_usd_per_gb": "0.02"},
        ],
        "tests": ["expect: web-1 may reach db-1:443"],
    });
    let rules = rule::NetworkRules {
        network: "prod".parse().unwrap(),
        generation: 2,
        changed_at: at(3),
        rules: serde_json::from_value(document.clone()).unwrap(),
    };
    let stored = json!({"network": "prod", "generation": 2, "changed_at": "1970-01-01T00:00:03Z", "rules": document});
    assert_stored(rules, stored);
}

#[test]
fn a_membership_and_its_status() {
    let membership = Membership {
        network: "prod".parse().unwrap(),
        host: "host-1".parse().unwrap(),
        public_key: PublicKey([1; 32]),
        labels: Labels::from([("tier".into(), "db".into())]),
        desired_state: DesiredState::Down,
        static_address: Some([10, 77, 0, 9].into()),
        plain: false,
        joined_at: at(1),
    };
    let stored = json!({
        "network": "prod", "host": "host-1", "public_key": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=",
        "labels": {"tier": "db"}, "desired_state": "down", "static_address": "10.77.0.9", "plain": false,
        "joined_at": "1970-01-01T00:00:01Z",
    });
    assert_stored(membership, stored);
    let status = MembershipStatus {
        state: PeerState::Tunneling,
        reason: String::new(),
        interface: "cbnet0".into(),
        revision: 42,
    };
    assert_stored(status, json!({"state": "tunneling", "reason": "", "interface": "cbnet0", "revision": 42}));
}

#[test]
fn a_peer_and_its_allocation() {
    let (network, host): (NetworkId, HostId) = ("prod".parse().unwrap(), "host-1".parse().unwrap());
    let address = [10, 77, 0, 1].into();
    let peer = Peer { network: network.clone(), host: host.clone(), address: Some(address), problem: String::new() };
    assert_stored(peer, json!({"network": "prod", "host": "host-1", "address": "10.77.0.1", "problem": ""}));
    let held = Allocation { network, address, host, hold: Hold::Held };
    let stored = json!({"network": "prod", "address": "10.77.0.1", "host": "host-1", "hold": {"state": "held"}});
    assert_stored(held.clone(), stored);
    let quarantined = Allocation { hold: Hold::Quarantined { since: at(2) }, ..held };
    let stored = json!({
        "network": "prod", "address": "10.77.0.1", "host": "host-1",
        "hold": {"state": "quarantined", "since": "1970-01-01T00:00:02Z"},
    });
    assert_stored(quarantined, stored);
}

#[test]
fn a_host() {
    let vpc = Located { value: "vpc-1".into(), source: LocationSource::Metadata };
    let endpoint =
        Endpoint { address: "203.0.113.9:8055".parse().unwrap(), scope: Scope::Public, source: EndpointSource::Stun };
    let host = Host {
        id: "host-1".parse().unwrap(),
        facts: HostFacts {
            name: "vm".into(),
            machine_id: "m".into(),
            agent_version: "0.1.0".into(),
            endpoints: vec![endpoint],
            routes: vec!["10.0.0.0/16".parse().unwrap()],
            private_address: Some("10.0.0.4/24".parse().unwrap()),
            location: CloudLocation { vpc: Some(vpc), ..CloudLocation::default() },
            advertise: vec!["10.2.0.0/16".parse().unwrap()],
        },
        injected: CloudLocation::default(),
        identity: "ab".into(),
        enrolled_at: at(0),
    };
    let stored = json!({
        "id": "host-1",
        "facts": {
            "name": "vm", "machine_id": "m", "agent_version": "0.1.0",
            "endpoints": [{"address": "203.0.113.9:8055", "scope": "public", "source": "stun"}],
            "routes": ["10.0.0.0/16"], "private_address": "10.0.0.4/24",
            "location": {"vpc": {"value": "vpc-1", "source": "metadata"}},
            "advertise": ["10.2.0.0/16"],
        },
        "injected": {}, "identity": "ab", "enrolled_at": "1970-01-01T00:00:00Z",
    });
    assert_stored(host, stored);
}

#[test]
fn a_token_and_a_key() {
    let token = Token {
        id: "token-1".parse().unwrap(),
        network: "prod".parse().unwrap(),
        secret_hash: "00".into(),
        uses_left: 1,
        expires_at: at(3600),
        labels: Labels::new(),
        revoked: false,
        created_at: at(0),
        created_by: "key-1".into(),
    };
    let stored = json!({
        "id": "token-1", "network": "prod", "secret_hash": "00", "uses_left": 1, "expires_at": "1970-01-01T01:00:00Z",
        "labels": {}, "revoked": false, "created_at": "1970-01-01T00:00:00Z", "created_by": "key-1",
    });
    assert_stored(token, stored);
    let key = ApiKey {
        id: "key-1".parse().unwrap(),
        name: "laptop".into(),
        role: Role::Provisioner,
        secret_hash: "00".into(),
        created_at: at(0),
        expires_at: None,
    };
    let stored = json!({
        "id": "key-1", "name": "laptop", "role": "provisioner", "secret_hash": "00",
        "created_at": "1970-01-01T00:00:00Z", "expires_at": null,
    });
    assert_stored(key, stored);
}

#[test]
fn a_record_of_an_older_release_is_read_with_defaults() {
    let network: Network = serde_json::from_value(json!({
        "id": "prod", "name": "prod", "address_space": "10.77.0.0/16", "generation": 1, "created_at": "1970-01-01T00:00:00Z",
    }))
    .unwrap();
    assert_eq!((network.rule_type, network.encryption_policy), (RuleType::CostPrioritized, EncryptionPolicy::Always));
    let wrong = json!({"id": "a/b", "name": "", "address_space": "10.77.0.0/16", "generation": 1, "created_at": "1970-01-01T00:00:00Z"});
    assert!(serde_json::from_value::<Network>(wrong).is_err(), "an id that is none is refused on the way in, too");
}

#[test]
fn a_connectivity_run_and_its_results() {
    use cladnet_model::connectivity::{MissingHost, PairFigures, RunFigures, RunHost};
    let missing = MissingHost { host: "host-2".parse().unwrap(), outcome: "offline".into(), detail: "away".into() };
    let run = ConnectivityRun {
        id: "run-1".parse().unwrap(),
        network: "prod".parse().unwrap(),
        started_at: at(0),
        deadline_at: at(1),
        hosts: [("host-1".parse().unwrap(), RunHost { name: "vm-1".into(), asked: true })].into(),
        absent: vec![],
        outcome: Some(RunFigures { answered: 1, missing: vec![missing.clone()], sent: 3, received: 2, p50_us: 7 }),
    };
    let stored_missing = json!({"host": "host-2", "outcome": "offline", "detail": "away"});
    let stored = json!({
        "id": "run-1", "network": "prod", "started_at": "1970-01-01T00:00:00Z", "deadline_at": "1970-01-01T00:00:01Z",
        "hosts": {"host-1": {"name": "vm-1", "asked": true}}, "absent": [],
        "outcome": {"answered": 1, "missing": [stored_missing], "sent": 3, "received": 2, "p50_us": 7},
    });
    assert_stored(run, stored);
    let pair = PairFigures {
        destination: "host-3".parse().unwrap(),
        sent: 3,
        round_trips: RoundTrips::of(&[1, 3]).unwrap(),
        error: String::new(),
    };
    let stored = json!({
        "pairs": [["host-3", 3, 2, [1, 2, 3, 1, 1, 3, 3], ""]], "left_out": 0, "sent": 3, "received": 2,
        "failure": stored_missing,
    });
    assert_stored(ConnectivityResult::new(vec![pair], Some(missing)), stored);
}

#[test]
fn a_deployment_and_its_claim() {
    use cladnet_model::deployment::{DeploymentAction, DeploymentClaim, DeploymentTurn};
    let deployment = Deployment {
        id: "deployment-1".parse().unwrap(),
        network: "prod".parse().unwrap(),
        action: DeploymentAction::Uninstall,
        hosts: vec!["edge".parse().unwrap(), "db-1".parse().unwrap()],
        concurrency: 10,
        accept_new_host_keys: true,
        keep_credentials: false,
        created_at: at(0),
        created_by: "key-1".parse().unwrap(),
        cancelled_at: Some(at(1)),
        finished_at: None,
    };
    let stored = json!({
        "id": "deployment-1", "network": "prod", "action": "uninstall", "hosts": ["edge", "db-1"], "concurrency": 10,
        "accept_new_host_keys": true, "keep_credentials": false, "created_at": "1970-01-01T00:00:00Z",
        "created_by": "key-1", "cancelled_at": "1970-01-01T00:00:01Z", "finished_at": null,
    });
    assert_stored(deployment, stored);
    assert_stored(DeploymentClaim { replica: "ab".into() }, json!({"replica": "ab"}));
    assert_stored(DeploymentTurn { turns: 7 }, json!({"turns": 7}));
}

#[test]
fn a_machine_of_a_deployment_and_its_host_key() {
    use cladnet_model::deployment::{Fingerprint, PinnedHostKey, SshTarget};
    let key = Fingerprint::of(b"key");
    let provider = Located { value: "aws".into(), source: LocationSource::Injected };
    let machine = DeploymentHost {
        name: "db-1".parse().unwrap(),
        ssh: SshTarget {
            address: "10.0.0.5".into(),
            port: 22,
            user: "debian".into(),
            host_key: Some(key.to_string().parse().unwrap()),
        },
        bastion: Some("edge".parse().unwrap()),
        labels: Labels::from([("tier".into(), "db".into())]),
        overlay_address: Some([10, 77, 0, 9].into()),
        location: CloudLocation { provider: Some(provider), ..CloudLocation::default() },
        confirmed: Some(key),
        confirmed_by: Some("key-1".parse().unwrap()),
    };
    let fingerprint = "SHA256:LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM";
    let stored = json!({
        "name": "db-1", "address": "10.0.0.5", "port": 22, "user": "debian", "host_key": fingerprint, "bastion": "edge",
        "labels": {"tier": "db"}, "overlay_address": "10.77.0.9",
        "location": {"provider": {"value": "aws", "source": "injected"}},
        "confirmed": fingerprint, "confirmed_by": "key-1",
    });
    assert_stored(machine, stored);
    let before = json!({"name": "a", "address": "192.0.2.1", "port": 22, "user": "debian", "confirmed": fingerprint});
    let before: DeploymentHost = serde_json::from_value(before).unwrap();
    assert_eq!((before.confirmed, before.confirmed_by), (Some(key), None), "by whom was not kept at first");
    let pinned = PinnedHostKey {
        fingerprint: key,
        algorithm: "ssh-ed25519".into(),
        pinned_at: at(0),
        pinned_by: "key-1".into(),
        host: Some("host-1".parse().unwrap()),
    };
    let stored = json!({
        "fingerprint": fingerprint, "algorithm": "ssh-ed25519", "pinned_at": "1970-01-01T00:00:00Z", "pinned_by": "key-1",
        "host": "host-1",
    });
    assert_stored(pinned, stored);
}

#[test]
fn the_progress_of_a_machine_and_its_transcript() {
    use cladnet_model::deployment::{DeploymentFailure, DeploymentState, FailureReason, Fingerprint, Transcript};
    let failure = DeploymentFailure {
        reason: FailureReason::HostKeyChanged,
        detail: "somebody may be in between".into(),
        during: DeploymentState::ConfirmHostKey,
    };
    let progress = DeploymentProgress {
        state: DeploymentState::Failed,
        failure: Some(failure),
        offered_key: Some(Fingerprint::of(b"key")),
        host: Some("host-1".parse().unwrap()),
        token: Some("token-1".parse().unwrap()),
        agent_version: "0.1.0".into(),
        system: "Debian".into(),
        started_at: Some(at(0)),
        finished_at: Some(at(1)),
    };
    let stored = json!({
        "state": "failed",
        "failure": {
            "reason": "host-key-changed", "detail": "somebody may be in between", "during": "confirm-host-key",
        },
        "offered_key": "SHA256:LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM", "host": "host-1", "token": "token-1",
        "agent_version": "0.1.0", "system": "Debian", "started_at": "1970-01-01T00:00:00Z",
        "finished_at": "1970-01-01T00:00:01Z",
    });
    assert_stored(progress, stored);
    let mut transcript = Transcript::default();
    transcript.push(at(0), "connected");
    assert_stored(transcript, json!({"text": "1970-01-01T00:00:00Z connected\n"}));
}

#[test]
fn usage_and_how_far_it_is_counted() {
    let mut usage = HostUsage::new("prod".parse().unwrap(), "host-1".parse().unwrap(), "2026-11-20".parse().unwrap());
    let own = Place { provider: Some("aws".into()), region: Some("us-east-1".into()), ..Place::default() };
    let bytes = Exchanged { sent: 5, received: 7, clear_sent: 3, clear_received: 0 };
    usage.add(&own, &Place::default(), Scope::PublicV6, bytes);
    let stored = json!({
        "network": "prod", "host": "host-1", "day": "2026-11-20",
        "rows": [{
            "own": {"provider": "aws", "region": "us-east-1"}, "peer": {}, "scope": "public-v6",
            "sent": 5, "received": 7, "clear_sent": 3,
        }],
    });
    assert_stored(usage, stored);
    assert_stored(UsageCursor { sequence: 9 }, json!({"sequence": 9}));
}

#[test]
fn a_budget() {
    let month = "2026-11-01".parse().unwrap();
    let mut budget = bill::Budget::check(Some("prod".parse().unwrap()), 50_000_000_000, 0).unwrap();
    budget.warned = Some(bill::Warned { month, percent: 80 });
    let stored = json!({
        "network": "prod", "monthly": 50_000_000_000i64, "warn_percent": 80,
        "warned": {"month": "2026-11-01", "percent": 80},
    });
    assert_stored(budget, stored);
}
