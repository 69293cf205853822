//! Sessions as time passes, on a clock of the test's own; what browsers and other sites see of them is told in `tests/api`.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use cladnet_model::{KeyTerms, Role, session};
use cladnet_store::{EmbeddedOptions, Store, key};
use jiff::{SignedDuration, Timestamp};

use super::session::{Resumed, sweep};
use crate::{Clock, Config, Server, Service};

struct Replica {
    service: Arc<Service>,
    clock: Clock,
    later: Arc<AtomicI64>,
    admin: String,
    _directory: tempfile::TempDir,
}

impl Replica {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.unwrap();
        let config = Config { listen_addr: "127.0.0.1:0".parse().unwrap(), stun_addr: None, ..Config::default() };
        let later = Arc::new(AtomicI64::new(0));
        let seconds = later.clone();
        let start = Timestamp::now();
        let clock = Clock::new(move || start + SignedDuration::from_secs(seconds.load(Ordering::Relaxed)));
        let server = Server::bind_with_clock(config, store, clock.clone()).await.unwrap();
        let admin = server.first_key().unwrap().to_string();
        Self { service: server.service().clone(), clock, later, admin, _directory: directory }
    }

    fn pass(&self, time: SignedDuration) {
        self.later.fetch_add(time.as_secs(), Ordering::Relaxed);
    }

    async fn kept(&self) -> usize {
        self.service.store.list(&key::sessions()).await.unwrap().items.len()
    }
}

#[tokio::test]
async fn a_session_that_is_used_lasts_twelve_hours_and_no_longer() {
    let replica = Replica::start().await;
    let (secret, _) = replica.service.sign_in(&replica.admin, None).await.unwrap();
    let step = SignedDuration::from_mins(20);
    for _ in 1..36 {
        replica.pass(step);
        assert!(replica.service.resume(&secret).await.unwrap().is_some());
    }
    replica.pass(step);
    assert!(replica.service.resume(&secret).await.unwrap().is_none(), "twelve hours are over");
}

#[tokio::test]
async fn a_session_that_is_not_used_is_over_after_half_an_hour() {
    let replica = Replica::start().await;
    let (secret, _) = replica.service.sign_in(&replica.admin, None).await.unwrap();
    replica.pass(session::IDLE_LIMIT);
    assert!(replica.service.resume(&secret).await.unwrap().is_none());
}

#[tokio::test]
async fn requests_are_noted_in_the_store_once_a_minute() {
    let replica = Replica::start().await;
    let (secret, Resumed { id, .. }) = replica.service.sign_in(&replica.admin, None).await.unwrap();
    let modified = async || replica.service.store.get(&key::session(&id)).await.unwrap().unwrap().modified;
    let begun = modified().await;
    replica.pass(SignedDuration::from_secs(59));
    replica.service.resume(&secret).await.unwrap().unwrap();
    assert_eq!(modified().await, begun);
    replica.pass(SignedDuration::from_secs(1));
    replica.service.resume(&secret).await.unwrap().unwrap();
    assert!(modified().await > begun);
}

#[tokio::test]
async fn a_session_ends_when_its_key_expires() {
    let replica = Replica::start().await;
    let expires_at = Some(replica.clock.now() + SignedDuration::from_mins(5));
    let terms = KeyTerms { name: "guest".to_owned(), role: Role::Viewer, expires_at };
    let (_, text) = replica.service.create_key(terms, "test").await.unwrap();
    let (secret, _) = replica.service.sign_in(&text.to_string(), None).await.unwrap();
    replica.pass(SignedDuration::from_mins(4));
    assert!(replica.service.resume(&secret).await.unwrap().is_some());
    replica.pass(SignedDuration::from_mins(1));
    assert!(replica.service.resume(&secret).await.unwrap().is_none());
}

#[tokio::test]
async fn sessions_that_are_over_are_swept_and_others_stay() {
    let replica = Replica::start().await;
    for _ in 0..3 {
        replica.service.sign_in(&replica.admin, None).await.unwrap();
    }
    replica.pass(SignedDuration::from_mins(29));
    let (secret, _) = replica.service.sign_in(&replica.admin, None).await.unwrap();
    replica.pass(SignedDuration::from_mins(2));
    assert_eq!(replica.kept().await, 4);
    sweep(&replica.service.store, &replica.clock).await.unwrap();
    assert_eq!(replica.kept().await, 1);
    assert!(replica.service.resume(&secret).await.unwrap().is_some());
}

#[tokio::test]
async fn a_key_that_signs_in_again_and_again_ends_its_oldest_session_and_nobody_elses() {
    let replica = Replica::start().await;
    let terms = KeyTerms { name: "guest".to_owned(), role: Role::Viewer, expires_at: None };
    let (guest, text) = replica.service.create_key(terms, "test").await.unwrap();
    let (others, _) = replica.service.sign_in(&replica.admin, None).await.unwrap();
    let mut secrets = Vec::new();
    for _ in 0..22 {
        replica.pass(SignedDuration::from_secs(1));
        secrets.push(replica.service.sign_in(&text.to_string(), None).await.unwrap().0);
    }
    assert_eq!(replica.kept().await, 20 + 1, "those of the key that are allowed, and the one of the other");
    for (number, secret) in secrets.iter().enumerate() {
        assert_eq!(replica.service.resume(secret).await.unwrap().is_some(), number >= 2, "session {number}");
    }
    assert!(replica.service.resume(&others).await.unwrap().is_some());
    let events = replica.service.events(None).await.unwrap();
    let ended: Vec<_> = events.iter().filter(|event| event.kind == "session.ended").collect();
    assert_eq!(ended.len(), 2, "each end is told: {ended:?}");
    assert!(ended.iter().all(|event| event.actor == guest.id.as_str() && event.message.contains("guest")), "{ended:?}");
}
