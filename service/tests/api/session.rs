//! The admin web's session as browsers meet it, and as other sites that would borrow it do.

use cladnet_proto::cladnet::v1::{ListNetworksRequest, network_service_client::NetworkServiceClient};
use http::{Method, StatusCode, header};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::harness::{Answer, Harness, answer};

const SESSION: &str = "/api/v1/session";
const NETWORKS: &str = "/api/v1/networks";

/// What our own page sends.
fn from_page(request: RequestBuilder) -> RequestBuilder {
    request.header("sec-fetch-site", "same-origin").header("x-cladnet-request", "1")
}

async fn sign_in(harness: &Harness, key: &str, cookie: Option<&str>) -> Answer {
    let request = from_page(harness.request(Method::POST, SESSION)).json(&json!({"apiKey": key}));
    answer(cookie.into_iter().fold(request, |request, cookie| request.header("cookie", cookie))).await
}

/// `__Host-cladnet=…` as the browser sends it back.
fn cookie(answer: &Answer) -> String {
    let set = answer.headers[header::SET_COOKIE].to_str().expect("is text");
    set.split(';').next().expect("a pair").to_owned()
}

async fn signed_in(harness: &Harness, key: &str) -> String {
    let signed_in = sign_in(harness, key, None).await;
    assert_eq!(signed_in.status, StatusCode::OK, "{signed_in:?}");
    cookie(&signed_in)
}

async fn with(harness: &Harness, cookie: &str, method: Method, path: &str) -> Answer {
    answer(from_page(harness.request(method, path)).header("cookie", cookie)).await
}

fn is_problem(answer: &Answer, status: StatusCode, detail: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.headers[header::CONTENT_TYPE], "application/problem+json", "{answer:?}");
    assert!(answer.body["detail"].as_str().is_some_and(|told| told.contains(detail)), "no {detail:?} in {answer:?}");
    assert!(answer.body["request_id"].is_string(), "{answer:?}");
}

#[tokio::test]
async fn a_key_becomes_a_session_that_says_who_it_is_and_ends_by_signing_out() {
    let harness = Harness::start().await;
    let viewer = harness.key("viewer").await;
    let begun = sign_in(&harness, &viewer, None).await;
    assert_eq!(begun.status, StatusCode::OK, "{begun:?}");
    let set = begun.headers[header::SET_COOKIE].to_str().expect("is text");
    for attribute in ["__Host-cladnet=", "Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(set.contains(attribute), "{attribute} in {set}");
    }
    assert!(!set.contains("Domain"), "{set}");
    assert_eq!((&begun.body["name"], &begun.body["role"]), (&json!("a viewer"), &json!("viewer")));
    assert_eq!(begun.body["actions"], json!(["read"]));
    assert!(begun.body["keyId"].is_string() && begun.body["expiresAt"].is_string(), "{begun:?}");
    assert!(!begun.body.to_string().contains("cladnet_key"), "{begun:?}");

    let cookie = cookie(&begun);
    assert_eq!(with(&harness, &cookie, Method::GET, SESSION).await.body, begun.body);
    assert_eq!(with(&harness, &cookie, Method::GET, NETWORKS).await.status, StatusCode::OK);
    let denied = from_page(harness.request(Method::POST, NETWORKS)).header("cookie", &cookie).json(&json!({}));
    is_problem(&answer(denied).await, StatusCode::FORBIDDEN, "viewer");

    let ended = with(&harness, &cookie, Method::DELETE, SESSION).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{ended:?}");
    assert!(ended.headers[header::SET_COOKIE].to_str().expect("is text").contains("Max-Age=0"), "{ended:?}");
    is_problem(&with(&harness, &cookie, Method::GET, SESSION).await, StatusCode::UNAUTHORIZED, "sign in again");
    is_problem(&with(&harness, &cookie, Method::GET, NETWORKS).await, StatusCode::UNAUTHORIZED, "sign in again");
    assert_eq!(with(&harness, &cookie, Method::DELETE, SESSION).await.status, StatusCode::NO_CONTENT, "is harmless");
}

