//! Session tokens of AWS's and Alibaba's services: asked for with PUT, good for a while, for the VM that asked.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};

use super::facts::Facts;
use super::{Answer, Question};

/// Six hours, as both providers have it.
const LONGEST: u64 = 21_600;

#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, (String, Instant)>>);

impl Tokens {
    /// Answers a request for a token; `lifetime` names the header that says for how many seconds.
    pub(super) fn issue(&self, question: &Question<'_>, facts: &Facts, lifetime: &'static str) -> Answer {
        if question.method != Method::PUT {
            return Answer::refused(StatusCode::METHOD_NOT_ALLOWED, "405 - Method Not Allowed\n");
        }
        if question.header("x-forwarded-for").is_some() {
            return Answer::refused(StatusCode::FORBIDDEN, "403 - Forbidden\n");
        }
        let seconds = question.header(lifetime).and_then(|value| value.parse::<u64>().ok());
        let Some(seconds) = seconds.filter(|seconds| (1..=LONGEST).contains(seconds)) else {
            return Answer::refused(StatusCode::BAD_REQUEST, "400 - Bad Request\n");
        };
        let token = format!("{:032x}{:08x}==", rand::random::<u128>(), rand::random::<u32>());
        let now = Instant::now();
        let mut tokens = self.0.lock().expect("nobody panics while holding it");
        tokens.retain(|_, (_, until)| *until > now);
        tokens.insert(token.clone(), (facts.name.clone(), now + Duration::from_secs(seconds)));
        Answer::text(token).with_header(lifetime, seconds.to_string())
    }

    /// Whether a token is good for this VM now.
    pub(super) fn accept(&self, token: &str, facts: &Facts) -> bool {
        let tokens = self.0.lock().expect("nobody panics while holding it");
        tokens.get(token).is_some_and(|(vm, until)| *vm == facts.name && *until > Instant::now())
    }
}
