//! Sessions as time passes, on a clock of the test's own; what browsers and other sites see of them is told in `tests/api`.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use axum::{
    Router,
    body::{Body, to_bytes},
};
use cladnet_model::{KeyTerms, Role, session};
use cladnet_store::{EmbeddedOptions, Store, key};
use http::{Method, Request, StatusCode};
use jiff::{SignedDuration, Timestamp};
use tower::ServiceExt as _;

use super::session::{Resumed, sweep};
use crate::{
    Clock, Config, Server, Service,
    error::CallError,
    rest::binding::{Dialect, bindings},
    router,
};

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

#[tokio::test]
async fn sign_ins_with_one_key_have_a_pace_and_other_keys_their_own() {
    let replica = Replica::start().await;
    let terms = KeyTerms { name: "guest".to_owned(), role: Role::Viewer, expires_at: None };
    let (_, text) = replica.service.create_key(terms, "test").await.unwrap();
    let sign_in = async |key: &str| replica.service.sign_in(key, None).await.map(drop);
    let mut begun = 0;
    let refused = loop {
        match sign_in(&text.to_string()).await {
            Ok(()) if begun < 100 => begun += 1,
            Ok(()) => panic!("there is no end to it"),
            Err(refused) => break refused,
        }
    };
    assert!(begun >= 20 && matches!(refused, CallError::TooMany(_)), "{refused} after {begun}");
    sign_in(&replica.admin).await.unwrap();
    replica.pass(SignedDuration::from_mins(1));
    sign_in(&text.to_string()).await.unwrap();
}

/// Every REST call, with something in place of what stands in braces.
fn calls(dialect: Dialect) -> Vec<(Method, String)> {
    let filled = |path: &str| {
        let segments = path.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
        segments.collect::<Vec<_>>().join("/")
    };
    let of_dialect = bindings(&router::descriptors()).into_iter().filter(|binding| binding.dialect == dialect);
    of_dialect.map(|binding| (binding.verb.clone(), filled(&binding.path))).collect()
}

/// What is answered to a browser that sends these headers beside the cookie.
async fn answer(
    router: &Router,
    call: &(Method, String),
    cookie: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, String) {
    let (verb, path) = call;
    let request = Request::builder().method(verb).uri(path).header("cookie", cookie).header("x-cladnet-request", "1");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (status, is_stream) =
        (response.status(), response.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream"));
    let body = if is_stream { Body::empty() } else { response.into_body() };
    (status, String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn no_call_that_takes_a_session_is_open_to_another_site_or_another_name() {
    let replica = Replica::start().await;
    let (secret, _) = replica.service.sign_in(&replica.admin, None).await.unwrap();
    let cookie = format!("__Host-cladnet={secret}");
    let router = router::full(&replica.service, router::no_pages());
    const OWN: (&str, &str) = ("host", "localhost:8053");
    const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");
    let session = [Method::GET, Method::POST].map(|verb| (verb, "/api/v1/session".to_owned()));
    let sign_out = (Method::DELETE, "/api/v1/session".to_owned());
    let calls: Vec<_> = calls(Dialect::Cladnet).into_iter().chain(session).chain([sign_out]).collect();
    assert!(calls.iter().any(|(_, path)| path == "/api/v1/events/watch"), "streams are among them: {calls:?}");
    for call in &calls {
        let (status, told) = answer(&router, call, &cookie, &[("host", "evil.example"), SAME]).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{call:?}: {told}");
        for from in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "https://evil.example"),
            ("origin", "https://localhost:8054"),
            ("origin", "null"),
        ] {
            let (status, told) = answer(&router, call, &cookie, &[OWN, from]).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{call:?} from {from:?}: {told}");
            assert!(told.contains("another site"), "{call:?} from {from:?}: {told}");
        }
        let (status, told) = answer(&router, call, &cookie, &[OWN, SAME]).await;
        let refused = [401, 403, 415, 421].contains(&status.as_u16());
        assert!(!refused, "{call:?} from our own page: {status}: {told}");
    }
}

#[tokio::test]
async fn no_call_of_cb_network_takes_a_session() {
    let replica = Replica::start().await;
    let (secret, _) = replica.service.sign_in(&replica.admin, None).await.unwrap();
    let cookie = format!("__Host-cladnet={secret}");
    let router = router::full(&replica.service, router::no_pages());
    let headers = [("host", "localhost:8053"), ("sec-fetch-site", "same-origin")];
    let calls = calls(Dialect::Cbnet);
    for call in calls.iter().filter(|(_, path)| path != "/health") {
        let (status, told) = answer(&router, call, &cookie, &headers).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{call:?}: {told}");
    }
}
