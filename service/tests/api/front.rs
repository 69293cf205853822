//! The admin web on a port of its own: what browsers meet there is what they meet at the service.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use cladnet_service::front::{Front, FrontConfig};
use futures_util::{StreamExt as _, stream};
use http::{Method, Request, StatusCode, header};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::{Value, json};
use tokio::{net::TcpSocket, task::JoinSet, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::{Answer, Harness, answer, eventually};

const SESSION: &str = "/api/v1/session";

/// Stops when dropped.
struct Page {
    address: SocketAddr,
    client: reqwest::Client,
    _stop: DropGuard,
}

impl Page {
    /// In front of the service at `service`, with one page.
    fn before(service: SocketAddr, ca_pem: &str) -> Self {
        let config = FrontConfig {
            listen_addr: "127.0.0.1:0".parse().expect("an address"),
            tls_names: vec![],
            certificate: None,
        };
        let url = format!("https://{service}").parse().expect("a URL");
        let tls = cladnet_pki::client_config(ca_pem, None).expect("a TLS configuration");
        let pages = Router::new().route("/", get(async || "the page"));
        let front = Front::open(&config, &[url], tls, pages).expect("opens");
        assert_eq!(front.fingerprint().map(str::len), Some(32 * 3 - 1), "{:?}", front.fingerprint());
        let (address, stop) = (front.local_addr().expect("an address"), CancellationToken::new());
        tokio::spawn(front.run(stop.clone()));
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
        Self { address, client, _stop: stop.drop_guard() }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("https://localhost:{}{path}", self.address.port()))
    }

    /// As the page's own scripts ask in a browser that tells no `Sec-Fetch-Site`.
    fn by_script(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let origin = format!("https://localhost:{}", self.address.port());
        self.request(method, path).header("origin", origin).header("x-cladnet-request", "1")
    }

    async fn sign_in(&self, key: &str) -> Answer {
        answer(self.by_script(Method::POST, SESSION).json(&json!({"apiKey": key}))).await
    }
}

fn cookie(answer: &Answer) -> String {
    let set = answer.headers[header::SET_COOKIE].to_str().expect("is text");
    set.split(';').next().expect("a pair").to_owned()
}

