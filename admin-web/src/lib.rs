//! The admin web's pages, embedded in the binary: a router that serves them and says what browsers may do with them.
//! Knows no API and no session: the pages call `/api/` of the origin they came from, whoever serves that.
//!
//! `scripts/web-assets` builds the pages from `ui/`; without them the crate builds too, and `/` says how to make them.

mod assets;
mod headers;

use axum::{
    Router,
    extract::Path,
    middleware::map_response,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};

/// Told in place of the pages where nobody has built them.
const MISSING: &str = include_str!("missing.html");

/// Serves `/`, `/favicon.svg` and `/assets/`; where in the page one is stands behind `#`, which no server sees.
pub fn router() -> Router {
    Router::new()
        .route("/", get(index))
        .route("/favicon.svg", get(async |headers: HeaderMap| assets::answer("favicon.svg", &headers)))
        .route("/assets/{*file}", get(asset))
        .layer(map_response(headers::guard))
}

async fn index(headers: HeaderMap) -> Response {
    if assets::exists("index.html") { assets::answer("index.html", &headers) } else { missing() }
}

async fn asset(Path(file): Path<String>, headers: HeaderMap) -> Response {
    assets::answer(&format!("assets/{file}"), &headers)
}

fn missing() -> Response {
    let html = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::NOT_FOUND, html, MISSING).into_response()
}

#[cfg(test)]
mod tests;
