use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

async fn ask(path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn the_first_page_is_there_or_says_how_to_make_it() {
    let response = ask("/", &[]).await;
    let built = response.status() == StatusCode::OK;
    let page = text(response).await;
    assert!(page.contains(if built { "type=\"module\"" } else { "./scripts/web-assets" }), "{page}");
}

#[tokio::test]
async fn nothing_inline_nothing_foreign_and_no_frame_is_allowed_on_any_answer() {
    for path in ["/", "/favicon.svg", "/assets/no-such-file.js"] {
        let response = ask(path, &[]).await;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(response.headers()[header::REFERRER_POLICY], "no-referrer", "{path}");
        assert_eq!(response.headers()["cross-origin-opener-policy"], "same-origin", "{path}");
        assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin", "{path}");
        assert!(response.headers().contains_key(header::STRICT_TRANSPORT_SECURITY), "{path}");
    }
}

#[tokio::test]
async fn no_file_is_reached_outside_the_assets() {
    for path in ["/assets/../index.html", "/assets/%2e%2e/index.html", "/assets//etc/passwd", "/assets/"] {
        assert_eq!(ask(path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn what_the_browser_has_is_not_sent_again_and_names_with_a_hash_are_kept() {
    let page = ask("/", &[]).await;
    if page.status() != StatusCode::OK {
        return; // not built here: there is nothing to keep
    }
    assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
    let tag = page.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(ask("/", &[(header::IF_NONE_MATCH, &tag)]).await.status(), StatusCode::NOT_MODIFIED);

    let page = text(page).await;
    let script = page.split('"').find(|part| part.ends_with(".js")).expect("the page names its script");
    let whole = ask(script.trim_start_matches('.'), &[]).await;
    assert_eq!(whole.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    assert_eq!(whole.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let smaller = ask(script.trim_start_matches('.'), &[(header::ACCEPT_ENCODING, "br, gzip")]).await;
    assert_eq!(smaller.headers()[header::CONTENT_ENCODING], "gzip");
    assert!(text_length(smaller).await < text_length(whole).await);
}

async fn text_length(response: Response) -> usize {
    response.into_body().collect().await.unwrap().to_bytes().len()
}
