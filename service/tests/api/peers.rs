//! Peers, plain ones and hosts over REST: shown, changed, steered, removed, and every wrong field refused by name.

use std::collections::BTreeSet;

use cladnet_model::{
    Allocation, DesiredState, Hold, HostId, Membership, NetworkId, PeerState, PublicKey, PublicKeyOwner, QUARANTINE,
    validate::MAX_LABELS,
};
use cladnet_store::key;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    cast::{agent, connected, controller, enrolled, report},
    harness::Harness,
};

const KEY: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

async fn with_network(id: &str, space: &str) -> Harness {
    let harness = Harness::start().await;
    add_network(&harness, id, space).await;
    harness
}

async fn add_network(harness: &Harness, id: &str, space: &str) {
    let made = harness.post("/api/v1/networks", json!({"networkId": id, "ipv4AddressSpace": space})).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
}

#[tokio::test]
async fn a_network_whose_id_begins_anothers_never_shows_the_others_peers() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    add_network(&harness, "prod-1", "10.1.0.0/24").await;
    let host = enrolled(&harness.store, "prod-1", "vm-1").await;
    assert_eq!(harness.get("/api/v1/networks/prod/peers").await.body["peers"], json!([]));
    assert_eq!(harness.get("/v1/cladnet/prod/peer").await.status, StatusCode::NOT_FOUND);
    let other = harness.get("/api/v1/networks/prod-1/peers").await.body;
    assert_eq!(other["peers"][0]["hostId"], host.as_str());
    let deleted = harness.rest(Method::DELETE, "/api/v1/networks/prod?force=true", None).await;
    assert_eq!(deleted.body["removedPeers"], 0);
    assert_eq!(harness.get("/api/v1/networks/prod-1").await.body["peerCount"], 1);
}

#[tokio::test]
async fn labels_and_the_wanted_address_of_a_peer_change() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let (one, two) = (enrolled(&harness.store, "prod", "vm-1").await, enrolled(&harness.store, "prod", "vm-2").await);
    let path = format!("/api/v1/networks/prod/peers/{one}");
    let change = async |body: Value| harness.rest(Method::PATCH, &path, Some(body)).await;

    let changed = change(json!({"labels": {"zone": "a"}, "ipv4Address": "10.0.0.77"})).await;
    assert_eq!((changed.status, &changed.body["labels"]), (StatusCode::OK, &json!({"zone": "a"})), "{changed:?}");
    assert_eq!(change(json!({"ipv4Address": ""})).await.body["labels"], json!({"zone": "a"}), "labels stay");
    assert_eq!(change(json!({"clearLabels": true})).await.body["labels"], json!({}));
    assert_eq!(change(json!({"ipv4Address": "10.0.0.77"})).await.status, StatusCode::OK);

    let other = format!("/api/v1/networks/prod/peers/{two}");
    let taken = harness.rest(Method::PATCH, &other, Some(json!({"ipv4Address": "10.0.0.77"}))).await;
    assert_eq!((taken.status, &taken.body["field"]), (StatusCode::CONFLICT, &json!("ipv4Address")), "{taken:?}");
    assert!(taken.body["detail"].as_str().expect("a detail").contains("asked for already"), "{taken:?}");
    for (body, field, right) in [
        (json!({"ipv4Address": "10.0.1.1"}), "ipv4Address", "10.0.0.0/24"),
        (json!({"ipv4Address": "10.0.0.255"}), "ipv4Address", "10.0.0.0/24"),
        (json!({"ipv4Address": "ten"}), "ipv4Address", "IPv4"),
        (json!({"labels": {"a b": "c"}}), "labels.a b", "label key"),
        (json!({"labels": {"a": "b"}, "clearLabels": true}), "clearLabels", "one of them"),
    ] {
        let refused = harness.rest(Method::PATCH, &other, Some(body.clone())).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(field)), "{body}: {refused:?}");
        assert!(refused.body["detail"].as_str().expect("a detail").contains(right), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn an_address_that_was_left_is_refused_with_the_moment_from_which_it_is_free() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let old: HostId = "host-old".parse().expect("an id");
    let (network, address) = ("prod".parse().expect("an id"), "10.0.0.77".parse().expect("an address"));
    let left = async |since: Timestamp| {
        let hold = Hold::Quarantined { since };
        let allocation = Allocation { network: NetworkId::clone(&network), address, host: old.clone(), hold };
        harness.store.put(&key::allocation(&network, address), &allocation).await.expect("writes");
        let path = format!("/api/v1/networks/prod/peers/{host}");
        harness.rest(Method::PATCH, &path, Some(json!({"ipv4Address": "10.0.0.77"}))).await
    };
    let now = Timestamp::now();
    let refused = left(now).await;
    assert_eq!((refused.status, &refused.body["field"]), (StatusCode::CONFLICT, &json!("ipv4Address")), "{refused:?}");
    let detail = refused.body["detail"].as_str().expect("a detail");
    let why = format!("is kept back until {} because host-old has left", now + QUARANTINE);
    assert!(detail.contains(&why), "{detail}");
    let over = left(now - QUARANTINE).await;
    assert_eq!(over.status, StatusCode::OK, "{over:?}");
}

