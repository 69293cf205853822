//! The pages that show the interfaces to people, offline: `/docs/` for ours, `/swagger/` for cb-network's, each with the
//! document it shows.

use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn,
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get},
};
use http::{HeaderValue, header};
use prost_reflect::DescriptorPool;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::openapi::{openapi, swagger};

/// What Swagger UI needs and no more: its own scripts, the styles it writes into elements, its inline images, and
/// calls to where it came from.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
);

const OPENAPI: &str = "/openapi.json";
const SWAGGER: &str = "/cloud_barista_network.swagger.json";

/// Our interface and its page.
pub(crate) fn cladnet(pool: &DescriptorPool) -> Router {
    Router::new().route(OPENAPI, document(&openapi(pool))).merge(page("/docs", OPENAPI))
}

/// cb-network's interface and its page.
pub(crate) fn cbnet(pool: &DescriptorPool) -> Router {
    Router::new().route(SWAGGER, document(&swagger(pool))).merge(page("/swagger", SWAGGER))
}

fn document(document: &serde_json::Value) -> MethodRouter {
    let text: Arc<str> = document.to_string().into();
    get(async move || ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response())
}

fn page(path: &'static str, document: &'static str) -> Router {
    let ui = SwaggerUi::new(path)
        .config(Config::new([document]).try_it_out_enabled(true).persist_authorization(false).validator_url("none"));
    Router::from(ui).layer(from_fn(async |request, next: axum::middleware::Next| {
        let mut response: Response = next.run(request).await;
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY);
        response
    }))
}
