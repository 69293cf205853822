//! A replica of the service in this process, and its callers.

use std::{net::SocketAddr, time::Duration};

use cladnet_pki::channel;
use cladnet_service::{Config, Server};
use cladnet_store::{EmbeddedOptions, Store};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Request, transport::Channel};

/// A running replica; stops when dropped.
pub(crate) struct Harness {
    pub(crate) store: Store,
    pub(crate) address: SocketAddr,
    pub(crate) insecure: Option<SocketAddr>,
    pub(crate) stun: Option<SocketAddr>,
    pub(crate) ca_pem: String,
    pub(crate) admin_key: String,
    client: reqwest::Client,
    shutdown: CancellationToken,
    pub(crate) running: Option<JoinHandle<()>>,
    _directory: TempDir,
}

/// What REST answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// Any free port, on loopback.
pub(crate) fn free_ports() -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Config { listen_addr: any, stun_addr: Some(any), insecure_http: Some(any), ..Config::default() }
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::start_as(free_ports()).await
    }

    pub(crate) async fn start_as(config: Config) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
        let server = Server::bind(config, store.clone()).await.expect("a replica");
        let (address, ca_pem) = (server.local_addr().expect("an address"), server.ca_pem().to_owned());
        let admin_key = server.first_key().expect("a first start").to_string();
        let (insecure, stun) = (server.insecure_addr(), server.stun_addr());
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let running = Some(tokio::spawn(async move { server.run(until).await.expect("serves") }));
        let authority = reqwest::Certificate::from_pem(ca_pem.as_bytes()).expect("a certificate");
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Self { store, address, insecure, stun, ca_pem, admin_key, client, shutdown, running, _directory: directory }
    }

    /// Asks as the admin.
    pub(crate) async fn rest(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.rest_as(Some(&self.admin_key), method, path, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.rest(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.rest(Method::POST, path, Some(body)).await
    }

    /// Asks as the bearer of `key`, or as nobody.
    pub(crate) async fn rest_as(&self, key: Option<&str>, method: Method, path: &str, body: Option<Value>) -> Answer {
        let request = self.request(method, path);
        let request = key.into_iter().fold(request, |request, key| request.bearer_auth(key));
        let request = body.into_iter().fold(request, |request, body| request.json(&body));
        answer(request).await
    }

    /// A request to be completed by the caller.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("https://localhost:{}{path}", self.address.port()))
    }

    /// A gRPC channel, without a client certificate.
    pub(crate) async fn channel(&self) -> Channel {
        let url = format!("https://{}", self.address).parse().expect("a URL");
        let tls = cladnet_pki::client_config(&self.ca_pem, None).expect("a TLS configuration");
        channel::connect(&[url], tls).await.expect("a connection")
    }

    /// Makes a key of `role` and returns its text.
    pub(crate) async fn key(&self, role: &str) -> String {
        let answer = self.post("/api/v1/keys", json!({"name": format!("a {role}"), "role": role})).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.body["secret"].as_str().expect("a secret").to_owned()
    }

    /// Asks the replica to stop and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        self.running.take().expect("still running").await.expect("no panic");
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Sends a request and reads what comes back as JSON, or as text.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}

/// A gRPC request of a bearer.
pub(crate) fn bearing<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let header = format!("Bearer {key}").parse().expect("is ASCII");
    request.metadata_mut().insert("authorization", header);
    request
}

/// Waits until `done` says so; `what` is told when it never does.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, done: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
