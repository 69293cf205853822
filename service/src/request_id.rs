//! The id of a request: taken from `x-request-id` or made here, told in the answer, in problem documents and in every log
//! line about the request.

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use rand::random;

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken from a caller.
const MAX_LENGTH: usize = 64;

/// Kept in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    /// The caller's own id if it is harmless in a log line, else a fresh one.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let harmless = |id: &&str| {
            (1..=MAX_LENGTH).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        };
        match headers.get(HEADER).and_then(|value| value.to_str().ok()).filter(harmless) {
            Some(id) => Self(id.into()),
            None => Self::fresh(),
        }
    }

    fn fresh() -> Self {
        Self(format!("{:032x}", random::<u128>()).into())
    }

    /// The id of the request that these extensions belong to.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get::<Self>().cloned().unwrap_or_else(Self::fresh)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("ids are letters, digits and hyphens")
    }
}
