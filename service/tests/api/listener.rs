//! The port itself: what it answers to whom, and what it survives.

use cladnet_model::{ApiKeyText, Secret};
use cladnet_proto::{
    cbnet::v1::system_management_service_client::SystemManagementServiceClient,
    cladnet::v1::system_service_client::SystemServiceClient,
};
use cladnet_service::{Config, Server, StartError};
use cladnet_store::{EmbeddedOptions, Store};
use http::{Method, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Harness, answer, bearing, free_ports};

#[tokio::test]
async fn health_is_open_and_everything_else_wants_a_key() {
    let harness = Harness::start().await;
    let health = harness.rest_as(None, Method::GET, "/health", None).await;
    assert_eq!((health.status, health.body), (StatusCode::OK, "healthy".into()));

    let refused = harness.rest_as(None, Method::GET, "/api/v1/networks", None).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(refused.headers[header::WWW_AUTHENTICATE], "Bearer");
    assert!(refused.body["detail"].as_str().expect("a detail").contains("Authorization"), "{:?}", refused.body);

    let unknown = ApiKeyText::new([1; 10], Secret::new([2; 32])).to_string();
    for (key, why) in [(unknown.as_str(), "not valid"), (&unknown[..50], "cut short"), ("hello", "is not an API key")] {
        let refused = harness.rest_as(Some(key), Method::GET, "/api/v1/networks", None).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{key}");
        assert!(refused.body["detail"].as_str().expect("a detail").contains(why), "{:?}", refused.body);
    }
}

