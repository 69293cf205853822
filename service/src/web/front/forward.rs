//! Hands a request on to the service and its answer back, piece by piece both ways: nothing is gathered, so streams of
//! events flow as they come.

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use cladnet_pki::{SERVICE_NAME, channel::ConnectError};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use tonic::transport::Channel;
use tower::ServiceExt as _;
use tracing::warn;

use crate::{
    connection::Acquaintance,
    request_id::{self, RequestId},
    rest::problem::Problem,
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

/// The service behind; reconnects by itself.
#[derive(Clone)]
pub(super) struct Upstream(Channel);

impl Upstream {
    pub(super) fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

/// Asks the service; one that cannot be asked is 502.
pub(super) async fn forward(State(Upstream(channel)): State<Upstream>, request: Request) -> Response {
    let id = RequestId::of(request.extensions());
    // Who may ask what for how long is for the service to say.
    if let Some(acquaintance) = request.extensions().get::<Acquaintance>() {
        acquaintance.make();
    }
    match channel.oneshot(outgoing(request, &id)).await {
        Ok(mut response) => {
            drop_one_hop(response.headers_mut());
            response.map(Body::new)
        }
        Err(error) => {
            warn!(id = id.as_str(), error = &error as &dyn std::error::Error, "the service was not reached");
            Problem::new(StatusCode::BAD_GATEWAY, unreachable(&error)).response(id.as_str())
        }
    }
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
    use super::*;

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

    #[test]
    fn another_sites_origin_does_not_become_ours() {
        for origin in ["https://evil.example", "https://service.cladnet.internal", "https://localhost:8053", "null"] {
            let request = Request::post("/api/v1/x").header("host", "localhost:8054").header("origin", origin);
            let sent = outgoing(request.body(Body::empty()).unwrap(), &RequestId::from_headers(&HeaderMap::new()));
            assert_eq!(sent.headers()[header::ORIGIN], "null", "{origin}");
        }
    }
}
