//! Deployments over REST and gRPC: what is refused, what is kept where, and what a provisioner's progress looks like from
//! outside. The provisioner itself is a hand that writes its records.

use std::time::Duration;

use cladnet_model::{
    Deployment, DeploymentHost, DeploymentId, DeploymentProgress, MachineName,
    deployment::{
        DeploymentClaim, DeploymentFailure, DeploymentState, FailureReason, Fingerprint, PinnedHostKey, Transcript,
    },
};
use cladnet_proto::cladnet::v1::{
    ListKeysRequest, WatchDeploymentRequest, deployment_service_client::DeploymentServiceClient,
    key_service_client::KeyServiceClient, system_service_client::SystemServiceClient,
};
use cladnet_service::{Config, Server};
use cladnet_store::{EmbeddedOptions, SealingKey, Store, key};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    cast::enrolled,
    harness::{Answer, Harness, bearing, eventually, free_ports},
};

const KEY: &str = include_str!("../../../model/src/deployment/private_key/openssh");
const ENCRYPTED: &str = include_str!("../../../model/src/deployment/private_key/openssh_encrypted");
const PUBLIC: &str = include_str!("../../../model/src/deployment/private_key/openssh.pub");

const DEPLOYMENTS: &str = "/api/v1/networks/prod/deployments";

async fn with_network() -> Harness {
    with_network_as(free_ports()).await
}

async fn with_network_as(config: Config) -> Harness {
    let harness = Harness::start_as(config).await;
    let body = json!({"networkId": "prod", "ipv4AddressSpace": "10.9.0.0/24"});
    assert_eq!(harness.post("/api/v1/networks", body).await.status, StatusCode::OK);
    harness
}

fn machine(name: &str, address: &str) -> Value {
    json!({"name": name, "address": address, "user": "debian", "privateKey": KEY})
}

async fn deploy(harness: &Harness, hosts: Value) -> Answer {
    harness.post(DEPLOYMENTS, json!({"hosts": hosts})).await
}

async fn deployed(harness: &Harness, hosts: Value) -> (DeploymentId, Value) {
    let made = deploy(harness, hosts).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    (made.body["deploymentId"].as_str().expect("an id").parse().expect("an id"), made.body)
}

/// What the provisioner says of a machine.
async fn tell(store: &Store, id: &DeploymentId, name: &str, progress: DeploymentProgress) {
    store.put(&key::deployment_progress(id, &named(name)), &progress).await.expect("writes");
}

async fn reach(store: &Store, id: &DeploymentId, name: &str, state: DeploymentState) {
    tell(store, id, name, DeploymentProgress { state, ..DeploymentProgress::default() }).await;
}

fn named(name: &str) -> MachineName {
    name.parse().expect("a name")
}

fn detail(answer: &Answer) -> &str {
    answer.body["detail"].as_str().expect("a detail")
}