#[tokio::test]
async fn labels_are_added_to_what_others_have_set_meanwhile() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let path = format!("/api/v1/networks/prod/peers/{host}");
    let change = async |body: Value| harness.rest(Method::PATCH, &path, Some(body)).await;
    let added = change(json!({"labels": {"zone": "a"}, "addLabels": true})).await;
    assert_eq!(added.body["labels"], json!({"tier": "web", "zone": "a"}), "{added:?}");
    let added = change(json!({"labels": {"tier": "db"}, "addLabels": true})).await;
    assert_eq!(added.body["labels"], json!({"tier": "db", "zone": "a"}), "{added:?}");
    let many: serde_json::Map<_, _> = (0..MAX_LABELS).map(|n| (format!("n{n}"), json!("x"))).collect();
    let refused = change(json!({"labels": many, "addLabels": true})).await;
    assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("labels")), "{refused:?}");
}

#[tokio::test]
async fn labels_are_taken_away_from_what_others_have_set_meanwhile() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let path = format!("/api/v1/networks/prod/peers/{host}");
    let change = async |body: Value| harness.rest(Method::PATCH, &path, Some(body)).await;
    let wish = json!({"labels": {"zone": "a", "rack": "7"}, "addLabels": true});
    assert_eq!(change(wish).await.status, StatusCode::OK);
    let fewer = change(json!({"removeLabels": ["rack", "nothing"]})).await;
    assert_eq!(fewer.body["labels"], json!({"tier": "web", "zone": "a"}), "{fewer:?}");
    let both = change(json!({"labels": {"zone": "b"}, "addLabels": true, "removeLabels": ["tier"]})).await;
    assert_eq!(both.body["labels"], json!({"zone": "b"}), "{both:?}");
    let none = change(json!({"removeLabels": ["zone"]})).await;
    assert_eq!(none.body["labels"], json!({}), "{none:?}");
    for body in [
        json!({"labels": {"zone": "b"}, "removeLabels": ["zone"]}),
        json!({"clearLabels": true, "removeLabels": ["zone"]}),
        json!({"labels": {"zone": "b"}, "addLabels": true, "removeLabels": ["zone"]}),
    ] {
        let refused = change(body.clone()).await;
        let told = (refused.status.as_u16(), &refused.body["field"]);
        assert_eq!(told, (422, &json!("removeLabels")), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn a_peer_tells_which_token_its_host_showed() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let path = format!("/api/v1/networks/prod/peers/{host}");
    let peer = harness.get(&path).await.body;
    assert_eq!(peer["shownTokenId"], "", "{peer}");
    let key = key::public_key(&peer["publicKey"].as_str().expect("a key").parse().expect("a key"));
    let owner = harness.store.get(&key).await.expect("reads").expect("is there").value;
    let shown = PublicKeyOwner { token: Some("token-a".parse().expect("an id")), ..owner };
    harness.store.put(&key, &shown).await.expect("writes");
    assert_eq!(harness.get(&path).await.body["shownTokenId"], "token-a");
}

#[tokio::test]
async fn a_plain_peer_gets_an_address_and_what_it_needs_to_know_of_the_others() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let _controller = controller(&harness.store);
    enrolled(&harness.store, "prod", "vm-1").await;
    let body = json!({"name": "laptop", "publicKey": KEY, "endpoint": "[2001:db8::1]:51820", "labels": {"who": "me"}});
    let made = harness.post("/api/v1/networks/prod/plain-peers", body).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    let peer = &made.body["peer"];
    assert_eq!((&peer["plain"], &peer["state"], &peer["publicKey"]), (&json!(true), &json!("tunneling"), &json!(KEY)));
    assert!(peer["ipv4Address"].as_str().expect("text").starts_with("10.0.0."), "{peer}");
    assert_eq!(peer["endpoints"][0]["scope"], "public-v6");
    assert_eq!(made.body["ipv4AddressSpace"], "10.0.0.0/24");
    assert_eq!(made.body["remotes"][0]["hostName"], "vm-1");
    assert_eq!(made.body["remotes"][0]["endpoint"], "203.0.113.7:8055");

    let id = peer["hostId"].as_str().expect("an id");
    let removed = harness.rest(Method::DELETE, &format!("/api/v1/networks/prod/peers/{id}"), None).await;
    assert_eq!(removed.status, StatusCode::OK, "{removed:?}");
    assert_eq!(
        harness.get(&format!("/api/v1/hosts/{id}")).await.status,
        StatusCode::NOT_FOUND,
        "nothing else hung on it"
    );
    assert!(harness.store.list(&key::public_keys()).await.expect("lists").items.len() == 1, "the key is free again");
}

