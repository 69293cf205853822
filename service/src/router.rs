//! One router for everything on the port: REST and pages by their paths, the rest by content type.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use http::StatusCode;
use prost_reflect::DescriptorPool;
use tonic::Status;
use tower::ServiceExt as _;

use crate::{
    Service, auth, docs, envelope, grpc, health,
    request_id::RequestId,
    rest::{self, binding::Dialect, problem::Problem},
    web,
};

/// Everything, with the pages of the admin web.
pub(crate) fn full(service: &Arc<Service>, pages: Router) -> Router {
    let pool = descriptors();
    let grpc = guarded(service, grpc::all(service));
    let rest = rest::router(service, &pool, &grpc, |_| true);
    let documents = docs::cladnet(&pool).merge(docs::cbnet(&pool));
    let pages = pages.layer(from_fn_with_state(service.names.clone(), web::own_names_only));
    let own = [documents, pages, web::router(service), health::router(service)];
    compose(own.into_iter().fold(rest, Router::merge), grpc).layer(from_fn(envelope::wrap))
}

/// In place of the pages: the documents.
pub(crate) fn no_pages() -> Router {
    Router::new().route("/", get(|| async { Redirect::to("/docs/") }))
}

/// Every RPC, for callers inside this process.
pub(crate) fn grpc_only(service: &Arc<Service>) -> Router {
    guarded(service, grpc::all(service))
}

/// `cbnet.v1` alone, for the listener without TLS.
pub(crate) fn cbnet_only(service: &Arc<Service>) -> Router {
    let pool = descriptors();
    let grpc = guarded(service, grpc::cbnet(service));
    let rest = rest::router(service, &pool, &grpc, |dialect| dialect == Dialect::Cbnet);
    compose(rest.merge(docs::cbnet(&pool)), grpc).layer(from_fn(refuse_browsers)).layer(from_fn(envelope::wrap))
}

/// Every descriptor of ours.
pub(crate) fn descriptors() -> DescriptorPool {
    DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("the descriptors were made by our own build")
}

/// gRPC services behind authentication; what they do not know was refused there.
fn guarded(service: &Arc<Service>, grpc: tonic::service::Routes) -> Router {
    let unknown = async |request: Request| {
        Status::unimplemented(format!("there is no RPC {}", request.uri().path())).into_http::<axum::body::Body>()
    };
    grpc.into_axum_router()
        .reset_fallback()
        .fallback(unknown)
        .layer(from_fn_with_state(service.clone(), auth::authorize))
}

fn compose(rest: Router, grpc: Router) -> Router {
    rest.method_not_allowed_fallback(async |request: Request| {
        let detail = format!("{} cannot be {}", request.uri().path(), verb(request.method()));
        problem(StatusCode::METHOD_NOT_ALLOWED, &detail, &request)
    })
    .fallback(async |request: Request| {
        if envelope::is_grpc(&request) {
            return grpc.oneshot(request).await.into_response();
        }
        problem(StatusCode::NOT_FOUND, &format!("there is nothing at {}", request.uri().path()), &request)
    })
}

fn verb(method: &http::Method) -> &'static str {
    match *method {
        http::Method::GET | http::Method::HEAD => "read (GET)",
        http::Method::POST => "posted to (POST)",
        http::Method::PUT => "replaced (PUT)",
        http::Method::PATCH => "changed (PATCH)",
        http::Method::DELETE => "deleted (DELETE)",
        _ => "called with this method",
    }
}

fn problem(status: StatusCode, detail: &str, request: &Request) -> Response {
    Problem::new(status, detail).response(RequestId::of(request.extensions()).as_str())
}

/// A page in a browser on this machine must not reach the listener without TLS, whatever site it comes from.
async fn refuse_browsers(request: Request, next: axum::middleware::Next) -> Response {
    let from_browser =
        |name: &http::HeaderName| name == http::header::ORIGIN || name.as_str().starts_with("sec-fetch-");
    if request.headers().keys().any(from_browser) {
        let detail = "this listener is for programs on this machine, not for browsers; use the TLS port";
        return problem(StatusCode::FORBIDDEN, detail, &request);
    }
    next.run(request).await
}