#[tokio::test]
async fn a_deployment_is_made_with_its_keys_sealed_and_shown_without_them() {
    let harness = with_network().await;
    let mut inner = machine("db-1", "10.1.0.5");
    inner["bastion"] = json!("edge");
    inner["labels"] = json!({"tier": "db"});
    inner["overlayAddress"] = json!("10.9.0.20");
    inner["location"] = json!({"provider": "AWS", "region": "ap-northeast-2"});
    let (id, made) = deployed(&harness, json!([machine("edge", "Edge.example.org"), inner])).await;
    assert_eq!((&made["state"], &made["total"], &made["claimed"]), (&json!("running"), &json!(2), &json!(false)));
    assert_eq!((&made["action"], &made["concurrency"]), (&json!("install"), &json!(10)));
    let names: Vec<_> = made["hosts"].as_array().expect("a list").iter().map(|host| &host["name"]).collect();
    assert_eq!(names, ["edge", "db-1"], "in the order of the request");
    assert_eq!(made["hosts"][0]["address"], "edge.example.org");
    assert_eq!(made["hosts"][1]["state"], "waiting");

    let kept = harness.store.get(&key::deployment_host(&id, &named("db-1"))).await.expect("reads").expect("is there");
    let DeploymentHost { bastion, labels, overlay_address, location, .. } = kept.value;
    assert_eq!((bastion, labels["tier"].as_str()), (Some(named("edge")), "db"));
    assert_eq!(overlay_address.map(|address| address.to_string()).as_deref(), Some("10.9.0.20"));
    assert_eq!(location.provider.map(|provider| provider.value).as_deref(), Some("aws"));
    let credential = key::deployment_credential(&id, &named("db-1"));
    let opened = harness.store.get_sealed(&credential).await.expect("opens").expect("is there");
    assert_eq!(opened.as_slice(), KEY.trim().as_bytes());
    let sealed = harness.store.get(&credential).await.expect("reads").expect("is there").value;
    let secret = KEY.lines().nth(2).expect("a line");
    assert!(!format!("{sealed:?}").contains(secret));

    for path in [format!("/api/v1/deployments/{id}"), "/api/v1/deployments".to_owned(), "/api/v1/events".to_owned()] {
        let shown = harness.get(&path).await;
        assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
        assert!(!shown.body.to_string().contains(secret), "{path} shows a key");
    }
    let events = harness.get("/api/v1/events?networkId=prod").await;
    assert_eq!(events.body["events"][0]["kind"], "deployment.created");
}

#[tokio::test]
async fn a_key_of_deployments_seals_what_the_services_own_does_not_open() {
    let own = SealingKey::generate();
    let harness = with_network_as(Config { deployment_key: Some(own.clone()), ..free_ports() }).await;
    let (id, _) = deployed(&harness, json!([machine("db-1", "10.1.0.5")])).await;
    let credential = key::deployment_credential(&id, &named("db-1"));
    assert!(harness.store.get_sealed(&credential).await.is_err(), "it is another key");
    let provisioner = harness.store.sealing_with(own);
    let opened = provisioner.get_sealed(&credential).await.expect("opens").expect("is there");
    assert_eq!(opened.as_slice(), KEY.trim().as_bytes());
}

#[tokio::test]
async fn every_wrong_machine_is_told_with_its_path_and_nothing_is_kept() {
    let harness = with_network().await;
    let with = |field: &str, value: Value| {
        let mut wrong = machine("a", "192.0.2.1");
        wrong[field] = value;
        json!([machine("ok", "192.0.2.2"), wrong])
    };
    for (field, value, right) in [
        ("name", json!("A"), "[a-z0-9-]"),
        ("name", json!("ok"), "hosts[0]"),
        ("address", json!("169.254.169.254"), "link-local"),
        ("address", json!("192.0.2.2"), "hosts[0]"),
        ("port", json!(65_536), "65535"),
        ("user", json!("a b"), "user"),
        ("privateKey", json!(""), "missing"),
        ("privateKey", json!(ENCRYPTED), "passphrase"),
        ("privateKey", json!(PUBLIC), "public key"),
        ("hostKey", json!("ssh-ed25519 AAAA"), "ssh_host_"),
        ("bastion", json!("nobody"), "no machine of this list"),
        ("overlayAddress", json!("10.8.0.1"), "10.9.0.0/24"),
    ] {
        let refused = deploy(&harness, with(field, value.clone())).await;
        let path = format!("hosts[1].{field}");
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(path)), "{value}: {refused:?}");
        assert!(detail(&refused).contains(right), "{refused:?}");
    }
    let many: Vec<Value> = (0..1_000).map(|_| json!({"name": "X", "privateKey": "garbage"})).collect();
    let refused = deploy(&harness, json!(many)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(detail(&refused).contains("more faults") && !detail(&refused).contains("garbage"), "{refused:?}");
    assert_eq!(deploy(&harness, json!([])).await.body["field"], "hosts");
    let elsewhere = json!({"hosts": [machine("a", "192.0.2.1")]});
    let nowhere = harness.post("/api/v1/networks/nowhere/deployments", elsewhere).await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND, "{nowhere:?}");
    assert!(harness.store.list(&key::all_deployment_hosts()).await.expect("lists").items.is_empty());
}