#[tokio::test]
async fn a_plain_peer_is_refused_by_the_field_that_is_wrong() {
    let harness = with_network("tiny", "10.0.0.0/30").await;
    let _controller = controller(&harness.store);
    let create = async |body: Value| harness.post("/api/v1/networks/tiny/plain-peers", body).await;
    for (body, field, right) in [
        (json!({"publicKey": KEY}), "name", "empty"),
        (json!({"name": "a", "publicKey": "abc"}), "publicKey", "44 characters"),
        (json!({"name": "a", "publicKey": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}), "publicKey", "zeroes"),
        (json!({"name": "a", "publicKey": KEY, "endpoint": "somewhere"}), "endpoint", "ADDRESS:PORT"),
        (json!({"name": "a", "publicKey": KEY, "endpoint": "127.0.0.1:51820"}), "endpoint", ""),
        (json!({"name": "a", "publicKey": KEY, "endpoint": "169.254.169.254:80"}), "endpoint", ""),
        (json!({"name": "a", "publicKey": KEY, "endpoint": "203.0.113.9:0"}), "endpoint", "port"),
    ] {
        let refused = create(body.clone()).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(field)), "{body}: {refused:?}");
        assert!(refused.body["detail"].as_str().expect("a detail").contains(right), "{body}: {refused:?}");
    }
    assert_eq!(create(json!({"name": "one", "publicKey": KEY})).await.status, StatusCode::OK);
    let again = create(json!({"name": "two", "publicKey": KEY})).await;
    assert_eq!((again.status, &again.body["field"]), (StatusCode::CONFLICT, &json!("publicKey")), "{again:?}");
    enrolled(&harness.store, "tiny", "vm-1").await;
    let full = create(json!({"name": "three", "publicKey": KEY.replacen('x', "y", 1)})).await;
    assert_eq!(full.status, StatusCode::CONFLICT, "{full:?}");
    assert!(full.body["detail"].as_str().expect("a detail").contains("full"), "{full:?}");
}