#[tokio::test]
async fn nobody_is_signed_in_without_a_cookie_and_a_wrong_one_is_taken_away() {
    let harness = Harness::start().await;
    let nobody = answer(harness.request(Method::GET, SESSION)).await;
    is_problem(&nobody, StatusCode::UNAUTHORIZED, "nobody is signed in");
    let unknown = format!("__Host-cladnet={}", "0a".repeat(32));
    for wrong in [unknown.as_str(), "__Host-cladnet=nonsense", "__Host-cladnet="] {
        let refused = with(&harness, wrong, Method::GET, SESSION).await;
        is_problem(&refused, StatusCode::UNAUTHORIZED, "sign in again");
        assert!(refused.headers[header::SET_COOKIE].to_str().expect("is text").contains("Max-Age=0"), "{refused:?}");
    }
}

#[tokio::test]
async fn signing_in_again_gives_a_new_secret_and_ends_the_old_session() {
    let harness = Harness::start().await;
    let first = signed_in(&harness, &harness.admin_key).await;
    let second = cookie(&sign_in(&harness, &harness.admin_key, Some(&first)).await);
    assert_ne!(first, second);
    assert_eq!(with(&harness, &first, Method::GET, NETWORKS).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(with(&harness, &second, Method::GET, NETWORKS).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_session_ends_at_once_with_its_key() {
    let harness = Harness::start().await;
    let viewer = harness.key("viewer").await;
    let signed = sign_in(&harness, &viewer, None).await;
    let path = format!("/api/v1/keys/{}", signed.body["keyId"].as_str().expect("an id"));
    assert_eq!(harness.rest(Method::DELETE, &path, None).await.status, StatusCode::OK);
    assert_eq!(with(&harness, &cookie(&signed), Method::GET, NETWORKS).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(with(&harness, &cookie(&signed), Method::GET, SESSION).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn wrong_keys_are_refused_and_counted_and_right_ones_never_wait() {
    let harness = Harness::start().await;
    for (body, status) in [
        (json!({"apiKey": "cladnet_key_nobody"}), StatusCode::UNAUTHORIZED),
        (json!({"apiKey": ""}), StatusCode::UNAUTHORIZED),
        (json!({"apiKey": 7}), StatusCode::BAD_REQUEST),
        (json!({"api_key": harness.admin_key}), StatusCode::BAD_REQUEST),
        (json!({}), StatusCode::BAD_REQUEST),
    ] {
        let refused = answer(from_page(harness.request(Method::POST, SESSION)).json(&body)).await;
        is_problem(&refused, status, "");
        assert!(!refused.headers.contains_key(header::SET_COOKIE), "{refused:?}");
        assert!(!refused.body.to_string().contains("nobody"), "the answer repeats no key: {refused:?}");
    }
    let mut last = StatusCode::UNAUTHORIZED;
    for _ in 0..40 {
        last = sign_in(&harness, "cladnet_key_nobody", None).await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(harness.rest_as(Some("wrong"), Method::GET, NETWORKS, None).await.status, last, "it is the same gate");
    signed_in(&harness, &harness.admin_key).await;
}

#[tokio::test]
async fn no_other_site_signs_anybody_in_or_out_or_changes_anything() {
    let harness = Harness::start().await;
    let cookie = signed_in(&harness, &harness.admin_key).await;
    let wish = || json!({"networkId": "stolen", "ipv4AddressSpace": "10.0.0.0/24"});
    let key = || json!({"apiKey": harness.admin_key});
    for (path, body) in [(NETWORKS, wish()), (SESSION, key())] {
        let request = || harness.request(Method::POST, path).header("cookie", &cookie);
        let header = |request: RequestBuilder| request.header("x-cladnet-request", "1");
        let site = |request: RequestBuilder| request.header("sec-fetch-site", "same-origin");

        let cross_site = header(request()).header("sec-fetch-site", "cross-site").json(&body);
        is_problem(&answer(cross_site).await, StatusCode::FORBIDDEN, "another site");
        let same_site = header(request()).header("sec-fetch-site", "same-site").json(&body);
        is_problem(&answer(same_site).await, StatusCode::FORBIDDEN, "another site");
        let origin = header(request()).header("origin", "https://evil.example").json(&body);
        is_problem(&answer(origin).await, StatusCode::FORBIDDEN, "another site");
        let silent = header(request()).json(&body);
        is_problem(&answer(silent).await, StatusCode::FORBIDDEN, "another site");
        let headerless = site(request()).json(&body);
        is_problem(&answer(headerless).await, StatusCode::FORBIDDEN, "X-Cladnet-Request: 1");
        let form = site(header(request())).header("content-type", "application/x-www-form-urlencoded").body("a=b");
        is_problem(&answer(form).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json");
        let plain = site(header(request())).header("content-type", "text/plain").body(body.to_string());
        is_problem(&answer(plain).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json");
        let untyped = site(header(request())).body(body.to_string());
        is_problem(&answer(untyped).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json");
        let grpc = site(header(request())).header("content-type", "application/grpc").body(body.to_string());
        is_problem(&answer(grpc).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json");
    }
    let sign_out = harness.request(Method::DELETE, SESSION).header("cookie", &cookie);
    is_problem(&answer(sign_out).await, StatusCode::FORBIDDEN, "another site");

    assert_eq!(harness.get("/api/v1/networks/stolen").await.status, StatusCode::NOT_FOUND);
    assert_eq!(with(&harness, &cookie, Method::GET, SESSION).await.status, StatusCode::OK);
    let port = harness.address.port();
    let old_browser = harness.request(Method::POST, NETWORKS).header("cookie", &cookie);
    let old_browser =
        old_browser.header("origin", format!("https://localhost:{port}")).header("x-cladnet-request", "1");
    assert_eq!(
        answer(old_browser.json(&wish())).await.status,
        StatusCode::OK,
        "our page in a browser without Sec-Fetch"
    );
}

#[tokio::test]
async fn a_name_that_is_made_to_lead_here_gets_nothing() {
    let harness = Harness::start().await;
    let cookie = signed_in(&harness, &harness.admin_key).await;
    for (method, path) in
        [(Method::GET, NETWORKS), (Method::GET, SESSION), (Method::DELETE, SESSION), (Method::GET, "/")]
    {
        let request = from_page(harness.request(method, path)).header("cookie", &cookie);
        let refused = answer(request.header("host", "evil.example")).await;
        is_problem(&refused, StatusCode::MISDIRECTED_REQUEST, "--tls-name evil.example");
    }
    let sign_in = from_page(harness.request(Method::POST, SESSION)).header("host", "evil.example");
    let refused = answer(sign_in.json(&json!({"apiKey": harness.admin_key}))).await;
    is_problem(&refused, StatusCode::MISDIRECTED_REQUEST, "evil.example");
    let bearer = harness.request(Method::GET, NETWORKS).bearer_auth(&harness.admin_key).header("host", "any.example");
    assert_eq!(answer(bearer).await.status, StatusCode::OK, "a bearer's key is sent by nobody but its owner");
}

#[tokio::test]
async fn cb_networks_interface_and_grpc_take_no_cookie() {
    let harness = Harness::start().await;
    let cookie = signed_in(&harness, &harness.admin_key).await;
    for path in ["/v1/cladnet", "/v1/cladnet/prod/peer", "/v1/control/cladnet/prod/command/suspend"] {
        assert_eq!(with(&harness, &cookie, Method::GET, path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    let mut grpc = NetworkServiceClient::new(harness.channel().await);
    let mut request = Request::new(ListNetworksRequest::default());
    for (name, value) in [("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin"), ("x-cladnet-request", "1")] {
        request.metadata_mut().insert(name, value.parse().expect("is ASCII"));
    }
    let refused = grpc.list_networks(request).await.expect_err("gRPC takes no cookies");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}

#[tokio::test]
async fn a_stream_goes_by_cookie_and_ends_with_the_session() {
    let harness = Harness::start().await;
    let cookie = signed_in(&harness, &harness.admin_key).await;
    let request = harness.request(Method::GET, "/api/v1/events/watch").header("cookie", &cookie);
    let mut stream = request.send().await.expect("a stream");
    assert_eq!(stream.headers()[header::CONTENT_TYPE], "text/event-stream");
    harness.post(NETWORKS, json!({"networkId": "prod", "ipv4AddressSpace": "10.0.0.0/24"})).await;
    assert_eq!(next_data(&mut stream).await["kind"], "network.created");
    assert_eq!(with(&harness, &cookie, Method::DELETE, SESSION).await.status, StatusCode::NO_CONTENT);
    assert_eq!(next_data(&mut stream).await["status"], 401, "a last word");
    assert!(stream.chunk().await.expect("ends in order").is_none());
}

/// The data of the next server-sent event.
async fn next_data(stream: &mut Response) -> Value {
    let mut text = String::new();
    loop {
        let chunk = stream.chunk().await.expect("reads").expect("goes on");
        text.push_str(std::str::from_utf8(&chunk).expect("is text"));
        if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")).filter(|_| text.contains("\n\n"))
        {
            return serde_json::from_str(data).expect("is JSON");
        }
    }
}
