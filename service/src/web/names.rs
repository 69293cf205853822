//! The names under which browsers may ask us. A site whose name is made to lead to our address (DNS rebinding) can have a
//! browser ask us, but not under one of these.

use std::net::IpAddr;

use axum::extract::Request;
use cladnet_pki::SERVICE_NAME;
use http::{StatusCode, header, uri::Authority};

use crate::{rest::problem::Problem, tls};

/// Names of ours in lower case; `*.` in front stands for one label. Addresses need no name: nobody can give them to others.
#[derive(Debug, Clone)]
pub(crate) struct OwnNames(Vec<String>);

impl OwnNames {
    /// `localhost`, the machine's name, the name that clients of ours ask for, and those that the operator gave.
    pub(crate) fn new(given: &[String]) -> Self {
        let fixed = ["localhost", SERVICE_NAME].map(str::to_owned);
        Self(tls::names(given).into_iter().chain(fixed).map(|name| name.to_ascii_lowercase()).collect())
    }

    /// By which name and port we were asked, if it is one of ours.
    pub(crate) fn check(&self, request: &Request) -> Result<Authority, Problem> {
        let asked = authority(request).ok_or_else(|| {
            let detail = "the request must say once to which host it goes, in the Host header or as :authority";
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        if self.has(asked.host()) {
            return Ok(asked);
        }
        let detail = format!(
            "this server is not known as {:?}; use its address or its own name, or start it with --tls-name {0}",
            asked.host()
        );
        Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail))
    }

    fn has(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = host.to_ascii_lowercase();
        let is_host = |name: &String| match name.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
            None => *name == host,
        };
        bare.parse::<IpAddr>().is_ok() || self.0.iter().any(is_host)
    }
}

/// HTTP/1.1 says it in `Host`, HTTP/2 in the URI; where both do they must agree.
pub(super) fn authority(request: &Request) -> Option<Authority> {
    let headers = request.headers().get_all(header::HOST).into_iter();
    let headers = headers.map(|value| value.to_str().ok().and_then(|text| text.parse::<Authority>().ok()));
    let mut all = headers.chain(request.uri().authority().cloned().map(Some));
    let first = all.next()?.filter(|authority| !authority.as_str().contains('@'))?;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(hosts: &[&str]) -> Result<String, StatusCode> {
        let names = OwnNames::new(&["cladnet.example".to_owned(), "*.vpn.example".to_owned()]);
        let request = hosts.iter().fold(Request::get("/"), |request, host| request.header(header::HOST, *host));
        let checked = names.check(&request.body(Body::empty()).unwrap());
        checked.map(|authority| authority.to_string()).map_err(|problem| problem.status)
    }

    #[test]
    fn addresses_and_names_of_ours_are_answered() {
        for host in [
            "localhost:8053",
            "LOCALHOST",
            "127.0.0.1:8053",
            "[::1]:8053",
            "203.0.113.5",
            "cladnet.example",
            "Cladnet.Example:8053",
            "eu.vpn.example:8053",
            "service.cladnet.internal",
        ] {
            assert_eq!(asked(&[host]), Ok(host.to_owned()));
        }
        let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
        assert!(asked(&[&format!("{own}:8053")]).is_ok(), "{own}");
    }

    #[test]
    fn names_of_others_are_not_answered() {
        for host in [
            "evil.example",
            "evil.example:8053",
            "cladnet.example.evil.example",
            "xcladnet.example",
            "localhost.evil.example",
            "vpn.example",
            ".vpn.example",
            "a.b.vpn.example",
            "127.0.0.1.evil.example",
            "localhost.",
        ] {
            assert_eq!(asked(&[host]), Err(StatusCode::MISDIRECTED_REQUEST), "{host}");
        }
    }

    #[test]
    fn who_does_not_say_whom_they_ask_or_says_it_twice_is_refused() {
        let refused = Err(StatusCode::BAD_REQUEST);
        assert_eq!(asked(&[]), refused);
        assert_eq!(asked(&["localhost", "evil.example"]), refused);
        assert_eq!(asked(&["a b"]), refused);
        assert_eq!(asked(&["evil.example@localhost"]), refused);
        let names = OwnNames::new(&[]);
        let both = Request::get("https://evil.example/").header(header::HOST, "localhost").body(Body::empty()).unwrap();
        assert_eq!(names.check(&both).map_err(|problem| problem.status), Err(StatusCode::BAD_REQUEST));
    }
}