#[tokio::test]
async fn a_thousand_machines_with_long_keys_fit_into_one_request() {
    let harness = with_network().await;
    let long = include_str!("../../../model/src/deployment/private_key/pkcs1.pem");
    let hosts: Vec<Value> = (0..1_000)
        .map(|n| json!({"name": format!("vm-{n}"), "address": format!("10.0.{}.{}", n / 250, n % 250 + 1), "user": "u", "privateKey": long}))
        .collect();
    let (id, made) = deployed(&harness, json!(hosts)).await;
    assert_eq!((&made["total"], &made["hosts"][999]["name"]), (&json!(1000), &json!("vm-999")));
    let keys = harness.store.list(&key::deployment_credentials(&id)).await.expect("lists");
    assert_eq!(keys.items.len(), 1000);
}

#[tokio::test]
async fn a_machine_that_another_deployment_works_on_is_refused_until_that_one_is_over() {
    let harness = with_network().await;
    let (first, _) = deployed(&harness, json!([machine("a", "192.0.2.1"), machine("b", "192.0.2.2")])).await;
    let again = json!([machine("other", "::ffff:192.0.2.2")]);
    let refused = deploy(&harness, again.clone()).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    assert!(detail(&refused).contains(first.as_str()) && detail(&refused).contains("machine b"), "{refused:?}");
    deployed(&harness, json!([machine("c", "192.0.2.3")])).await;

    reach(&harness.store, &first, "b", DeploymentState::Failed).await;
    let (second, _) = deployed(&harness, again.clone()).await;
    let path = format!("/api/v1/deployments/{second}/cancel");
    let claim = key::deployment_claim(&second);
    harness.store.put(&claim, &DeploymentClaim { replica: "p".to_owned() }).await.expect("writes");
    assert_eq!(harness.post(&path, json!({})).await.status, StatusCode::OK);
    assert_eq!(deploy(&harness, again.clone()).await.status, StatusCode::CONFLICT, "it ends its current step");
    harness.store.transaction().delete(&claim).commit().await.expect("deletes");
    deployed(&harness, again).await;
}

