use std::sync::Mutex;

use cladnet_model::Token;
use futures_util::future::join_all;
use std::sync::Arc;
use tonic::Code;

use super::*;
use crate::{Clock, agents::testing::*};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_uses_of_a_token_over_three_replicas_make_as_many_hosts_as_it_admits() {
    let house = House::with_network("n").await;
    let replicas = [house.replica().await, house.replica().await, house.replica().await];
    let mut hosts = 0;
    for admits in [1, 10] {
        let token = house.token("n", admits, replicas[0].ca).await;
        let clients = join_all(replicas.iter().map(|replica| replica.stranger(&token))).await;
        let uses = (0..100).map(|i| {
            let (mut client, token) = (clients[i % 3].clone(), token.clone());
            async move { client.enrol(Machine::new().request(&token)).await }
        });
        let (made, refused): (Vec<_>, Vec<_>) = join_all(uses).await.into_iter().partition(Result::is_ok);
        hosts += made.len();
        assert_eq!((made.len(), house.uses_left(token.id()).await), (admits as usize, 0));
        for refusal in refused {
            let code = refusal.unwrap_err().code();
            assert!(matches!(code, Code::PermissionDenied | Code::ResourceExhausted), "{code:?}");
        }
    }
    assert_eq!(house.hosts().await, hosts);
}

#[tokio::test]
async fn a_request_whose_answer_was_lost_gives_the_same_host_again_without_another_use() {
    let house = House::with_network("n").await;
    let (first, second) = (house.replica().await, house.replica().await);
    let token = house.token("n", 2, first.ca).await;
    let machine = Machine::new();
    let lost = machine.enrol(&first, &token).await.unwrap();
    let again = machine.enrol(&second, &token).await.unwrap();
    assert_eq!((lost.host_id, &lost.network_id), (again.host_id, &again.network_id));
    assert_eq!((house.hosts().await, house.uses_left(token.id()).await), (1, 1));
}

#[tokio::test]
async fn the_same_public_key_with_another_identity_is_refused() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let token = house.token("n", 2, replica.ca).await;
    let machine = Machine::new();
    machine.enrol(&replica, &token).await.unwrap();
    let thief = Machine { public_key: machine.public_key, ..Machine::new() };
    let refusal = thief.enrol(&replica, &token).await.unwrap_err();
    assert_eq!(refusal.code(), Code::AlreadyExists, "{refusal:?}");
    assert_eq!(house.hosts().await, 1);
}

