//! Where a service is: `https://HOST[:PORT]`, as admins and join commands write it.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use http::Uri;

/// TCP port of the service.
pub const DEFAULT_PORT: u16 = 8053;

/// A service's address. TLS only, no path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceUrl {
    host: String,
    port: u16,
}

/// Why a text is no [`ServiceUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("{0:?} is not a URL; write https://HOST:{DEFAULT_PORT}")]
    Malformed(String),
    #[error("{0:?} is not https; the service speaks TLS only: write https://HOST:{DEFAULT_PORT}")]
    Scheme(String),
    #[error("{0:?} has a path; write https://HOST:{DEFAULT_PORT} alone")]
    Path(String),
}

impl ServiceUrl {
    /// A name or an address; IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port; its UDP twin answers STUN.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServiceUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let authority = uri.authority().ok_or_else(malformed)?;
        if uri.scheme_str().ok_or_else(malformed)? != "https" {
            return Err(UrlError::Scheme(text.to_owned()));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(UrlError::Path(text.to_owned()));
        }
        let host = match authority.host().strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().map_err(|_| malformed())?.to_string(),
            None => authority.host().to_owned(),
        };
        let rest = &authority.as_str()[authority.host().len()..];
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| malformed())?,
            None if rest.is_empty() => DEFAULT_PORT,
            None => return Err(malformed()),
        };
        if host.is_empty() || host.contains(['[', ']']) || port == 0 {
            return Err(malformed());
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_optional_and_ipv6_stands_in_brackets() {
        for (text, host, port, again) in [
            ("https://cladnet.example", "cladnet.example", 8053, "https://cladnet.example:8053"),
            ("https://198.51.100.7:443/", "198.51.100.7", 443, "https://198.51.100.7:443"),
            ("https://[2001:db8::1]", "2001:db8::1", 8053, "https://[2001:db8::1]:8053"),
            ("https://[2001:db8::1]:99", "2001:db8::1", 99, "https://[2001:db8::1]:99"),
        ] {
            let url: ServiceUrl = text.parse().expect(text);
            assert_eq!((url.host(), url.port(), url.to_string().as_str()), (host, port, again));
        }
    }

    #[test]
    fn what_is_no_service_is_refused_with_what_would_be_right() {
        let hosts = ["https://u@a", "https://a[]", "https://[a]", "https://[2001:db8::1"];
        let ports = ["https://a:b", "https://a:0", "https://a:70000"];
        for text in ["", "cladnet.example", "https://"].into_iter().chain(hosts).chain(ports) {
            assert!(matches!(text.parse::<ServiceUrl>(), Err(UrlError::Malformed(_))), "{text}");
        }
        assert!(matches!("http://a".parse::<ServiceUrl>(), Err(UrlError::Scheme(_))));
        assert!(matches!("https://a/x".parse::<ServiceUrl>(), Err(UrlError::Path(_))));
    }
}