#[tokio::test]
async fn the_page_and_the_interface_are_there_on_one_origin() {
    let harness = Harness::start().await;
    let page = Page::before(harness.address, &harness.ca_pem);
    assert_eq!(answer(page.request(Method::GET, "/")).await.body, json!("the page"));
    let begun = page.sign_in(&harness.admin_key).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let cookie = cookie(&begun);
    let wish = json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/24"});
    let made = page.by_script(Method::POST, "/api/v1/networks").header("cookie", &cookie).header("x-request-id", "r-7");
    let made = answer(made.json(&wish)).await;
    assert_eq!((made.status, made.headers["x-request-id"].as_bytes()), (StatusCode::OK, &b"r-7"[..]), "{made:?}");
    let refused = page.by_script(Method::POST, "/api/v1/networks").header("cookie", &cookie).json(&wish);
    let refused = answer(refused).await;
    assert_eq!((refused.status, &refused.body["field"]), (StatusCode::CONFLICT, &json!("networkId")), "{refused:?}");
    assert_eq!(refused.headers["x-request-id"], refused.body["request_id"].as_str().expect("an id"));
    assert_eq!(harness.get("/api/v1/networks/prod").await.status, StatusCode::OK);
    for path in ["/docs/", "/livez", "/v1/cladnet", "/cladnet.v1.NetworkService/ListNetworks", "/api"] {
        assert_eq!(answer(page.request(Method::GET, path)).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_rules_hold_in_front_too() {
    let harness = Harness::start().await;
    let page = Page::before(harness.address, &harness.ca_pem);
    let cookie = cookie(&page.sign_in(&harness.admin_key).await);
    for path in ["/", SESSION, "/api/v1/networks"] {
        let rebound = page.request(Method::GET, path).header("cookie", &cookie).header("host", "evil.example");
        assert_eq!(answer(rebound).await.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    let wish = json!({"networkId": "stolen", "ipv4AddressSpace": "10.0.0.0/24"});
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example"),
        ("origin", "https://service.cladnet.internal"),
    ] {
        let request = page.request(Method::POST, "/api/v1/networks").header("cookie", &cookie).header(name, value);
        let refused = answer(request.header("x-cladnet-request", "1").json(&wish)).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{name}: {value}: {refused:?}");
    }
    assert_eq!(harness.get("/api/v1/networks/stolen").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn events_flow_as_they_come() {
    let harness = Harness::start().await;
    let page = Page::before(harness.address, &harness.ca_pem);
    let cookie = cookie(&page.sign_in(&harness.admin_key).await);
    let request = page.request(Method::GET, "/api/v1/events/watch").header("cookie", &cookie);
    let mut stream = request.send().await.expect("a stream");
    harness.post("/api/v1/networks", json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/24"})).await;
    let first = timeout(Duration::from_secs(30), stream.chunk()).await.expect("comes at once");
    let first = first.expect("reads").expect("goes on");
    assert!(std::str::from_utf8(&first).expect("is text").contains("network.created"), "{first:?}");
    let ended = answer(page.by_script(Method::DELETE, SESSION).header("cookie", &cookie)).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{ended:?}");
    let last = timeout(Duration::from_secs(30), stream.text()).await.expect("ends with the session").expect("in order");
    assert!(last.contains("\"status\":401"), "{last}");
}

#[tokio::test]
async fn a_service_that_is_down_is_told_and_the_page_stays() {
    let mut harness = Harness::start().await;
    let page = Page::before(harness.address, &harness.ca_pem);
    assert_eq!(page.sign_in(&harness.admin_key).await.status, StatusCode::OK);
    harness.stop().await;
    let down = answer(page.request(Method::GET, SESSION)).await;
    assert_eq!(down.status, StatusCode::BAD_GATEWAY, "{down:?}");
    assert_eq!(down.headers[header::CONTENT_TYPE], "application/problem+json");
    let detail = down.body["detail"].as_str().expect("a detail");
    assert!(detail.contains(&harness.address.to_string()), "{detail}");
    assert_eq!(answer(page.request(Method::GET, "/")).await.body, Value::from("the page"));
}

/// Believes every certificate: the page's is made at its start.
#[derive(Debug)]
struct Credulous(CryptoProvider);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl Page {
    /// One connection of a client at 127.0.0.1, for many requests at a time.
    async fn connection(&self) -> SendRequest<Body> {
        let verifier = Arc::new(Credulous(ring::default_provider()));
        let mut tls =
            ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpSocket::new_v4().expect("a socket");
        let stream = socket.connect(self.address).await.expect("connects");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("a handshake");
        let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        client
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// A sign-in whose body never ends; `begun` counts those that have been asked for it.
    fn endless(&self, begun: &Arc<AtomicUsize>) -> Request<Body> {
        let begun = begun.clone();
        let first = stream::once(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>("{")
        });
        let origin = format!("https://localhost:{}", self.address.port());
        let request = Request::post(self.url(SESSION)).header("origin", origin).header("x-cladnet-request", "1");
        let request = request.header("content-type", "application/json");
        request.body(Body::from_stream(first.chain(stream::pending()))).expect("a request")
    }

    fn watch(&self, key: &str) -> Request<Body> {
        let request = Request::get(self.url("/api/v1/events/watch")).header("authorization", format!("Bearer {key}"));
        request.body(Body::empty()).expect("a request")
    }

    /// A browser elsewhere, in another network of addresses.
    fn elsewhere(&self) -> reqwest::Client {
        let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true);
        client.local_address("127.0.9.1".parse::<std::net::IpAddr>().expect("an address")).build().expect("a client")
    }
}

#[tokio::test]
async fn what_one_client_never_ends_keeps_no_other_client_out() {
    const EACH: usize = 300;
    let harness = Harness::start().await;
    let page = Page::before(harness.address, &harness.ca_pem);
    let mut keys = Vec::new();
    for _ in 0..EACH / 10 {
        keys.push(harness.key("viewer").await);
    }
    let (mut greedy, begun) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push((page.connection().await, page.connection().await));
    }
    for number in 0..EACH {
        let (mut bodies, mut streams) = connections[number % connections.len()].clone();
        let (body, watch) = (page.endless(&begun), page.watch(&keys[number / 10]));
        greedy.spawn(async move {
            let body = bodies.send_request(body);
            let held = (body.await, std::future::pending::<()>().await);
            drop(held);
        });
        greedy.spawn(async move {
            let stream = streams.send_request(watch).await;
            std::future::pending::<()>().await;
            drop(stream);
        });
    }
    eventually("the bodies flow", async || begun.load(Ordering::Relaxed) >= EACH * 3 / 4).await;

    let elsewhere = page.elsewhere();
    let asked = |method: Method, path: &str| {
        let origin = format!("https://localhost:{}", page.address.port());
        elsewhere.request(method, page.url(path)).header("origin", origin).header("x-cladnet-request", "1")
    };
    let answered = async |what: &str, request: reqwest::RequestBuilder| {
        // Before any of what is held ends by itself.
        timeout(Duration::from_secs(12), answer(request)).await.unwrap_or_else(|_| panic!("no answer: {what}"))
    };
    assert_eq!(answered("the page", asked(Method::GET, "/")).await.body, json!("the page"));
    let nobody = answered("who is signed in", asked(Method::GET, SESSION)).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{nobody:?}");
    let begun = answered("a sign-in", asked(Method::POST, SESSION).json(&json!({"apiKey": harness.admin_key}))).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let listed = answered("a call", asked(Method::GET, "/api/v1/networks").header("cookie", cookie(&begun))).await;
    assert_eq!(listed.status, StatusCode::OK, "{listed:?}");
    let mut more = page.connection().await;
    let refused = more.send_request(page.watch(&harness.admin_key)).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "the greedy one is told");
    greedy.shutdown().await;
}
