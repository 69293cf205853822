//! Each provider's answers, question by question.

use axum::http::HeaderMap;
use serde_json::Value;

use super::*;
use crate::topology::Topology;

fn facts(vm: &str) -> Facts {
    let state = crate::state::State::plan("demo", &Topology::demo(), || "0123456789abcdef".repeat(2));
    let state = state.expect("the demo can be planned");
    let machine = &state.vms[vm];
    let vpc = match &machine.place {
        crate::state::Place::Vpc { vpc, .. } => vpc.clone(),
        crate::state::Place::Internet { .. } => panic!("{vm} is in no VPC"),
    };
    let address = machine.private_address().expect("it has one");
    Facts::of(&state, &vpc, address.into()).expect("the VM is known")
}

type Provide<'a> = &'a dyn Fn(&Question<'_>) -> Answer;

fn ask(provide: Provide<'_>, method: Method, target: &str, headers: &[(&'static str, &str)]) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().expect("a header"));
    }
    provide(&Question { method: &method, path, query, headers: &map })
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).expect("JSON")
}

#[test]
fn aws_wants_a_token_and_tells_the_place() {
    let (facts, tokens) = (facts("aws-1"), Tokens::default());
    let provide = |question: &Question<'_>| aws::answer(question, &facts, &tokens);
    let get = |path: &str, token: &str| ask(&provide, Method::GET, path, &[("x-aws-ec2-metadata-token", token)]);
    assert_eq!(ask(&provide, Method::GET, "/latest/meta-data/", &[]).status, StatusCode::UNAUTHORIZED);
    assert_eq!(get("/latest/meta-data/", "guess").status, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&provide, Method::PUT, "/latest/api/token", &[]).status, StatusCode::BAD_REQUEST);
    let lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", "21600")];
    let token = ask(&provide, Method::PUT, "/latest/api/token", &lifetime).body;
    let document = json(&get("/latest/dynamic/instance-identity/document", &token));
    assert_eq!(
        (&document["region"], &document["availabilityZone"]),
        (&"ap-northeast-2".into(), &"ap-northeast-2a".into())
    );
    assert_eq!((&document["privateIp"], &document["accountId"]), (&"10.0.1.10".into(), &"111122223333".into()));
    assert_eq!(get("/latest/meta-data/placement/availability-zone-id", &token).body, "apne2-az1");
    assert_eq!(get("/latest/meta-data/network/interfaces/macs/", &token).body, "02:cb:00:00:00:00/");
    let interface = "/latest/meta-data/network/interfaces/macs/02:cb:00:00:00:00";
    assert!(get(&format!("{interface}/vpc-id"), &token).body.starts_with("vpc-"));
    assert_eq!(get(&format!("{interface}/vpc-ipv4-cidr-block"), &token).body, "10.0.0.0/16");
    assert_eq!(get(&format!("{interface}/ipv6s"), &token).status, StatusCode::NOT_FOUND);
    let public = facts.public_address.expect("it has one").to_string();
    assert_eq!(get("/latest/meta-data/public-ipv4", &token).body, public);
}