#[tokio::test]
async fn a_command_tells_what_became_of_it_at_each_peer() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let store = &harness.store;
    let (obeys, fails, silent, away) = (
        enrolled(store, "prod", "obeys").await,
        enrolled(store, "prod", "fails").await,
        enrolled(store, "prod", "silent").await,
        enrolled(store, "prod", "away").await,
    );
    for host in [&obeys, &fails, &silent] {
        connected(store, host).await;
    }
    let _agents = [agent(store, "prod", &obeys, PeerState::Released), agent(store, "prod", &fails, PeerState::Failed)];
    let answer =
        harness.post("/api/v1/networks/prod/control", json!({"command": "COMMAND_DOWN", "timeout": "2s"})).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let outcome = |host: &HostId| {
        let results = answer.body["results"].as_array().expect("a list");
        let result = results.iter().find(|result| result["hostId"] == host.as_str()).expect("is told");
        (result["outcome"].as_str().expect("text").to_owned(), result["detail"].as_str().expect("text").to_owned())
    };
    assert_eq!(outcome(&obeys), ("acknowledged".to_owned(), "released".to_owned()));
    assert_eq!(outcome(&fails), ("failed".to_owned(), "no /dev/net/tun".to_owned()));
    assert_eq!(outcome(&silent), ("timed-out".to_owned(), "has not reported yet".to_owned()));
    assert_eq!(outcome(&away).0, "offline");
    let peer = harness.get(&format!("/api/v1/networks/prod/peers/{away}")).await;
    assert_eq!(peer.body["desiredState"], "down", "it will be carried out");

    let named = json!({"command": "COMMAND_DOWN", "hostIds": ["away"], "timeout": "1s"});
    let answer = harness.post("/api/v1/networks/prod/control", named).await;
    assert_eq!(answer.body["results"].as_array().map(Vec::len), Some(1), "{answer:?}");
    for (body, status, field) in [
        (json!({}), 422, json!("command")),
        (json!({"command": "COMMAND_UP", "timeout": "61s"}), 422, json!("timeout")),
        (json!({"command": "COMMAND_UP", "hostIds": ["nobody"]}), 404, json!("hostIds[0]")),
        (json!({"command": "SUSPEND"}), 400, json!("command")),
    ] {
        let refused = harness.post("/api/v1/networks/prod/control", body.clone()).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (status, &field), "{body}: {refused:?}");
    }
}

#[tokio::test]
async fn a_thousand_peers_are_told_in_a_few_transactions() {
    let harness = with_network("prod", "10.0.0.0/16").await;
    for _ in 0..1_000 {
        enrolled(&harness.store, "prod", "vm").await;
    }
    let answer = harness.post("/api/v1/networks/prod/control", json!({"command": "COMMAND_DOWN"})).await;
    assert_eq!(answer.body["results"].as_array().map(Vec::len), Some(1_000), "{}", answer.status);
    let members = harness.store.list(&key::memberships(&"prod".parse().expect("an id"))).await.expect("lists").items;
    assert!(members.iter().all(|member| member.value.desired_state == DesiredState::Down));
    let transactions: BTreeSet<_> = members.iter().map(|member| member.modified).collect();
    assert!(transactions.len() <= 20, "{} transactions", transactions.len());
    let told = harness.store.list(&key::events()).await.expect("lists").items;
    assert_eq!(told.iter().filter(|event| event.value.kind == "peer.updated").count(), 1_000);
}

#[tokio::test]
async fn an_old_status_of_a_machine_that_sleeps_acknowledges_nothing() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let network: NetworkId = "prod".parse().expect("an id");
    let asleep = enrolled(&harness.store, "prod", "asleep").await;
    connected(&harness.store, &asleep).await; // its stream is not yet known to be dead
    for (command, old) in [("COMMAND_UP", PeerState::Tunneling), ("COMMAND_DOWN", PeerState::Released)] {
        report(&harness.store, &network, &asleep, old, 1).await;
        let answer = harness.post("/api/v1/networks/prod/control", json!({"command": command, "timeout": "1s"})).await;
        let result = &answer.body["results"][0];
        assert_ne!(result["outcome"], "acknowledged", "{command}: {answer:?}");
        let detail = result["detail"].as_str().expect("text");
        assert!(detail.contains("does not answer; the wish is stored and takes effect when it returns"), "{detail}");
    }
}

