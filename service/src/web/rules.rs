//! What a request must keep to that comes with a session's cookie. Browsers send cookies by themselves, so the cookie alone
//! says who sits there and not that they want this.

use axum::{body::HttpBody as _, extract::Request, http::HeaderName};
use http::{HeaderMap, StatusCode, header, uri::Authority};

use super::names::OwnNames;
use crate::rest::problem::Problem;

/// What no form can send, nor a script of another site without asking first.
const OURS: HeaderName = HeaderName::from_static("x-cladnet-request");
/// What browsers say of the page behind a request; scripts cannot write it.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Every request: to a name of ours, and from no other site, streams included. One that may change something: from our own
/// page, with our header, and JSON if anything.
pub(super) fn check(names: &OwnNames, request: &Request) -> Result<(), Problem> {
    let own = names.check(request)?;
    let (headers, is_safe) = (request.headers(), request.method().is_safe());
    if !is_from(headers, &own, is_safe) {
        let detail = "only the page of this very server may send this; another site, or no browser at all, did";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if is_safe {
        return Ok(());
    }
    if headers.get(OURS).is_none_or(|value| value != "1") {
        let detail = "with the page's session every change needs the header \"X-Cladnet-Request: 1\"";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    if !(is_json(headers) || (request.body().is_end_stream() && !headers.contains_key(header::CONTENT_TYPE))) {
        let detail = "with the page's session a body must be JSON: send the header \"Content-Type: application/json\"";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    Ok(())
}

/// Whether a page of `own` sent it. Browsers without `Sec-Fetch-Site` tell the page's origin on what may change something.
/// A question may come from nowhere as well: somebody has typed its address, or such a browser tells nothing.
fn is_from(headers: &HeaderMap, own: &Authority, is_safe: bool) -> bool {
    let mut sites = headers.get_all(SITE).into_iter().peekable();
    if sites.peek().is_some() {
        return sites.all(|site| site == "same-origin" || (is_safe && site == "none"));
    }
    let mut origins = headers.get_all(header::ORIGIN).into_iter().peekable();
    let is_own = |origin: &http::HeaderValue| {
        let origin = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(own.as_str()))
    };
    (is_safe || origins.peek().is_some()) && origins.all(is_own)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Method;

    use super::*;

    fn judged(method: Method, headers: &[(&str, &str)], body: &'static str) -> Result<(), StatusCode> {
        let request = headers
            .iter()
            .fold(Request::builder().method(method), |request, (name, value)| request.header(*name, *value));
        let request = request.header("host", "localhost:8053").body(Body::from(body)).unwrap();
        check(&OwnNames::new(&[]), &request).map_err(|problem| problem.status)
    }

    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
    const PAGE: (&str, &str) = ("x-cladnet-request", "1");
    const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

    #[test]
    fn our_page_may_change_things() {
        assert_eq!(judged(Method::POST, &[SAME, PAGE, JSON], "{}"), Ok(()));
        assert_eq!(judged(Method::POST, &[("origin", "https://localhost:8053"), PAGE, JSON], "{}"), Ok(()));
        assert_eq!(judged(Method::DELETE, &[SAME, PAGE], ""), Ok(()));
        assert_eq!(judged(Method::GET, &[], ""), Ok(()), "a GET changes nothing");
        assert_eq!(judged(Method::GET, &[SAME], ""), Ok(()));
        assert_eq!(judged(Method::GET, &[("sec-fetch-site", "none")], ""), Ok(()), "somebody typed it");
    }

    #[test]
    fn another_site_may_not() {
        let forbidden = Err(StatusCode::FORBIDDEN);
        for site in ["cross-site", "same-site", "none", ""] {
            assert_eq!(judged(Method::POST, &[("sec-fetch-site", site), PAGE, JSON], "{}"), forbidden, "{site}");
        }
        let both = [("sec-fetch-site", "cross-site"), ("origin", "https://localhost:8053"), PAGE, JSON];
        assert_eq!(judged(Method::POST, &both, "{}"), forbidden, "Sec-Fetch-Site decides where it is");
        for origin in
            ["https://evil.example", "https://localhost", "https://localhost:80531", "http://localhost:8053", "null"]
        {
            assert_eq!(judged(Method::POST, &[("origin", origin), PAGE, JSON], "{}"), forbidden, "{origin}");
        }
        assert_eq!(judged(Method::POST, &[PAGE, JSON], "{}"), forbidden, "neither header");
        for asked in [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "null")] {
            assert_eq!(judged(Method::GET, &[asked], ""), forbidden, "{asked:?}");
        }
    }

    #[test]
    fn a_form_cannot() {
        for kind in ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "application/grpc"] {
            let refused = judged(Method::POST, &[SAME, PAGE, ("content-type", kind)], "a=b");
            assert_eq!(refused, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{kind}");
        }
        assert_eq!(
            judged(Method::POST, &[SAME, PAGE], "{}"),
            Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            "no type at all"
        );
        assert_eq!(judged(Method::POST, &[SAME, JSON], "{}"), Err(StatusCode::FORBIDDEN), "no header of ours");
        assert_eq!(judged(Method::PATCH, &[SAME, JSON, ("x-cladnet-request", "0")], "{}"), Err(StatusCode::FORBIDDEN));
    }
}