#[test]
fn a_token_is_good_for_the_vm_that_asked_only() {
    let (mine, other, tokens) = (facts("aws-1"), facts("aws-2"), Tokens::default());
    let issue = |question: &Question<'_>| aws::answer(question, &mine, &tokens);
    let lifetime = [("x-aws-ec2-metadata-token-ttl-seconds", "60")];
    let token = ask(&issue, Method::PUT, "/latest/api/token", &lifetime).body;
    let foreign = |question: &Question<'_>| aws::answer(question, &other, &tokens);
    let answer = ask(&foreign, Method::GET, "/latest/meta-data/", &[("x-aws-ec2-metadata-token", &token)]);
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[test]
fn azure_wants_its_header_and_a_version() {
    let facts = facts("azure-2");
    let provide = |question: &Question<'_>| azure::answer(question, &facts);
    let get = |target: &str| ask(&provide, Method::GET, target, &[("metadata", "true")]);
    let without = ask(&provide, Method::GET, "/metadata/instance?api-version=2021-12-13", &[]);
    assert_eq!(without.status, StatusCode::BAD_REQUEST);
    assert!(json(&get("/metadata/instance"))["newest-versions"].is_array());
    assert_eq!(get("/metadata/instance?api-version=1999-01-01").status, StatusCode::BAD_REQUEST);
    let instance = json(&get("/metadata/instance?api-version=2021-12-13&format=json"));
    assert_eq!(instance["compute"]["location"], "koreacentral");
    assert_eq!(instance["compute"]["physicalZone"], "koreacentral-az2");
    assert_eq!(instance["compute"]["vmId"], "01234567-89ab-cdef-0123-456789abcdef");
    assert_eq!(instance["network"]["interface"][0]["ipv4"]["subnet"][0]["prefix"], "24");
    assert_eq!(instance["network"]["interface"][0]["ipv4"]["ipAddress"][0]["publicIpAddress"], "");
    let leaf = "/metadata/instance/network/interface/0/ipv4/ipAddress/0/privateIpAddress?api-version=2021-12-13";
    assert_eq!(get(&format!("{leaf}&format=text")).body, "10.2.1.10");
    assert_eq!(get(leaf).status, StatusCode::BAD_REQUEST);
    let balancer = json(&get("/metadata/loadbalancer?api-version=2020-10-01"));
    let public = facts.public_address.expect("it has one").to_string();
    assert_eq!(balancer["loadbalancer"]["publicIpAddresses"][0]["frontendIpAddress"], public);
}

#[test]
fn gcp_wants_its_header_and_sends_it() {
    let facts = facts("gcp-1");
    let provide = |question: &Question<'_>| gcp::answer(question, &facts);
    let get = |target: &str| ask(&provide, Method::GET, target, &[("metadata-flavor", "Google")]);
    let without = ask(&provide, Method::GET, "/computeMetadata/v1/instance/zone", &[]);
    assert_eq!(without.status, StatusCode::FORBIDDEN);
    assert!(without.headers.contains(&("metadata-flavor", "Google".into())));
    assert!(get("/computeMetadata/v1/instance/zone").body.ends_with("/zones/us-central1-a"));
    let external = "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip";
    assert_eq!(get(external).body, facts.public_address.expect("it has one").to_string());
    assert_eq!(get("/computeMetadata/v1/project/project-id").body, "cladnet-demo");
    assert!(get("/computeMetadata/v1/instance/").body.contains("network-interfaces/\n"));
    let instance = json(&get("/computeMetadata/v1/instance/?recursive=true"));
    assert_eq!(instance["networkInterfaces"][0]["ip"], "10.0.1.10");
    assert_eq!(instance["networkInterfaces"][0]["subnetmask"], "255.255.255.0");
    assert_eq!(get("/computeMetadata/v1/instance/nothing").status, StatusCode::NOT_FOUND);
}

#[test]
fn openstack_tells_documents_and_a_tree() {
    let facts = facts("aws-3");
    let provide = |question: &Question<'_>| openstack::answer(question, &facts);
    let get = |target: &str| ask(&provide, Method::GET, target, &[]);
    assert_eq!(json(&get("/openstack/latest/meta_data.json"))["availability_zone"], "ap-northeast-2c");
    let network = json(&get("/openstack/latest/network_data.json"));
    assert_eq!(network["networks"][0]["ip_address"], "10.0.3.10");
    assert_eq!(network["links"][0]["id"], network["networks"][0]["link"]);
    assert_eq!(get("/latest/meta-data/local-ipv4").body, "10.0.3.10");
    assert_eq!(get("/latest/api/token").status, StatusCode::NOT_FOUND);
    assert_eq!(get("/metadata/instance").status, StatusCode::NOT_FOUND);
}

#[test]
fn alibaba_takes_a_token_but_does_not_want_one() {
    let (facts, tokens) = (facts("aws-2"), Tokens::default());
    let provide = |question: &Question<'_>| alibaba::answer(question, &facts, &tokens);
    assert_eq!(ask(&provide, Method::GET, "/latest/meta-data/region-id", &[]).body, "ap-northeast-2");
    let bad = [("x-aliyun-ecs-metadata-token", "guess")];
    assert_eq!(ask(&provide, Method::GET, "/latest/meta-data/region-id", &bad).status, StatusCode::UNAUTHORIZED);
    let block = ask(&provide, Method::GET, "/latest/meta-data/vswitch-cidr-block", &[]).body;
    assert_eq!(block, "10.0.2.0/24");
}
