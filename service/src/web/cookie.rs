//! The cookie that holds a session's secret. Its prefix makes browsers refuse one that another host, a subdomain or a page
//! without TLS has set; its attributes keep it from scripts and from requests that other sites cause.

use cladnet_model::SessionSecret;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header};

const NAME: &str = "__Host-cladnet";

/// The secret in a request's cookies: none without our cookie, `Some(None)` if ours holds no secret.
pub(super) fn find(headers: &HeaderMap) -> Option<Option<SessionSecret>> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(Cookie::split_parse).filter_map(Result::ok);
    cookies.find(|cookie| cookie.name() == NAME).map(|cookie| cookie.value().parse().ok())
}

/// Gives the browser a secret; it forgets it when it is closed.
pub(super) fn set(secret: &SessionSecret) -> HeaderValue {
    header_value(&cookie(secret.to_string()))
}

/// Takes it away.
pub(super) fn clear() -> HeaderValue {
    let mut cookie = cookie(String::new());
    cookie.make_removal();
    header_value(&cookie)
}

fn cookie(value: String) -> Cookie<'static> {
    Cookie::build((NAME, value)).path("/").secure(true).http_only(true).same_site(SameSite::Strict).build()
}

fn header_value(cookie: &Cookie<'_>) -> HeaderValue {
    HeaderValue::try_from(cookie.to_string()).expect("a name, hexadecimal digits and attributes are legal in headers")
}

#[cfg(test)]
mod tests {
    use cladnet_model::Secret;

    use super::*;

    #[test]
    fn a_cookie_comes_back_among_others_and_says_where_it_may_go() {
        let secret = SessionSecret::new(Secret::new([7; 32]));
        let told = set(&secret).to_str().unwrap().to_owned();
        let (pair, attributes) = told.split_once("; ").unwrap();
        let mut attributes: Vec<_> = attributes.split("; ").collect();
        attributes.sort_unstable();
        assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"]);
        let headers = |line: &str| HeaderMap::from_iter([(header::COOKIE, line.parse().unwrap())]);
        assert_eq!(find(&headers(&format!("a=b; {pair}; c=d"))), Some(Some(secret)));
        assert_eq!(find(&headers("__Host-cladnet=nonsense")), Some(None));
        assert_eq!(find(&headers("cladnet=1; x__Host-cladnet=2")), None);
    }

    #[test]
    fn a_removal_is_for_the_same_cookie_and_at_once() {
        let told = clear().to_str().unwrap().to_owned();
        assert!(told.starts_with("__Host-cladnet=;") && told.contains("Max-Age=0"), "{told}");
        for attribute in ["HttpOnly", "Path=/", "SameSite=Strict", "Secure"] {
            assert!(told.contains(attribute), "{told}");
        }
    }
}