#[tokio::test]
async fn a_network_with_peers_is_deleted_only_by_force_and_then_as_a_whole() {
    let harness = with_network("prod", "10.0.0.0/16").await;
    for number in 0..45 {
        enrolled(&harness.store, "prod", &format!("vm-{number}")).await;
    }
    let _controller = controller(&harness.store);
    let plain = json!({"name": "laptop", "publicKey": KEY});
    assert_eq!(harness.post("/api/v1/networks/prod/plain-peers", plain).await.status, StatusCode::OK);
    assert_eq!(harness.post("/api/v1/tokens", json!({"networkId": "prod"})).await.status, StatusCode::OK);
    let refused = harness.rest(Method::DELETE, "/api/v1/networks/prod", None).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    assert!(refused.body["detail"].as_str().expect("a detail").contains("46 peers"), "{refused:?}");
    let deleted = harness.rest(Method::DELETE, "/api/v1/networks/prod?force=true", None).await;
    assert_eq!(deleted.body["removedPeers"], 46, "{deleted:?}");
    assert!(
        harness.store.list(&key::tokens()).await.expect("lists").items.is_empty(),
        "a namesake must not admit them"
    );
    assert_eq!(harness.store.list(&key::hosts()).await.expect("lists").items.len(), 45, "hosts stay, plain ones go");
    assert!(harness.store.list(&key::all_memberships()).await.expect("lists").items.is_empty());
    assert!(harness.store.list(&key::public_keys()).await.expect("lists").items.is_empty());
}

#[tokio::test]
async fn nothing_of_a_network_whose_deletion_was_cut_short_comes_to_life_in_its_namesake() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    add_network(&harness, "prod-2", "10.2.0.0/24").await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    enrolled(&harness.store, "prod-2", "vm-2").await;
    for network in ["prod", "prod-2"] {
        assert_eq!(harness.post("/api/v1/tokens", json!({"networkId": network})).await.status, StatusCode::OK);
    }
    let network = key::network(&"prod".parse().expect("an id"));
    harness.store.transaction().delete(&network).commit().await.expect("deletes");

    add_network(&harness, "prod", "10.0.0.0/24").await;
    assert_eq!(harness.get("/api/v1/networks/prod/peers").await.body["peers"], json!([]));
    assert_eq!(harness.get("/api/v1/tokens?networkId=prod").await.body["tokens"], json!([]));
    assert_eq!(harness.get(&format!("/api/v1/hosts/{host}")).await.body["networkIds"], json!([]), "the host stays");
    assert_eq!(harness.get("/api/v1/networks/prod-2").await.body["peerCount"], 1);
    assert_eq!(harness.get("/api/v1/tokens").await.body["tokens"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_space_is_kept_from_stranding_peers_and_from_the_routes_of_hosts() {
    let harness = with_network("prod", "10.0.0.0/16").await;
    let _controller = controller(&harness.store);
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let path = format!("/api/v1/networks/prod/peers/{host}");
    crate::harness::eventually("the peer has an address", async || harness.get(&path).await.body["ipv4Address"] != "")
        .await;
    for (space, right) in [("10.0.128.0/17", "vm-1"), ("10.0.0.0/12", "10.9.0.0/16")] {
        let refused =
            harness.rest(Method::PATCH, "/api/v1/networks/prod", Some(json!({"ipv4AddressSpace": space}))).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!("ipv4AddressSpace")), "{refused:?}");
        assert!(refused.body["detail"].as_str().expect("a detail").contains(right), "{space}: {refused:?}");
    }
    let advice = harness.post("/api/v1/address-spaces/recommend", json!({"hosts": 20, "limit": 3})).await;
    let proposals = advice.body["addressSpaces"].as_array().expect("a list");
    assert_eq!(proposals.len(), 3, "{advice:?}");
    let all = harness.post("/api/v1/address-spaces/recommend", json!({"avoid": ["10.0.0.0/8", "abc"]})).await;
    assert_eq!(all.body["field"], "avoid[1]", "{all:?}");
}

