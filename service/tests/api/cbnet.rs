//! `cbnet.v1` as cb-network's callers have it on the wire; the JSON here is written by hand, from its interface.
//! The same is proved by grpcio and curl in `tests/compat`.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    cast::{controller, enrolled},
    harness::{Harness, eventually},
};

async fn with_network() -> Harness {
    let harness = Harness::start().await;
    let asked = json!({"cladnetId": "prod", "name": "Production", "ipv4AddressSpace": "10.0.0.0/24"});
    let made = harness.post("/v1/cladnet", asked).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    harness
}

#[tokio::test]
async fn a_specification_has_its_five_fields_and_basic_for_no_rule_type() {
    let harness = Harness::start().await;
    let none = harness.get("/v1/cladnet").await;
    assert_eq!(
        (none.status, &none.body["code"], &none.body["details"]),
        (StatusCode::NOT_FOUND, &json!(5), &json!([]))
    );
    let asked = json!({"cladnetId": "prod", "ipv4AddressSpace": "10.0.0.0/24"});
    let expected = json!({
        "cladnetId": "prod", "name": "prod", "ipv4AddressSpace": "10.0.0.0/24", "description": "", "ruleType": "basic",
    });
    assert_eq!(harness.post("/v1/cladnet", asked).await.body, expected);
    assert_eq!(harness.get("/v1/cladnet").await.body, json!({"cladnetSpecifications": [expected]}));
}

#[tokio::test]
async fn a_peer_has_every_field_also_the_empty_ones() {
    let harness = with_network().await;
    let _controller = controller(&harness.store);
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let path = format!("/v1/cladnet/prod/peer/{host}");
    eventually("the peer has an address", async || harness.get(&path).await.body["ip"] != "").await;
    let expected = json!({
        "cladnetId": "prod",
        "hostId": host.as_str(),
        "hostName": "vm-1",
        "hostPrivateIpv4Cidr": "",
        "hostPrivateIp": "",
        "hostPublicIp": "203.0.113.7",
        "ipv4Cidr": "10.0.0.1/24",
        "ip": "10.0.0.1",
        "state": "configuring",
        "details": {
            "providerName": "", "regionId": "", "availabilityZoneId": "", "virtualNetworkId": "", "subnetId": "",
        },
    });
    assert_eq!(harness.get(&path).await.body, expected);
    assert_eq!(harness.get("/v1/cladnet/prod/peer").await.body, json!({"peers": [expected]}));
}

#[tokio::test]
async fn a_rule_has_a_column_per_field() {
    let harness = with_network().await;
    let one = enrolled(&harness.store, "prod", "vm-1").await;
    let two = enrolled(&harness.store, "prod", "vm-2").await;
    let rule = harness.get(&format!("/v1/cladnet/prod/peer/{one}/networkingRule")).await;
    let expected = json!({
        "cladnetId": "prod",
        "hostId": [two.as_str()],
        "hostName": ["vm-2"],
        "peerIp": [""],
        "selectedIp": ["203.0.113.7"],
        "peerScope": ["inter"],
        "state": ["configuring"],
    });
    assert_eq!(rule.body, expected);
}

#[tokio::test]
async fn commands_say_truly_what_became_of_them() {
    let harness = with_network().await;
    let command = async |command: &str| harness.get(&format!("/v1/control/cladnet/prod/command/{command}")).await;
    assert_eq!(command("UP").await.status, StatusCode::NOT_FOUND, "nobody to steer");
    enrolled(&harness.store, "prod", "vm-1").await;
    let down = command("DOWN").await;
    assert_eq!(
        down.body,
        json!({"isSucceeded": true, "message": "0 of 1 peers are down; offline, carried out when they return: vm-1"})
    );
    let clear = command("DISABLE_ENCRYPTION").await;
    assert_eq!(clear.body["isSucceeded"], true);
    assert!(clear.body["message"].as_str().expect("text").contains("policy public is stored"), "{clear:?}");
    assert_eq!(harness.get("/api/v1/networks/prod").await.body["encryptionPolicy"], "public");
    let unknown = command("SUSPEND").await;
    assert_eq!((unknown.status, &unknown.body["code"]), (StatusCode::BAD_REQUEST, &json!(3)), "{unknown:?}");
}

#[tokio::test]
async fn deletion_takes_the_peers_along_and_says_so() {
    let harness = with_network().await;
    enrolled(&harness.store, "prod", "vm-1").await;
    let deleted = harness.rest(Method::DELETE, "/v1/cladnet/prod", None).await;
    assert_eq!((deleted.status, &deleted.body["isSucceeded"]), (StatusCode::OK, &json!(true)));
    assert_eq!(deleted.body["message"], "network prod deleted with 1 peers");
    assert_eq!(deleted.body["cladnetSpecification"]["name"], "Production");
}

#[tokio::test]
async fn a_wrong_field_is_400_under_the_name_that_callers_know() {
    let harness = with_network().await;
    for (method, path, body, field) in [
        (Method::POST, "/v1/cladnet", json!({"ipv4AddressSpace": "8.8.8.0/24"}), json!("ipv4AddressSpace")),
        (
            Method::POST,
            "/v1/cladnet",
            json!({"cladnetId": "a/b", "ipv4AddressSpace": "10.9.0.0/24"}),
            json!("cladnetId"),
        ),
        (Method::PUT, "/v1/cladnet/prod", json!({"ruleType": "cheapest"}), json!("ruleType")),
        (Method::POST, "/v1/cladnet/availableIPv4AddressSpaces", json!({"ipv4Cidrs": ["abc"]}), json!("ipv4Cidrs[0]")),
        (Method::POST, "/v1/test/cladnet/prod/type/CONNECTIVITY", json!({"testSpec": "five"}), json!("testSpec")),
        (Method::POST, "/v1/test/cladnet/prod/type/SPEED", json!({}), json!("test_type")),
    ] {
        let refused = harness.rest(method, path, Some(body)).await;
        assert_eq!((refused.status, &refused.body["field"]), (StatusCode::BAD_REQUEST, &field), "{refused:?}");
        assert_eq!(refused.body["code"], 3, "{refused:?}");
    }
    let untouched: Value = harness.get("/v1/cladnet/prod").await.body;
    assert_eq!(untouched["ruleType"], "basic");
}

#[tokio::test]
async fn a_query_that_nobody_knows_is_passed_over() {
    let harness = with_network().await;
    assert_eq!(harness.get("/v1/cladnet/prod?pretty=true&a.b=c").await.status, StatusCode::OK);
    let update = json!({"ruleType": "cost-prioritized"});
    let updated = harness.rest(Method::PUT, "/v1/cladnet/prod?name=Other", Some(update)).await;
    assert_eq!((updated.status, &updated.body["ruleType"]), (StatusCode::OK, &json!("cost-prioritized")));
    assert_ne!(updated.body["name"], "Other");
}
