//! Around every request, gRPC or REST: its id, its span, a net for panics, and the headers that every answer carries.

use std::panic::AssertUnwindSafe;

use axum::{extract::Request, middleware::Next, response::Response};
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tonic::Status;
use tracing::{Instrument as _, debug, debug_span, error};

use crate::{
    request_id::{self, RequestId},
    rest::problem::Problem,
};

/// What browsers may do with an answer that is no page of ours: nothing.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'");

const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000")),
];

/// Whether a request speaks gRPC, and so wants its answers in gRPC.
pub(crate) fn is_grpc(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The outermost layer.
pub(crate) async fn wrap(mut request: Request, next: Next) -> Response {
    let id = RequestId::from_headers(request.headers());
    request.extensions_mut().insert(id.clone());
    let grpc = is_grpc(&request);
    let span = debug_span!("request", id = id.as_str(), method = %request.method(), path = request.uri().path());
    let answer = async move {
        match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => {
                debug!(status = response.status().as_u16(), "answered");
                response
            }
            Err(panic) => {
                error!(panic = message(&*panic), "a handler panicked");
                broken(grpc)(&id)
            }
        }
        .tagged(&id)
    };
    answer.instrument(span).await
}

fn broken(grpc: bool) -> fn(&RequestId) -> Response {
    const TEXT: &str = "something went wrong inside the service; its log has more under the request's id";
    if grpc {
        |id| Status::internal(format!("{TEXT}: {}", id.as_str())).into_http()
    } else {
        |id| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, TEXT).response(id.as_str())
    }
}

/// What a panic says.
pub(crate) fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

trait Tagged {
    fn tagged(self, id: &RequestId) -> Self;
}

impl Tagged for Response {
    /// Adds the request's id and what every answer says to browsers; a page's own policy stays.
    fn tagged(mut self, id: &RequestId) -> Self {
        let headers = self.headers_mut();
        headers.insert(request_id::HEADER, id.header_value());
        headers.extend(HEADERS);
        headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(POLICY);
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        self
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn, routing::any};
    use tonic::Code;
    use tower::ServiceExt as _;

    use super::*;

    async fn answer(request: http::request::Builder) -> Response {
        async fn buggy() -> StatusCode {
            panic!("a bug")
        }
        let router = Router::new().route("/", any(buggy)).layer(from_fn(wrap));
        router.oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer")
    }

    #[tokio::test]
    async fn a_panic_becomes_500_with_the_requests_id() {
        let response = answer(Request::builder().header("x-request-id", "r-1")).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[request_id::HEADER], "r-1");
        let body = axum::body::to_bytes(response.into_body(), 4096).await.expect("a body");
        let text = std::str::from_utf8(&body).expect("is text");
        assert!(text.contains("r-1") && !text.contains("a bug"), "{text}");
    }

    #[tokio::test]
    async fn a_panic_under_grpc_becomes_internal_with_the_requests_id() {
        let request = Request::builder().header(header::CONTENT_TYPE, "application/grpc").header("x-request-id", "r-2");
        let response = answer(request).await;
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("r-2"), "{status}");
    }
}