#[tokio::test]
async fn many_hosts_are_located_at_once_each_with_its_own_result() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let one = enrolled(&harness.store, "prod", "vm-1").await;
    let at = |location: Value, name: Value| {
        let mut entry = name;
        entry["location"] = location;
        entry
    };
    let aws = json!({"provider": "AWS", "region": "us-eest-1", "vpc": "vpc-1"});
    let entries = json!({"entries": [
        at(aws.clone(), json!({"hostId": one.to_string()})),
        at(aws.clone(), json!({"instanceId": "i-none"})),
        at(json!({"zone": "use1-az1"}), json!({"address": "203.0.113.7"})),
        at(aws, json!({})),
        json!({"hostId": one.to_string(), "clear": ["region"]}),
        json!({"hostId": one.to_string(), "clear": ["moon"]}),
    ]});
    let answer = harness.post("/api/v1/host-locations", entries).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let result =
        |number: usize, field: &str| answer.body["results"][number][field].as_str().expect("a text").to_owned();
    assert_eq!([result(0, "hostId"), result(0, "error")], [one.to_string(), String::new()]);
    assert!(result(0, "warning").contains("us-eest-1"), "{answer:?}");
    assert!(result(1, "error").starts_with("entries[1].instance_id: fits no host"), "{answer:?}");
    assert_eq!([result(2, "hostId"), result(2, "error")], [one.to_string(), String::new()]);
    assert!(result(3, "error").starts_with("entries[3].host_id: is empty"), "{answer:?}");
    assert_eq!(result(4, "error"), "");
    assert!(result(5, "error").starts_with("entries[5].clear[0]: is \"moon\""), "{answer:?}");
    let host = harness.get(&format!("/api/v1/hosts/{one}")).await.body;
    for (field, value) in [("provider", "aws"), ("vpc", "vpc-1"), ("zone", "use1-az1")] {
        assert_eq!(host["location"][field], json!({"value": value, "source": "injected"}), "{host}");
    }
    assert_eq!(host["location"]["region"]["value"].as_str().unwrap_or_default(), "", "taken back: {host}");
    let reader = harness.key("viewer").await;
    let refused = harness.rest_as(Some(&reader), Method::POST, "/api/v1/host-locations", Some(json!({}))).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
}

#[tokio::test]
async fn a_host_is_shown_located_and_removed_with_all_its_memberships() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let path = format!("/api/v1/hosts/{host}");
    let location = json!({"provider": "AWS", "region": "ap-northeast-2"});
    let located = harness.rest(Method::PUT, &format!("{path}/location"), Some(location)).await;
    assert_eq!(located.body["location"]["provider"], json!({"value": "aws", "source": "injected"}), "{located:?}");
    let located = harness.rest(Method::PUT, &format!("{path}/location"), Some(json!({"zone": "az1"}))).await;
    assert_eq!(located.body["location"]["region"]["value"], "ap-northeast-2", "what is empty stays");
    let vpc = json!({"vpc": "vpc-1"});
    for (field, problem) in [("rack", "clear[0]"), ("vpc", "said as well")] {
        let refused = harness.rest(Method::PUT, &format!("{path}/location?clear={field}"), Some(vpc.clone())).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
        assert!(refused.body.to_string().contains(problem), "{refused:?}");
    }
    let taken_back = format!("{path}/location?clear=region&clear=zone");
    let located = harness.rest(Method::PUT, &taken_back, Some(vpc)).await;
    let value = |field: &str| located.body["location"][field]["value"].as_str().unwrap_or_default().to_owned();
    assert_eq!(["provider", "region", "zone", "vpc"].map(value), ["aws", "", "", "vpc-1"], "{located:?}");
    assert_eq!(located.body["networkIds"], json!(["prod"]));
    assert_eq!(harness.get("/api/v1/hosts").await.body["hosts"], json!([located.body]));

    assert_eq!(harness.rest(Method::DELETE, &path, None).await.status, StatusCode::OK);
    assert_eq!(harness.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(harness.get("/api/v1/networks/prod/peers").await.body["peers"], json!([]));
}