#[tokio::test]
async fn a_machine_that_a_deployment_of_another_network_works_on_is_refused() {
    let harness = with_network().await;
    let body = json!({"networkId": "test", "ipv4AddressSpace": "10.10.0.0/24"});
    assert_eq!(harness.post("/api/v1/networks", body).await.status, StatusCode::OK);
    let (first, _) = deployed(&harness, json!([machine("a", "192.0.2.1")])).await;
    let elsewhere = async || {
        let body = json!({"hosts": [machine("b", "192.0.2.1")], "action": "uninstall"});
        harness.post("/api/v1/networks/test/deployments", body).await
    };
    let refused = elsewhere().await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    assert!(detail(&refused).contains(first.as_str()), "{refused:?}");
    reach(&harness.store, &first, "a", DeploymentState::Done).await;
    assert_eq!(elsewhere().await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_address_that_somebody_has_is_refused_unless_it_is_the_machine_itself() {
    let harness = with_network().await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let path = format!("/api/v1/networks/prod/peers/{host}");
    let wish = json!({"ipv4Address": "10.9.0.20"});
    assert_eq!(harness.rest(Method::PATCH, &path, Some(wish)).await.status, StatusCode::OK);
    let asking = |address: &str| {
        let mut asking = machine("a", address);
        asking["overlayAddress"] = json!("10.9.0.20");
        json!([asking])
    };
    let refused = deploy(&harness, asking("192.0.2.1")).await;
    assert_eq!(refused.body["field"], "hosts[0].overlayAddress", "{refused:?}");
    assert!(detail(&refused).contains("vm-1"), "{refused:?}");
    deployed(&harness, asking("203.0.113.7")).await;
}

#[tokio::test]
async fn progress_is_shown_and_watched_until_the_end() {
    let harness = with_network().await;
    let (id, _) = deployed(&harness, json!([machine("a", "192.0.2.1"), machine("b", "192.0.2.2")])).await;
    let mut client = DeploymentServiceClient::new(harness.channel().await);
    let ask = bearing(&harness.admin_key, WatchDeploymentRequest { deployment_id: id.to_string() });
    let mut watch = client.watch_deployment(ask).await.expect("a stream").into_inner();
    let first = watch.message().await.expect("goes on").expect("a message");
    assert_eq!((first.state.as_str(), first.hosts[0].state.as_str()), ("running", "waiting"));

    reach(&harness.store, &id, "a", DeploymentState::Installing).await;
    let next = watch.message().await.expect("goes on").expect("a message");
    assert_eq!(next.hosts[0].state, "installing");
    reach(&harness.store, &id, "a", DeploymentState::Done).await;
    let failure = DeploymentFailure {
        reason: FailureReason::NoTun,
        detail: "load the tun module".to_owned(),
        during: DeploymentState::Inspecting,
    };
    let failed =
        DeploymentProgress { state: DeploymentState::Failed, failure: Some(failure), ..DeploymentProgress::default() };
    tell(&harness.store, &id, "b", failed).await;
    let mut last = next;
    while let Some(message) = watch.message().await.expect("goes on") {
        last = message;
    }
    assert_eq!((last.state.as_str(), last.done, last.failed), ("finished", 1, 1));
    let failed = &last.hosts[1];
    assert_eq!((failed.failure.as_str(), failed.failed_during.as_str()), ("no-tun", "inspecting"));

    eventually("the end is told", async || {
        harness.get("/api/v1/events").await.body["events"][0]["kind"] == "deployment.finished"
    })
    .await;
    let path = format!("/api/v1/deployments/{id}/watch");
    let over = harness.get(&path).await;
    let text = over.body.as_str().expect("server-sent events");
    assert!(text.starts_with("data: {") && text.matches("data: ").count() == 1, "{text}");
    let listed = harness.get("/api/v1/deployments?networkId=prod").await;
    assert_eq!(
        (&listed.body["deployments"][0]["failed"], &listed.body["deployments"][0]["hosts"]),
        (&json!(1), &json!([]))
    );
}

#[tokio::test]
async fn a_watch_ends_with_the_key_that_opened_it() {
    let harness = with_network().await;
    let (id, _) = deployed(&harness, json!([machine("a", "192.0.2.1")])).await;
    let viewer = harness.key("viewer").await;
    let mut client = DeploymentServiceClient::new(harness.channel().await);
    let ask = bearing(&viewer, WatchDeploymentRequest { deployment_id: id.to_string() });
    let mut watch = client.watch_deployment(ask).await.expect("a stream").into_inner();
    watch.message().await.expect("goes on").expect("a message");
    let info = harness.rest_as(Some(&viewer), Method::GET, "/api/v1/info", None).await.body;
    let path = format!("/api/v1/keys/{}", info["keyId"].as_str().expect("an id"));
    assert_eq!(harness.rest(Method::DELETE, &path, None).await.status, StatusCode::OK);
    let end = tokio::time::timeout(Duration::from_secs(30), watch.message()).await.expect("ends");
    assert_eq!(end.expect_err("with a word").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn deployments_are_listed_newest_first_page_by_page() {
    let harness = with_network().await;
    let (one, _) = deployed(&harness, json!([machine("a", "192.0.2.1")])).await;
    let (two, _) = deployed(&harness, json!([machine("a", "192.0.2.2")])).await;
    let page = harness.get("/api/v1/deployments?pageSize=1").await.body;
    assert_eq!(page["deployments"][0]["deploymentId"], two.as_str());
    let next = page["nextPageToken"].as_str().expect("a token");
    let page = harness.get(&format!("/api/v1/deployments?pageSize=1&pageToken={next}")).await.body;
    assert_eq!(page["deployments"][0]["deploymentId"], one.as_str());
    assert_eq!(harness.get("/api/v1/deployments?networkId=other").await.body["deployments"], json!([]));

    let head = harness.store.get(&key::deployment(&one)).await.expect("reads").expect("is there").value;
    let over = Deployment { finished_at: Some(Timestamp::UNIX_EPOCH), ..head };
    harness.store.put(&key::deployment(&one), &over).await.expect("writes");
    let running = harness.get("/api/v1/deployments?running=true").await.body;
    let ids: Vec<_> =
        running["deployments"].as_array().expect("a list").iter().map(|one| &one["deploymentId"]).collect();
    assert_eq!(ids, [two.as_str()], "what is over is left out");
}

#[tokio::test]
async fn only_the_key_that_is_offered_can_be_confirmed() {
    let harness = with_network().await;
    let (id, _) = deployed(&harness, json!([machine("a", "192.0.2.1")])).await;
    let (offered, other) = (Fingerprint::of(b"offered"), Fingerprint::of(b"other"));
    let path = format!("/api/v1/deployments/{id}/hosts/a/confirm");
    let confirm = async |fingerprint: &str| harness.post(&path, json!({"fingerprint": fingerprint})).await;
    assert_eq!(confirm(&offered.to_string()).await.status, StatusCode::CONFLICT, "nothing is offered yet");

    let state = DeploymentState::ConfirmHostKey;
    let asking = DeploymentProgress { state, offered_key: Some(offered), ..DeploymentProgress::default() };
    assert_eq!(harness.get("/api/v1/deployments").await.body["deployments"][0]["unconfirmed"], 0);
    tell(&harness.store, &id, "a", asking).await;
    let shown = harness.get(&format!("/api/v1/deployments/{id}")).await;
    assert_eq!(shown.body["hosts"][0]["offeredFingerprint"], offered.to_string());
    assert_eq!(harness.get("/api/v1/deployments").await.body["deployments"][0]["unconfirmed"], 1);
    let refused = confirm(&other.to_string()).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{refused:?}");
    assert!(detail(&refused).contains(&offered.to_string()), "{refused:?}");
    assert_eq!(confirm("MD5:00").await.body["field"], "fingerprint");
    let kept = async || {
        let host = harness.store.get(&key::deployment_host(&id, &named("a"))).await.expect("reads").expect("is there");
        host.value.confirmed
    };
    assert_eq!(kept().await, None);

    let viewer = harness.key("viewer").await;
    let body = json!({"fingerprint": offered.to_string()});
    let denied = harness.rest_as(Some(&viewer), Method::POST, &path, Some(body)).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    assert_eq!(confirm(&offered.to_string()).await.status, StatusCode::OK);
    assert_eq!(kept().await, Some(offered));
    let host = harness.store.get(&key::deployment_host(&id, &named("a"))).await.expect("reads").expect("is there");
    let info = harness.get("/api/v1/info").await.body;
    assert_eq!(host.value.confirmed_by.expect("somebody").as_str(), info["keyId"], "whose word it was is kept");
    assert_eq!(confirm(&offered.to_string()).await.status, StatusCode::OK, "twice does no harm");
    let path = format!("/api/v1/deployments/{id}/hosts/b/confirm");
    let unknown = harness.post(&path, json!({"fingerprint": offered.to_string()})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_transcript_is_text_of_one_machine() {
    let harness = with_network().await;
    let (id, _) = deployed(&harness, json!([machine("a", "192.0.2.1")])).await;
    let path = format!("/api/v1/deployments/{id}/hosts/a/transcript");
    assert_eq!(harness.get(&path).await.body, json!({"text": ""}));
    let mut transcript = Transcript::default();
    transcript.push(Timestamp::UNIX_EPOCH, "connected");
    harness.store.put(&key::deployment_transcript(&id, &named("a")), &transcript).await.expect("writes");
    assert_eq!(harness.get(&path).await.body["text"], "1970-01-01T00:00:00Z connected\n");
    let nobody = harness.get(&format!("/api/v1/deployments/{id}/hosts/b/transcript")).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn cancelling_twice_is_telling_once_and_a_deleted_network_cancels() {
    let harness = with_network().await;
    let (one, _) = deployed(&harness, json!([machine("a", "192.0.2.1")])).await;
    let (two, _) = deployed(&harness, json!([machine("a", "192.0.2.2")])).await;
    let path = format!("/api/v1/deployments/{one}/cancel");
    let first = harness.post(&path, json!({})).await;
    let second = harness.post(&path, json!({})).await;
    assert_eq!(first.body["cancelledAt"], second.body["cancelledAt"], "{second:?}");
    assert!(first.body["cancelledAt"].is_string(), "{first:?}");
    let told = async || {
        let events = harness.get("/api/v1/events").await.body;
        let events = events["events"].as_array().expect("a list");
        events.iter().filter(|event| event["kind"] == "deployment.cancelled").count()
    };
    assert_eq!(told().await, 1);
    assert_eq!(harness.rest(Method::DELETE, "/api/v1/networks/prod", None).await.status, StatusCode::OK);
    let shown = harness.get(&format!("/api/v1/deployments/{two}")).await;
    assert!(shown.body["cancelledAt"].is_string(), "{shown:?}");
    assert_eq!(told().await, 2);
}

#[tokio::test]
async fn a_cancel_of_what_no_provisioner_is_at_ends_it_at_once() {
    let harness = with_network().await;
    let (id, _) = deployed(&harness, json!([machine("a", "192.0.2.1"), machine("b", "192.0.2.2")])).await;
    reach(&harness.store, &id, "a", DeploymentState::Done).await;
    let over = harness.post(&format!("/api/v1/deployments/{id}/cancel"), json!({})).await.body;
    assert_eq!((&over["state"], &over["done"]), (&json!("finished"), &json!(1)), "{over}");
    assert_eq!((&over["hosts"][0]["state"], &over["hosts"][1]["state"]), (&json!("done"), &json!("cancelled")));
    assert!(harness.store.list(&key::deployment_credentials(&id)).await.expect("lists").items.is_empty());
    let event = &harness.get("/api/v1/events").await.body["events"][0];
    assert_eq!(event["message"], format!("{id} finished: 1 done, 0 failed, 1 cancelled"));
    deployed(&harness, json!([machine("a", "192.0.2.2")])).await;
}

#[tokio::test]
async fn the_keys_that_a_deployment_kept_are_forgotten_when_somebody_says_so() {
    let harness = with_network().await;
    let body = json!({"hosts": [machine("a", "192.0.2.1")], "keepCredentials": true});
    let made = harness.post(DEPLOYMENTS, body).await.body;
    let id: DeploymentId = made["deploymentId"].as_str().expect("an id").parse().expect("an id");
    let kept = async || harness.store.list(&key::deployment_credentials(&id)).await.expect("lists").items.len();
    reach(&harness.store, &id, "a", DeploymentState::Done).await;
    eventually("the end is told", async || {
        harness.get("/api/v1/events").await.body["events"][0]["kind"] == "deployment.finished"
    })
    .await;
    assert_eq!(kept().await, 1, "it was asked to keep them");

    let path = format!("/api/v1/deployments/{id}/credentials");
    let viewer = harness.key("viewer").await;
    let denied = harness.rest_as(Some(&viewer), Method::DELETE, &path, None).await;
    assert_eq!((denied.status, kept().await), (StatusCode::FORBIDDEN, 1), "{denied:?}");
    let forgotten = harness.rest(Method::DELETE, &path, None).await;
    assert_eq!(
        (forgotten.status, &forgotten.body["keepCredentials"]),
        (StatusCode::OK, &json!(false)),
        "{forgotten:?}"
    );
    assert_eq!(kept().await, 0);
    let told = async || harness.get("/api/v1/events?networkId=prod").await.body["events"].clone();
    let first = told().await;
    assert_eq!(first[0]["kind"], "deployment.credentials-forgotten");
    assert_eq!(harness.rest(Method::DELETE, &path, None).await.status, StatusCode::OK, "twice does no harm");
    assert_eq!(told().await, first, "and is told once");
    let nobodys = "/api/v1/deployments/deployment-00000000-aaaaaaaaaaaaaaaa/credentials";
    assert_eq!(harness.rest(Method::DELETE, nobodys, None).await.status, StatusCode::NOT_FOUND);
    assert!(
        harness.get("/openapi.json").await.body["paths"]["/api/v1/deployments/{deployment_id}/credentials"].is_object()
    );
}

#[tokio::test]
async fn keys_that_are_still_needed_are_forgotten_at_the_end() {
    let harness = with_network().await;
    let body = json!({"hosts": [machine("a", "192.0.2.1")], "keepCredentials": true});
    let made = harness.post(DEPLOYMENTS, body).await.body;
    let id: DeploymentId = made["deploymentId"].as_str().expect("an id").parse().expect("an id");
    let kept = async || harness.store.list(&key::deployment_credentials(&id)).await.expect("lists").items.len();
    let path = format!("/api/v1/deployments/{id}/credentials");
    let promised = harness.rest(Method::DELETE, &path, None).await;
    assert_eq!((promised.status, &promised.body["keepCredentials"]), (StatusCode::OK, &json!(false)), "{promised:?}");
    assert_eq!(kept().await, 1, "the machine is not done with");
    reach(&harness.store, &id, "a", DeploymentState::Done).await;
    eventually("the key is forgotten", async || kept().await == 0).await;
}

#[tokio::test]
async fn the_keys_of_a_machine_are_forgotten_when_its_host_is_removed() {
    let harness = with_network().await;
    let hosts = json!([machine("a", "192.0.2.1"), machine("b", "192.0.2.2")]);
    let made = harness.post(DEPLOYMENTS, json!({"hosts": hosts, "keepCredentials": true})).await.body;
    let id: DeploymentId = made["deploymentId"].as_str().expect("an id").parse().expect("an id");
    let (gone, stays) =
        (enrolled(&harness.store, "prod", "vm-1").await, enrolled(&harness.store, "prod", "vm-2").await);
    for (name, host) in [("a", &gone), ("b", &stays)] {
        let host = Some(host.clone());
        let done = DeploymentProgress { state: DeploymentState::Done, host, ..DeploymentProgress::default() };
        tell(&harness.store, &id, name, done).await;
    }
    let kept = async |name: &str| {
        let credential = key::deployment_credential(&id, &named(name));
        harness.store.get(&credential).await.expect("reads").is_some()
    };
    let removed = harness.rest(Method::DELETE, &format!("/api/v1/hosts/{gone}"), None).await;
    assert_eq!(removed.status, StatusCode::OK, "{removed:?}");
    eventually("the key of the machine that is gone is forgotten", async || !kept("a").await).await;
    assert!(kept("b").await, "the other machine is there");
}

#[tokio::test]
async fn host_keys_are_listed_and_forgotten_in_any_spelling() {
    let harness = with_network().await;
    let pinned = PinnedHostKey {
        fingerprint: Fingerprint::of(b"key"),
        algorithm: "ssh-ed25519".to_owned(),
        pinned_at: Timestamp::UNIX_EPOCH,
        pinned_by: "key-1".to_owned(),
        host: None,
    };
    for place in ["192.0.2.1:22", "[2001:db8::1]:22", "vm.example.org:2222"] {
        harness.store.put(&key::host_key(place), &pinned).await.expect("writes");
    }
    let listed = harness.get("/api/v1/host-keys").await.body;
    assert_eq!(listed["hostKeys"][0]["address"], "192.0.2.1:22");
    assert_eq!(listed["hostKeys"][0]["fingerprint"], pinned.fingerprint.to_string());
    let forget =
        async |address: &str| harness.rest(Method::DELETE, &format!("/api/v1/host-keys/{address}"), None).await.status;
    assert_eq!(forget("[2001:DB8::0:1]:22").await, StatusCode::OK);
    assert_eq!(forget("%5B2001%3Adb8%3A%3A1%5D%3A22").await, StatusCode::NOT_FOUND, "it is gone");
    assert_eq!(forget("VM.example.org:2222").await, StatusCode::OK);
    assert_eq!(forget("192.0.2.1").await, StatusCode::UNPROCESSABLE_ENTITY);
    let left = harness.get("/api/v1/host-keys").await.body;
    assert_eq!(left["hostKeys"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn roles_may_what_they_should_and_the_document_names_the_routes() {
    let harness = with_network().await;
    let body = || Some(json!({"hosts": [machine("a", "192.0.2.1")]}));
    let viewer = harness.key("viewer").await;
    let denied = harness.rest_as(Some(&viewer), Method::POST, DEPLOYMENTS, body()).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let provisioner = harness.key("provisioner").await;
    let made = harness.rest_as(Some(&provisioner), Method::POST, DEPLOYMENTS, body()).await;
    assert_eq!(made.status, StatusCode::OK, "{made:?}");
    let read = harness.rest_as(Some(&viewer), Method::GET, "/api/v1/deployments", None).await;
    assert_eq!(read.status, StatusCode::OK);
    let document = harness.get("/openapi.json").await.body;
    for path in [
        "/api/v1/networks/{network_id}/deployments",
        "/api/v1/deployments",
        "/api/v1/deployments/{deployment_id}/watch",
        "/api/v1/deployments/{deployment_id}/hosts/{name}/confirm",
        "/api/v1/host-keys/{address}",
    ] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

#[tokio::test]
async fn a_location_that_a_job_injects_is_seen_by_callers_of_cb_network() {
    let harness = with_network().await;
    let host = enrolled(&harness.store, "prod", "vm-1").await;
    let provisioner = harness.key("provisioner").await;
    let path = format!("/api/v1/hosts/{host}/location");
    let location = json!({"provider": "AWS", "region": "ap-northeast-2", "zone": "apne2-az1", "vpc": "vpc-1"});
    let injected = harness.rest_as(Some(&provisioner), Method::PUT, &path, Some(location)).await;
    assert_eq!(injected.status, StatusCode::OK, "{injected:?}");
    let peer = harness.get(&format!("/v1/cladnet/prod/peer/{host}")).await;
    let details = &peer.body["details"];
    assert_eq!(details["providerName"], "aws", "{peer:?}");
    assert_eq!(details["regionId"], "ap-northeast-2", "{peer:?}");
}

#[tokio::test]
async fn a_provisioner_in_the_process_is_one_without_a_key_and_no_more_than_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
    let server = Server::bind(free_ports(), store.clone()).await.expect("a replica");
    let channel = server.provisioner_channel();
    let info = SystemServiceClient::new(channel.clone()).get_info(()).await.expect("an answer").into_inner();
    assert_eq!((info.role.as_str(), info.key_id.as_str()), ("provisioner", "provisioner"));
    let keys = KeyServiceClient::new(channel).list_keys(ListKeysRequest::default()).await;
    assert_eq!(keys.expect_err("may not").code(), Code::PermissionDenied);
    assert_eq!(store.list(&key::api_keys()).await.expect("lists").items.len(), 1, "the first one");
}
