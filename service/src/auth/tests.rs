//! Every role at every RPC, out of the table and the descriptors: whoever adds an RPC is tested without adding a test.

use axum::Router;
use cladnet_model::{Action, ApiKeyText, KeyTerms, Role};
use cladnet_store::{EmbeddedOptions, Store};
use http::uri::PathAndQuery;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tonic::{Code, Status, client::Grpc};

use super::*;
use crate::{Config, Server, rest::codec::DynamicCodec, router};

struct Replica {
    service: Arc<Service>,
    router: Router,
    admin: ApiKeyText,
    _directory: tempfile::TempDir,
}

impl Replica {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
        let listen_addr = "127.0.0.1:0".parse().expect("an address");
        let config = Config { listen_addr, stun_addr: None, ..Config::default() };
        let server = Server::bind(config, store).await.expect("a replica");
        let admin = server.first_key().expect("a first start").clone();
        let service = server.service().clone();
        Self { router: router::full(&service, router::no_pages()), service, admin, _directory: directory }
    }

    async fn key(&self, role: Role) -> String {
        let terms = KeyTerms { name: role.to_string(), role, expires_at: None };
        let (_, text) = self.service.create_key(terms, "test").await.expect("a key");
        text.to_string()
    }

    /// Calls with an empty request; says how it ended.
    async fn call(&self, rpc: &MethodDescriptor, key: Option<&str>) -> Status {
        let mut request = tonic::Request::new(DynamicMessage::new(rpc.input()));
        if let Some(key) = key {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("is ASCII"));
        }
        let path = PathAndQuery::try_from(path_of(rpc)).expect("a path");
        let codec = DynamicCodec { output: rpc.output() };
        let mut client = Grpc::new(self.router.clone());
        client.ready().await.expect("is always ready");
        let ended = match rpc.is_server_streaming() {
            true => client.server_streaming(request, path, codec).await.map(drop),
            false => client.unary(request, path, codec).await.map(drop),
        };
        ended.err().unwrap_or_else(|| Status::new(Code::Ok, ""))
    }
}

fn path_of(rpc: &MethodDescriptor) -> String {
    format!("/{}/{}", rpc.parent_service().full_name(), rpc.name())
}

fn rpcs() -> Vec<MethodDescriptor> {
    router::descriptors().services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

fn roles() -> impl Iterator<Item = Role> {
    Role::WORDS.iter().map(|word| word.parse().expect("a role"))
}

#[tokio::test]
async fn every_role_may_call_what_the_table_says_and_nothing_else() {
    let replica = Replica::start().await;
    for role in roles() {
        let key = replica.key(role).await;
        for rpc in rpcs() {
            let status = replica.call(&rpc, Some(&key)).await;
            let path = path_of(&rpc);
            let refused = matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied);
            match access::of(&path).expect("is in the table").1 {
                Access::Open => assert!(!refused, "{role} at {path}: {status}"),
                // The token in the request decides, and an empty one is none.
                Access::Enrolment => assert_ne!(status.code(), Code::PermissionDenied, "{role} at {path}: {status}"),
                Access::Host => assert_eq!(status.code(), Code::Unauthenticated, "{role} at {path}: {status}"),
                Access::Key(action) if role.may(action) => assert!(!refused, "{role} at {path}: {status}"),
                Access::Key(_) => {
                    assert_eq!(status.code(), Code::PermissionDenied, "{role} at {path}: {status}");
                    assert!(status.message().contains("use one of role admin"), "{role} at {path}: {status}");
                }
            }
        }
    }
}

#[tokio::test]
async fn nobody_calls_anything_that_needs_a_key_without_one() {
    let replica = Replica::start().await;
    let admin = replica.admin.to_string();
    let wrong_secret = ApiKeyText::new([9; 10], cladnet_model::Secret::new([9; 32])).to_string();
    for rpc in rpcs() {
        let path = path_of(&rpc);
        if !matches!(access::of(&path), Some((_, Access::Key(_)))) {
            continue;
        }
        for key in [None, Some(""), Some("nonsense"), Some(wrong_secret.as_str()), Some(&admin[..admin.len() - 1])] {
            let status = replica.call(&rpc, key).await;
            assert_eq!(status.code(), Code::Unauthenticated, "{key:?} at {path}: {status}");
        }
    }
}

#[tokio::test]
async fn a_revoked_key_and_an_expired_one_open_nothing() {
    let replica = Replica::start().await;
    let rpc = rpcs().into_iter().find(|rpc| rpc.name() == "ListNetworks").expect("is there");
    let expired = KeyTerms {
        name: "old".to_owned(),
        role: Role::Admin,
        expires_at: Some(replica.service.clock.now() - jiff::SignedDuration::from_secs(1)),
    };
    let (_, text) = replica.service.create_key(expired, "test").await.expect("a key");
    assert_eq!(replica.call(&rpc, Some(&text.to_string())).await.code(), Code::Unauthenticated);

    let key = replica.key(Role::Viewer).await;
    assert_eq!(replica.call(&rpc, Some(&key)).await.code(), Code::Ok);
    let id = key.parse::<ApiKeyText>().expect("a key").id().clone();
    replica.service.revoke_key(&id, "test").await.expect("revokes");
    assert_eq!(replica.call(&rpc, Some(&key)).await.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn wrong_credentials_are_slowed_down_and_right_ones_never_wait_for_them() {
    let replica = Replica::start().await;
    let rpc = "/cladnet.v1.NetworkService/ListNetworks";
    let mut extensions = Extensions::new();
    let remote = "198.51.100.7:1000".parse().expect("an address");
    extensions.insert(Connection { remote, certificate: None, insecure: false });
    let headers = |key: &str| {
        let value = format!("Bearer {key}").parse().expect("a header");
        HeaderMap::from_iter([(header::AUTHORIZATION, value)])
    };
    let mut refused = Vec::new();
    for _ in 0..=FAILURES.burst {
        let error = admit(&replica.service, rpc, &headers("wrong"), &extensions).await.expect_err("is wrong");
        refused.push(Status::from(error).code());
    }
    let last = refused.pop().expect("at least one");
    assert!(refused.iter().all(|code| *code == Code::Unauthenticated), "{refused:?}");
    assert_eq!(last, Code::ResourceExhausted);
    let admin = headers(&replica.admin.to_string());
    assert!(admit(&replica.service, rpc, &admin, &extensions).await.is_ok());
}

#[test]
fn a_weak_role_is_told_which_would_do() {
    let error = too_weak(Role::Viewer, Action::ManageKeys).to_string();
    assert_eq!(error, "a key of role viewer may not manage-keys; use one of role admin");
}

#[test]
fn failures_are_counted_per_network() {
    let of = |text: &str| neighbourhood(text.parse().expect("an address")).to_string();
    assert_eq!(of("198.51.100.7"), "198.51.100.0");
    assert_eq!(of("::ffff:198.51.100.7"), "198.51.100.0");
    assert_eq!(of("2001:db8:1:2:3::9"), "2001:db8:1:2::");
}