#[tokio::test]
async fn a_repeated_request_is_refused_after_ten_minutes() {
    let house = House::with_network("n").await;
    let now = Arc::new(Mutex::new(jiff::Timestamp::now()));
    let clock = {
        let now = now.clone();
        Clock::new(move || *now.lock().unwrap())
    };
    let replica = house.replica_with_clock(clock).await;
    let token = house.token("n", 2, replica.ca).await;
    let machine = Machine::new();
    machine.enrol(&replica, &token).await.unwrap();
    *now.lock().unwrap() += REPEAT;
    assert_eq!(machine.enrol(&replica, &token).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn every_refusal_says_why_to_who_has_the_secret_and_nothing_to_who_has_not() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let refusal = async |token: &JoinToken| {
        let status = Machine::new().enrol(&replica, token).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let used = house.token("n", 0, replica.ca).await;
    let (code, text) = refusal(&used).await;
    assert_eq!((code, text.contains("used up")), (Code::PermissionDenied, true), "{text}");

    let past = jiff::Timestamp::now() - Duration::from_secs(1);
    let expired = house.token_until("n", 1, replica.ca, past).await;
    let (code, text) = refusal(&expired).await;
    assert_eq!((code, text.contains("expired")), (Code::PermissionDenied, true), "{text}");

    let revoked = house.token("n", 1, replica.ca).await;
    let record = house.store.get(&key::token(revoked.id())).await.unwrap().unwrap().value;
    house.store.put(&key::token(revoked.id()), &Token { revoked: true, ..record }).await.unwrap();
    let (code, text) = refusal(&revoked).await;
    assert_eq!((code, text.contains("revoked")), (Code::PermissionDenied, true), "{text}");

    let homeless = house.token("gone", 1, replica.ca).await;
    let (code, text) = refusal(&homeless).await;
    assert_eq!((code, text.contains("was deleted")), (Code::FailedPrecondition, true), "{text}");

    let unknown = JoinToken::new([9; 10], cladnet_model::Secret::new([9; 32]), replica.ca);
    let known = house.token("n", 1, replica.ca).await;
    let record = house.store.get(&key::token(known.id())).await.unwrap().unwrap().value;
    house.store.put(&key::token(known.id()), &Token { secret_hash: "00".repeat(32), ..record }).await.unwrap();
    assert_eq!(refusal(&unknown).await, refusal(&known).await, "an unknown and a wrong one look the same");
    assert_eq!(house.hosts().await, 0);
}

#[tokio::test]
async fn guessing_the_secret_of_a_token_is_slowed_down() {
    let house = House::with_network("n").await;
    let now = jiff::Timestamp::now();
    let replica = house.replica_with_clock(Clock::new(move || now)).await; // no bucket fills up meanwhile
    let wrong = JoinToken::new([9; 10], cladnet_model::Secret::new([9; 32]), replica.ca);
    let mut client = replica.stranger(&wrong).await;
    let mut codes = Vec::new();
    for _ in 0..=WRONG {
        codes.push(client.enrol(Machine::new().request(&wrong)).await.unwrap_err().code());
    }
    assert_eq!(codes.pop(), Some(Code::ResourceExhausted));
    assert!(codes.iter().all(|code| *code == Code::Unauthenticated), "{codes:?}");

    let right = JoinToken::new([9; 10], cladnet_model::Secret::new([7; 32]), replica.ca);
    let other = house.token("n", 1, replica.ca).await;
    let record = house.store.get(&key::token(other.id())).await.unwrap().unwrap().value;
    let record = Token { id: right.id().clone(), secret_hash: right.secret_hash(), ..record };
    house.store.create(&key::token(right.id()), &record).await.unwrap();
    client.enrol(Machine::new().request(&right)).await.expect("whoever has the secret is let in meanwhile");
}

#[tokio::test]
async fn showing_many_wrong_tokens_is_slowed_down_and_a_right_one_is_welcome_meanwhile() {
    let house = House::with_network("n").await;
    let now = jiff::Timestamp::now();
    let replica = house.replica_with_clock(Clock::new(move || now)).await; // no bucket fills up meanwhile
    let token = house.token("n", 1, replica.ca).await;
    let mut client = replica.stranger(&token).await;
    let mut codes = Vec::new();
    for number in 0..=super::super::WRONG_TOKENS.burst {
        let mut random = [0; 10];
        random[0] = u8::try_from(number).unwrap();
        let wrong = JoinToken::new(random, cladnet_model::Secret::new([9; 32]), replica.ca);
        codes.push(client.enrol(Machine::new().request(&wrong)).await.unwrap_err().code());
    }
    assert_eq!(codes.pop(), Some(Code::ResourceExhausted));
    assert!(codes.iter().all(|code| *code == Code::Unauthenticated), "{codes:?}");
    client.enrol(Machine::new().request(&token)).await.unwrap();
}

/// As many as the limit lets through at once.
const WRONG: u32 = super::super::WRONG_SECRETS.burst;

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let token = house.token("n", 1, replica.ca).await;
    let mut client = replica.stranger(&token).await;
    let good = Machine::new().request(&token);
    let cases = [
        ("token", EnrolRequest { token: "cladnet1_abc".into(), ..good.clone() }),
        ("certificate_request", EnrolRequest { certificate_request: vec![1, 2, 3], ..good.clone() }),
        ("public_key", EnrolRequest { public_key: vec![1; 31], ..good.clone() }),
        ("facts", EnrolRequest { facts: None, ..good.clone() }),
    ];
    for (field, request) in cases {
        let status = client.enrol(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}: {status:?}");
        assert_eq!(status.metadata().get(convert::FIELD).unwrap(), field);
    }
    assert_eq!(house.uses_left(token.id()).await, 1);
}

#[tokio::test]
async fn a_member_is_known_by_a_token_that_it_shows_and_does_not_use_up() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let agent = Machine::new().agent(&replica, &house.token("n", 1, replica.ca).await).await;
    let token = house.token("n", 1, replica.ca).await;
    for _ in 0..2 {
        let request = JoinRequest { token: token.to_string(), public_key: rand::random::<[u8; 32]>().to_vec() };
        let refused = agent.client(&replica).await.join(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::AlreadyExists, "{refused:?}");
        let owner = house.store.get(&key::public_key(&PublicKey(agent.machine.public_key))).await.unwrap().unwrap();
        assert_eq!((owner.value.host, owner.value.token.as_ref()), (agent.host.clone(), Some(token.id())));
        assert_eq!(house.uses_left(token.id()).await, 1);
    }
}