#[tokio::test]
async fn a_request_id_is_taken_over_told_and_never_trusted_blindly() {
    let harness = Harness::start().await;
    let tagged = answer(harness.request(Method::GET, "/api/v1/info").header("x-request-id", "abc-1")).await;
    assert_eq!(tagged.headers["x-request-id"], "abc-1");
    assert_eq!(tagged.body["request_id"], "abc-1");
    let hostile = answer(harness.request(Method::GET, "/api/v1/info").header("x-request-id", "a b{}")).await;
    assert_eq!(hostile.headers["x-request-id"].len(), 32);
    assert_eq!(hostile.body["request_id"], hostile.headers["x-request-id"].to_str().expect("is ASCII"));
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_large_bodies_are_problems() {
    let harness = Harness::start().await;
    let nowhere = harness.get("/api/v2/networks").await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    assert_eq!(nowhere.headers[header::CONTENT_TYPE], "application/problem+json");
    let wrong = harness.rest(Method::PUT, "/api/v1/networks", None).await;
    assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(wrong.headers[header::CONTENT_TYPE], "application/problem+json");
    assert!(wrong.headers[header::ALLOW].to_str().expect("is ASCII").contains("POST"), "{:?}", wrong.headers);
    let large = harness.request(Method::POST, "/api/v1/networks").body(vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(answer(large.bearer_auth(&harness.admin_key)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let large = harness.request(Method::POST, "/api/v1/networks").body(vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(answer(large).await.status, StatusCode::UNAUTHORIZED, "nothing is read from nobody");
}

#[tokio::test]
async fn curl_is_told_that_its_body_is_too_large_over_every_version_of_http() {
    let harness = Harness::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("ca.pem"), &harness.ca_pem).expect("writes");
    std::fs::write(file("body"), vec![b' '; 3 * 1024 * 1024]).expect("writes");
    for (version, spoken) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30", version, "--cacert"]).arg(file("ca.pem"));
        curl.arg("--data-binary").arg(format!("@{}", file("body").display()));
        curl.args(["--header", "Content-Type: application/json", "--header"]);
        curl.arg(format!("Authorization: Bearer {}", harness.admin_key));
        curl.args(["--write-out", "\n%{http_version} %{http_code} %{content_type}"]);
        curl.arg(format!("https://localhost:{}/api/v1/networks", harness.address.port()));
        let output = curl.output().await.expect("this test needs curl");
        let (told, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{version}: {}: {failed}", output.status);
        let (body, last) = told.rsplit_once('\n').expect("two lines");
        assert_eq!(last, format!("{spoken} 413 application/problem+json"), "{told}");
        assert!(body.contains("\"status\":413"), "{body}");
    }
}

#[tokio::test]
async fn every_answer_carries_strict_headers() {
    let harness = Harness::start().await;
    for path in ["/health", "/nowhere", "/openapi.json", "/docs/", "/swagger/"] {
        let headers = harness.get(path).await.headers;
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().expect("is ASCII");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("script-src 'unsafe"), "{path}: {policy}");
    }
}

#[tokio::test]
async fn the_documentation_pages_and_their_documents_are_served_to_anybody() {
    let harness = Harness::start().await;
    let home = harness.rest_as(None, Method::GET, "/", None).await;
    assert_eq!((home.status, &home.headers[header::LOCATION]), (StatusCode::SEE_OTHER, &"/docs/".parse().expect("ok")));
    let document = harness.rest_as(None, Method::GET, "/openapi.json", None).await;
    assert_eq!(document.body["openapi"], "3.1.0");
    let document = harness.rest_as(None, Method::GET, "/cloud_barista_network.swagger.json", None).await;
    assert_eq!(document.body["swagger"], "2.0");
    for (page, document) in [("/docs", "/openapi.json"), ("/swagger", "/cloud_barista_network.swagger.json")] {
        let html = harness.rest_as(None, Method::GET, &format!("{page}/"), None).await;
        assert!(html.body.as_str().expect("a page").contains("swagger-ui"), "{page}");
        let script = harness.rest_as(None, Method::GET, &format!("{page}/swagger-initializer.js"), None).await;
        assert!(script.body.as_str().expect("a script").contains(document), "{page}");
        assert!(!html.body.as_str().expect("a page").contains("https://"), "{page} loads something from elsewhere");
    }
}

#[tokio::test]
async fn grpc_and_rest_share_the_port() {
    let harness = Harness::start().await;
    let mut client = SystemServiceClient::new(harness.channel().await);
    let info = client.get_info(bearing(&harness.admin_key, ())).await.expect("an answer").into_inner();
    let rest = harness.get("/api/v1/info").await;
    assert_eq!(rest.body["caFingerprint"], info.ca_fingerprint);
    assert_eq!(rest.body["epoch"], info.epoch);
    assert_eq!((info.role.as_str(), info.ca_fingerprint.len()), ("admin", 64));
    let refused = client.get_info(()).await.expect_err("no key");
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
}

#[tokio::test]
async fn a_busy_port_is_named_and_nothing_is_made() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
    let listen_addr = taken.local_addr().expect("an address");
    let error = Server::bind(Config { listen_addr, ..free_ports() }, store.clone()).await.err().expect("is busy");
    assert!(matches!(error, StartError::Busy { .. }), "{error}");
    assert!(error.to_string().contains(&listen_addr.to_string()) && error.to_string().contains("--listen"), "{error}");
    assert!(store.get(&cladnet_store::key::cluster()).await.expect("reads").is_none());
}

#[tokio::test]
async fn the_listener_without_tls_is_for_loopback_and_cb_network_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
    let open = Some("0.0.0.0:0".parse().expect("an address"));
    let error = Server::bind(Config { insecure_http: open, ..free_ports() }, store).await.err().expect("refused");
    assert!(matches!(error, StartError::NotLoopback { .. }), "{error}");

    let harness = Harness::start().await;
    let plain = reqwest::Client::new();
    let url = |path: &str| format!("http://{}{path}", harness.insecure.expect("is on"));
    assert_eq!(answer(plain.get(url("/health"))).await.status, StatusCode::OK);
    let of_ours = plain.get(url("/api/v1/networks")).bearer_auth(&harness.admin_key);
    assert_eq!(answer(of_ours).await.status, StatusCode::NOT_FOUND);
    for (name, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(answer(plain.get(url("/health")).header(name, value)).await.status, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(answer(plain.get(url("/v1/cladnet"))).await.status, StatusCode::UNAUTHORIZED);

    let channel = tonic::transport::Endpoint::from_shared(url("")).expect("a URL").connect().await.expect("connects");
    let mut old = SystemManagementServiceClient::new(channel.clone());
    assert_eq!(old.health(()).await.expect("an answer").into_inner(), "healthy");
    let ours = SystemServiceClient::new(channel).get_info(bearing(&harness.admin_key, ())).await;
    assert_eq!(ours.expect_err("is not served here").code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn a_replica_that_stops_ends_its_streams() {
    let mut harness = Harness::start().await;
    let request = harness.request(Method::GET, "/api/v1/events/watch").bearer_auth(&harness.admin_key);
    let stream = request.send().await.expect("a stream");
    assert_eq!(stream.headers()[header::CONTENT_TYPE], "text/event-stream");
    harness.stop().await;
    stream.text().await.expect("ends in order");
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_keep_others_waiting() {
    let harness = Harness::start().await;
    let mut silent = tokio::net::TcpStream::connect(harness.address).await.expect("connects");
    assert_eq!(harness.get("/health").await.status, StatusCode::OK);
    silent.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("writes");
    let mut rest = Vec::new();
    // A TLS alert, or nothing: in any case the connection ends.
    let _ = silent.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_stranger_that_sends_nothing_is_put_out_however_far_it_has_come() {
    let harness = Harness::start().await;
    let connect = async || tokio::net::TcpStream::connect(harness.address).await.expect("connects");
    let encrypted = async |protocol: &[u8]| {
        let mut tls = cladnet_pki::client_config(&harness.ca_pem, None).expect("a TLS configuration");
        tls.alpn_protocols = vec![protocol.to_vec()];
        let name = "localhost".try_into().expect("a name");
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(tls)).connect(name, connect().await).await.expect("TLS")
    };
    let (mut raw, mut old, mut new) = (connect().await, encrypted(b"http/1.1").await, encrypted(b"h2").await);
    let mut begun = encrypted(b"h2").await;
    begun.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("writes");
    let mut taken = [const { Vec::new() }; 4];
    let [one, two, three, four] = &mut taken;
    // An error is an end, too: what is closed without a farewell is reset.
    let ends = async {
        tokio::join!(raw.read_to_end(one), old.read_to_end(two), new.read_to_end(three), begun.read_to_end(four))
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), ends).await.map(drop).expect("none of them may stay");
    assert_eq!(harness.get("/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn stun_tells_the_callers_address() {
    let harness = Harness::start().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let request = cladnet_stun::binding_request([7; 12]);
    socket.send_to(&request, harness.stun.expect("is on")).await.expect("sends");
    let mut buffer = [0; 256];
    let received = tokio::time::timeout(std::time::Duration::from_secs(30), socket.recv(&mut buffer)).await;
    let length = received.expect("an answer in time").expect("receives");
    let answer = cladnet_stun::parse_response(&buffer[..length]).expect("an answer");
    assert_eq!(answer, ([7; 12], socket.local_addr().expect("an address")));
}

#[tokio::test]
async fn reflection_lists_every_service() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let harness = Harness::start().await;
    let mut client = ServerReflectionClient::new(harness.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("open").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one").message_response.expect("a response");
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"cbnet.v1.CloudAdaptiveNetworkService"), "{names:?}");
    assert!(names.contains(&"cladnet.v1.NetworkService"), "{names:?}");
}

#[tokio::test]
async fn long_answers_to_questions_come_small_and_those_that_may_hold_a_secret_as_they_are() {
    let harness = Harness::start().await;
    for number in 0..10 {
        let body =
            serde_json::json!({"networkId": format!("n{number}"), "ipv4AddressSpace": format!("10.{number}.0.0/24")});
        assert_eq!(harness.post("/api/v1/networks", body).await.status, StatusCode::OK);
    }
    let asked = |method: Method, path: &str| {
        harness.request(method, path).bearer_auth(&harness.admin_key).header("accept-encoding", "gzip, br")
    };
    let long = asked(Method::GET, "/api/v1/events").send().await.expect("an answer");
    assert_eq!(long.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes()), Some(&b"gzip"[..]));
    assert!(long.headers().get_all(header::VARY).iter().any(|value| value == "accept-encoding"), "{long:?}");
    let small = long.bytes().await.expect("a body");
    let plain = harness.request(Method::GET, "/api/v1/events").bearer_auth(&harness.admin_key).send().await;
    let plain = plain.expect("an answer");
    assert!(!plain.headers().contains_key(header::CONTENT_ENCODING), "nobody asked for it: {plain:?}");
    let plain = plain.bytes().await.expect("a body");
    assert!(small.starts_with(&[0x1f, 0x8b]) && small.len() * 3 < plain.len(), "{} of {}", small.len(), plain.len());

    let key =
        |name: String| asked(Method::POST, "/api/v1/keys").json(&serde_json::json!({"name": name, "role": "viewer"}));
    let list = serde_json::json!({"hosts": 10, "limit": 50});
    for request in [
        key("a".repeat(60)),
        asked(Method::POST, "/api/v1/address-spaces/recommend").json(&list),
        asked(Method::GET, "/api/v1/info"),
        asked(Method::GET, "/api/v1/events/watch"),
    ] {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        assert!(!response.headers().contains_key(header::CONTENT_ENCODING), "{response:?}");
    }
}
