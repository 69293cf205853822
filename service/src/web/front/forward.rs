//! Hands a request on to the service and its answer back, piece by piece both ways: nothing is gathered, so streams of
//! events flow as they come. A request is in flight until its answer has been read to the end.

use std::net::{IpAddr, Ipv6Addr};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use cladnet_pki::{SERVICE_NAME, channel::ConnectError};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use tracing::warn;

use super::{body::Hurried, upstream::Upstream};
use crate::{
    connection::{Acquaintance, Connection},
    request_id::{self, RequestId},
    rest::{self, problem::Problem},
    web::names,
};

/// What belongs to one connection and not to the request on it (RFC 9110 §7.6.1), and what only gRPC's clients say.
const ONE_HOP: [HeaderName; 11] = [
    header::CONNECTION,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("grpc-timeout"),
];

/// Asks the service; one that cannot be asked is 502.
pub(super) async fn forward(State(upstream): State<Upstream>, request: Request) -> Response {
    let id = RequestId::of(request.extensions());
    let from = request.extensions().get::<Connection>().map(|connection| connection.remote.ip());
    let (channel, pass) = match upstream.enter(from.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))) {
        Ok(entered) => entered,
        Err(problem) => {
            rest::throw_away(request.into_body()).await;
            return problem.response(id.as_str());
        }
    };
    let acquaintance = request.extensions().get::<Acquaintance>().cloned();
    match channel.oneshot(outgoing(request.map(|body| Body::new(Hurried::new(body))), &id)).await {
        Ok(mut response) => {
            if let Some(acquaintance) = acquaintance.filter(|_| shows_that_we_know(response.status())) {
                acquaintance.make();
            }
            drop_one_hop(response.headers_mut());
            response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _in_flight = &pass;
                    frame
                }))
            })
        }
        Err(error) => {
            warn!(id = id.as_str(), error = &error as &dyn std::error::Error, "the service was not reached");
            Problem::new(StatusCode::BAD_GATEWAY, unreachable(&error)).response(id.as_str())
        }
    }
}

/// Whether the service has found a good credential in what it answered so. Everything below `/api/` needs one but signing
/// out, which is 204 for whoever wants it; everything else that went well is 200.
fn shows_that_we_know(status: StatusCode) -> bool {
    status == StatusCode::OK
}

/// The request as the service gets it: under its own name, with the id that our answer will carry. Whoever asked our page's
/// origin from it asks the service's from it.
fn outgoing(request: Request, id: &RequestId) -> http::Request<tonic::body::Body> {
    let own_origin = names::authority(&request).map(|own| format!("https://{own}"));
    let (mut parts, body) = request.into_parts();
    drop_one_hop(&mut parts.headers);
    parts.headers.remove(header::HOST);
    parts.headers.insert(request_id::HEADER, id.header_value());
    let from_own = parts
        .headers
        .get(header::ORIGIN)
        .is_some_and(|origin| own_origin.is_some_and(|own| origin.as_bytes().eq_ignore_ascii_case(own.as_bytes())));
    if let Some(origin) = parts.headers.get_mut(header::ORIGIN) {
        let service = || HeaderValue::try_from(format!("https://{SERVICE_NAME}")).expect("a fixed name");
        *origin = if from_own { service() } else { HeaderValue::from_static("null") };
    }
    let path = parts.uri.path_and_query().cloned();
    let mut outgoing = http::Request::new(tonic::body::Body::new(body));
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = path.map(Uri::from).unwrap_or_default();
    *outgoing.headers_mut() = parts.headers;
    outgoing
}

fn drop_one_hop(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok());
    let named: Vec<HeaderName> =
        named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in named.iter().chain(&ONE_HOP) {
        headers.remove(name);
    }
}

fn unreachable(error: &tonic::transport::Error) -> String {
    match ConnectError::find(error) {
        Some(error) => format!("{error}; the page works again when it does"),
        None => "the connection to the service broke; look whether the change happened before repeating it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use cladnet_model::{KeyTerms, Role};
    use futures_util::FutureExt as _;

    use super::*;
    use crate::agents::testing::House;

    #[test]
    fn what_belongs_to_the_connection_stays_and_the_rest_goes_on() {
        let request = Request::post("/api/v1/networks?a=b")
            .header("host", "admin.example:8054")
            .header("connection", "close, X-Mine")
            .header("x-mine", "1")
            .header("te", "trailers")
            .header("transfer-encoding", "chunked")
            .header("origin", "https://Admin.example:8054")
            .header("cookie", "__Host-cladnet=0a")
            .header("x-cladnet-request", "1");
        let sent = outgoing(request.body(Body::empty()).unwrap(), &RequestId::from_headers(&HeaderMap::new()));
        assert_eq!(sent.uri(), "/api/v1/networks?a=b");
        let mut names: Vec<&str> = sent.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["cookie", "origin", "x-cladnet-request", "x-request-id"]);
        assert_eq!(sent.headers()[header::ORIGIN], "https://service.cladnet.internal");
    }

    #[tokio::test]
    async fn whoever_shows_nothing_stays_a_stranger_and_whoever_shows_a_key_becomes_known() {
        let house = House::new().await;
        let replica = house.replica().await;
        let terms = KeyTerms { name: "guest".to_owned(), role: Role::Viewer, expires_at: None };
        let (_, key) = replica.service.create_key(terms, "test").await.expect("a key");
        let tls = cladnet_pki::client_config(&replica.ca_pem, None).expect("a configuration");
        let upstream = Upstream::new(&[format!("https://{}", replica.address).parse().expect("a URL")], &tls);
        let asked = async |request: http::request::Builder| {
            let acquaintance = Acquaintance::default();
            let request = request.header("host", "localhost:8054").header("origin", "https://localhost:8054");
            let request = request.extension(acquaintance.clone()).body(Body::empty()).expect("a request");
            let status = forward(State(upstream.clone()), request).await.status();
            (status, acquaintance.made().now_or_never().is_some())
        };
        for (request, status) in [
            (Request::get("/api/v1/networks"), StatusCode::UNAUTHORIZED),
            (Request::get("/api/v1/session"), StatusCode::UNAUTHORIZED),
            (Request::get("/api/v1/nothing"), StatusCode::NOT_FOUND),
            (Request::delete("/api/v1/session").header("x-cladnet-request", "1"), StatusCode::NO_CONTENT),
        ] {
            assert_eq!(asked(request).await, (status, false));
        }
        let bearer = Request::get("/api/v1/networks").header("authorization", format!("Bearer {key}"));
        assert_eq!(asked(bearer).await, (StatusCode::OK, true));
    }

    #[test]
    fn another_sites_origin_does_not_become_ours() {
        for origin in ["https://evil.example", "https://service.cladnet.internal", "https://localhost:8053", "null"] {
            let request = Request::post("/api/v1/x").header("host", "localhost:8054").header("origin", origin);
            let sent = outgoing(request.body(Body::empty()).unwrap(), &RequestId::from_headers(&HeaderMap::new()));
            assert_eq!(sent.headers()[header::ORIGIN], "null", "{origin}");
        }
    }
}