#[tokio::test]
async fn a_host_joins_further_networks_up_to_the_limit_and_each_once() {
    let house = House::new().await;
    for i in 0..=MAX_MEMBERSHIPS {
        house.create_network(&format!("n-{i}")).await;
    }
    let replica = house.replica().await;
    let token = house.token("n-0", 1, replica.ca).await;
    let agent = Machine::new().agent(&replica, &token).await;
    let mut client = agent.client(&replica).await;
    let mut join = async |network: &str, key: [u8; 32]| {
        let token = house.token(network, 2, replica.ca).await;
        let request = JoinRequest { token: token.to_string(), public_key: key.to_vec() };
        let first = client.join(request.clone()).await.map(|answer| answer.into_inner().network_id);
        (first, client.join(request).await.map(|answer| answer.into_inner().network_id), token)
    };
    for i in 1..MAX_MEMBERSHIPS {
        let (first, repeated, token) = join(&format!("n-{i}"), rand::random()).await;
        assert_eq!((first.unwrap(), repeated.unwrap()), (format!("n-{i}"), format!("n-{i}")));
        assert_eq!(house.uses_left(token.id()).await, 1, "repeating costs nothing");
    }
    let (again, _, _) = join("n-1", rand::random()).await;
    assert_eq!(again.unwrap_err().code(), Code::AlreadyExists);
    let (too_many, _, token) = join(&format!("n-{MAX_MEMBERSHIPS}"), rand::random()).await;
    assert_eq!(too_many.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(house.uses_left(token.id()).await, 2);
}

#[tokio::test]
async fn an_expired_certificate_renews_itself_and_opens_nothing_else() {
    let house = House::with_network("n").await;
    let then = jiff::Timestamp::now() - Duration::from_secs(30 * 86_400);
    let past = house.replica_with_clock(Clock::new(move || then)).await;
    let token = house.token("n", 1, past.ca).await;
    let mut agent = Machine::new().agent(&past, &token).await;

    let replica = house.replica().await;
    let mut client = agent.client(&replica).await;
    let refusal = client.leave(cladnet_proto::cladnet::v1::LeaveRequest::default()).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.message().contains("expired")), (Code::Unauthenticated, true));
    assert!(agent.sync(&replica).await.is_err());

    let foreign = RenewCertificateRequest { certificate_request: Machine::new().key.request().unwrap() };
    assert_eq!(client.renew_certificate(foreign).await.unwrap_err().code(), Code::InvalidArgument);
    let own = RenewCertificateRequest { certificate_request: agent.machine.key.request().unwrap() };
    agent.certificate = client.renew_certificate(own.clone()).await.unwrap().into_inner().certificate;
    agent.sync(&replica).await.unwrap();

    replica.agents.remove_host(&agent.host, "test").await.unwrap();
    assert_eq!(client.renew_certificate(own).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_certificate_of_another_installation_is_no_identity() {
    let (house, other) = (House::with_network("n").await, House::with_network("n").await);
    let (replica, foreign) = (house.replica().await, other.replica().await);
    let token = other.token("n", 1, foreign.ca).await;
    let mut agent = Machine::new().agent(&foreign, &token).await;
    agent.certificate = agent.certificate.clone();
    let credentials = cladnet_pki::Credentials::of_host(&agent.certificate, &agent.machine.key).unwrap();
    let tls = cladnet_pki::client_config(&replica.ca_pem, Some(&credentials)).unwrap();
    let url = format!("https://{}", replica.address).parse().unwrap();
    // TLS 1.3 tells a client that its certificate was refused at its first read.
    let refused = match cladnet_pki::channel::connect(&[url], tls).await {
        Err(_) => true,
        Ok(channel) => {
            let mut client = cladnet_proto::cladnet::v1::agent_service_client::AgentServiceClient::new(channel);
            client.leave(cladnet_proto::cladnet::v1::LeaveRequest::default()).await.is_err()
        }
    };
    assert!(refused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_never_let_a_host_into_one_network_too_many() {
    let house = House::new().await;
    for i in 0..=MAX_MEMBERSHIPS {
        house.create_network(&format!("n-{i}")).await;
    }
    let replicas = [house.replica().await, house.replica().await];
    let token = house.token("n-0", 1, replicas[0].ca).await;
    let agent = Machine::new().agent(&replicas[0], &token).await;
    let clients = [agent.client(&replicas[0]).await, agent.client(&replicas[1]).await];
    let joins = (1..=MAX_MEMBERSHIPS).map(|i| {
        let (mut client, house, ca) = (clients[i % 2].clone(), &house, replicas[0].ca);
        async move {
            let token = house.token(&format!("n-{i}"), 1, ca).await.to_string();
            client.join(JoinRequest { token, public_key: rand::random::<[u8; 32]>().to_vec() }).await.map(drop)
        }
    });
    let outcomes = join_all(joins).await;
    let refused: Vec<_> = outcomes.into_iter().filter_map(Result::err).map(|status| status.code()).collect();
    assert_eq!(refused, [Code::FailedPrecondition]);
    let memberships = house.store.list(&key::all_memberships()).await.unwrap().items;
    assert_eq!(memberships.len(), MAX_MEMBERSHIPS);
}
