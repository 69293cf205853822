//! The embedded files, and how each is answered: from the browser's cache where it can be, compressed where that helps.

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};

/// What Vite built; empty if nobody asked it to. A file that compresses well has its `.gz` beside it.
#[derive(RustEmbed)]
#[folder = "dist/"]
#[allow_missing = true]
struct Dist;

/// The names of these files change with their contents.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Asked for again each time; the answer is mostly "as you have it".
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("no-cache");

/// Whether there is such a file.
pub(crate) fn exists(path: &str) -> bool {
    Dist::get(path).is_some()
}

/// The file at `path` as the caller wants it.
pub(crate) fn answer(path: &str, wanted: &HeaderMap) -> Response {
    let Some(file) = Dist::get(path) else { return (StatusCode::NOT_FOUND, "there is no such file\n").into_response() };
    let tag = tag(&file);
    let caching = if path.starts_with("assets/") { FOR_EVER } else { ASK_AGAIN };
    let about = [
        (header::ETAG, tag.clone()),
        (header::CACHE_CONTROL, caching),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if names(wanted, &header::IF_NONE_MATCH).any(|known| known == tag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    let kind = [(header::CONTENT_TYPE, content_type(path))];
    match Dist::get(&format!("{path}.gz")).filter(|_| takes_gzip(wanted)) {
        Some(smaller) => (about, kind, [(header::CONTENT_ENCODING, "gzip")], smaller.data).into_response(),
        None => (about, kind, file.data).into_response(),
    }
}

/// Weak, since the compressed file has the same one.
fn tag(file: &EmbeddedFile) -> HeaderValue {
    let hash: String = file.metadata.sha256_hash()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("W/\"{hash}\"")).expect("hex is legal in headers")
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn takes_gzip(wanted: &HeaderMap) -> bool {
    names(wanted, &header::ACCEPT_ENCODING).any(|coding| coding == "gzip")
}

/// The elements of a header that is a list; one with a parameter such as `gzip;q=0` is not that name.
fn names<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}
