//! The HTTP of metadata services: plain, link-local, distrusted. No proxy, no redirect, short time-outs, small bodies.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect::Policy};
use serde::de::DeserializeOwned;

/// The service is on this machine's own host, or nowhere.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(2);
/// An identity document has 2 KiB.
const MAX_BODY: usize = 64 << 10;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("nobody answers")]
    Nobody,
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url} {problem}")]
    Answer { url: String, problem: String },
    #[error("the metadata client cannot be made ({0})")]
    Client(reqwest::Error),
}

/// Asks one question after the other.
pub(super) struct Http(Client);

impl Http {
    pub(super) fn new() -> Result<Self, HttpError> {
        cladnet_pki::install_crypto_provider();
        let client = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            // Nothing here speaks TLS, so no authority is read from disk.
            .tls_certs_only([])
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(HttpError::Client)?;
        Ok(Self(client))
    }

    pub(super) fn get(&self, url: &str) -> Question {
        Question { request: self.0.get(url), url: url.to_owned() }
    }

    pub(super) fn put(&self, url: &str) -> Question {
        Question { request: self.0.request(Method::PUT, url).header("content-length", "0"), url: url.to_owned() }
    }
}

/// One question.
pub(super) struct Question {
    request: RequestBuilder,
    url: String,
}

impl Question {
    pub(super) fn header(self, name: &str, value: &str) -> Self {
        Self { request: self.request.header(name, value), ..self }
    }

    /// The body as text.
    pub(super) async fn text(self) -> Result<String, HttpError> {
        self.answer().await.map(|answer| answer.text)
    }

    /// The body as text; none if the service says that there is no such thing.
    pub(super) async fn optional_text(self) -> Result<Option<String>, HttpError> {
        match self.text().await {
            Ok(text) => Ok(Some(text)),
            Err(HttpError::Status { status: StatusCode::NOT_FOUND, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, HttpError> {
        let url = self.url.clone();
        let text = self.text().await?;
        serde_json::from_str(&text)
            .map_err(|error| HttpError::Answer { url, problem: format!("is not as expected: {error}") })
    }

    /// Body and headers.
    pub(super) async fn answer(self) -> Result<Answer, HttpError> {
        let Self { request, url } = self;
        let fail = |error: reqwest::Error| match error.is_connect() || error.is_timeout() {
            true => HttpError::Nobody,
            false => HttpError::Answer { url: url.clone(), problem: error.to_string() },
        };
        let mut response = request.send().await.map_err(fail)?;
        if !response.status().is_success() {
            return Err(HttpError::Status { url, status: response.status() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(fail)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                return Err(HttpError::Answer { url, problem: format!("is longer than {MAX_BODY} bytes") });
            }
        }
        let text = String::from_utf8(body)
            .map_err(|_| HttpError::Answer { url: url.clone(), problem: "is not text".into() })?;
        Ok(Answer { text, response, url })
    }
}

/// A whole answer.
pub(super) struct Answer {
    pub(super) text: String,
    response: Response,
    url: String,
}

impl Answer {
    /// Refuses an answer without this header: somebody else is speaking.
    pub(super) fn proven_by(self, name: &str, value: &str) -> Result<Self, HttpError> {
        match self.response.headers().get(name) {
            Some(found) if found.as_bytes().eq_ignore_ascii_case(value.as_bytes()) => Ok(self),
            _ => Err(HttpError::Answer { url: self.url, problem: format!("lacks the header {name}: {value}") }),
        }
    }
}