#[tokio::test]
async fn explanations_find_peers_by_name_and_say_what_they_rest_on() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let one = enrolled(&harness.store, "prod", "vm-1").await;
    enrolled(&harness.store, "prod", "vm-2").await;
    crate::harness::eventually("the replica has seen both", async || {
        harness.get("/api/v1/networks/prod/paths/vm-1/vm-2").await.status == StatusCode::OK
    })
    .await;
    let explained = harness.get("/api/v1/networks/prod/paths/vm-1/vm-2").await;
    assert_eq!(explained.body["source"], one.as_str());
    assert_eq!(explained.body["candidates"][0]["endpoint"], "203.0.113.7:8055");
    let summary = explained.body["summary"].as_str().expect("a summary");
    assert!(summary.contains("not connected"), "{summary}");
    assert_eq!(harness.get("/api/v1/networks/prod/paths/vm-1/vm-1").await.body["field"], "destination");
    assert_eq!(harness.get("/api/v1/networks/prod/paths/vm-1/vm-9").await.status, StatusCode::NOT_FOUND);
    let paths = harness.get("/api/v1/networks/prod/paths").await;
    assert_eq!(paths.body["unreachable"].as_array().map(Vec::len), Some(2), "{paths:?}");
    let measured = "/api/v1/networks/prod/path-measurements";
    for (role, status) in [("viewer", StatusCode::FORBIDDEN), ("operator", StatusCode::OK)] {
        let key = harness.key(role).await;
        let looked = harness.rest_as(Some(&key), Method::GET, "/api/v1/networks/prod/paths", None).await;
        assert_eq!(looked.status, StatusCode::OK, "{role}: {looked:?}");
        let answer = harness.rest_as(Some(&key), Method::POST, measured, Some(json!({}))).await;
        assert_eq!(answer.status, status, "{role}: {answer:?}");
    }
    enrolled(&harness.store, "prod", "vm-2").await;
    let ambiguous = harness.get("/api/v1/networks/prod/paths/vm-1/vm-2").await;
    assert_eq!(ambiguous.body["field"], "destination", "{ambiguous:?}");
}

#[tokio::test]
async fn a_peer_whose_record_cannot_be_read_is_shown_as_failed_and_keeps_nobody_from_the_others() {
    let harness = with_network("prod", "10.0.0.0/24").await;
    let _controller = controller(&harness.store);
    let mut hosts = Vec::new();
    for name in ["vm-1", "vm-2", "vm-3"] {
        hosts.push(enrolled(&harness.store, "prod", name).await);
    }
    let network: NetworkId = "prod".parse().expect("an id");
    let store = &harness.store;
    let record = key::membership(&network, &hosts[0]);
    let membership = store.get(&record).await.expect("reads").expect("is there").value;
    // No such key can be read.
    let damaged = Membership { public_key: PublicKey([0; 32]), ..membership };
    store.put(&record, &damaged).await.expect("writes");

    let listed = harness.get("/api/v1/networks/prod/peers").await.body;
    let peers = listed["peers"].as_array().expect("a list");
    assert_eq!(peers.len(), 3, "{listed}");
    let peer = peers.iter().find(|peer| peer["hostId"] == hosts[0].as_str()).expect("is shown");
    assert_eq!((&peer["state"], &peer["hostName"]), (&json!("failed"), &json!("vm-1")), "{peer}");
    let reason = peer["stateReason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("{} cannot be read", record.path())), "{reason}");
    let networks = harness.get("/api/v1/networks").await.body;
    assert_eq!(networks["networks"][0]["peerCount"], 3, "{networks}");
    assert_eq!(harness.get("/api/v1/networks/prod").await.body["peerCount"], 3);
    let known = harness.get("/api/v1/hosts").await.body;
    let known = known["hosts"].as_array().expect("a list");
    assert!(known.iter().all(|host| host["networkIds"] == json!(["prod"])), "{known:?}");
    let shown = harness.get("/v1/cladnet/prod/peer").await.body;
    let states = shown["peers"].as_array().expect("a list").iter().filter(|peer| peer["state"] == "failed");
    assert_eq!(states.count(), 1, "{shown}");

    let steered = harness.post("/api/v1/networks/prod/control", json!({"command": "COMMAND_DOWN"})).await;
    let outcomes: BTreeSet<&str> =
        steered.body["results"].as_array().expect("a list").iter().filter_map(|one| one["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["failed", "offline"].into(), "{steered:?}");
    let tested = harness.post("/api/v1/networks/prod/connectivity-tests", json!({"deadline": "1s"})).await;
    let missing: Vec<&str> =
        tested.body["missing"].as_array().expect("a list").iter().filter_map(|one| one["detail"].as_str()).collect();
    assert_eq!(missing.iter().filter(|detail| detail.contains("cannot be read")).count(), 1, "{tested:?}");
    let named = harness.post("/api/v1/networks/prod/connectivity-tests", json!({"hosts": [hosts[0].as_str()]})).await;
    assert_eq!(named.status, StatusCode::INTERNAL_SERVER_ERROR, "{named:?}");
    assert!(named.body["detail"].as_str().expect("a detail").contains("cannot be read"), "{named:?}");
}
