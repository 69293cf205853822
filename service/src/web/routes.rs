//! `/api/v1/session`: signing in, asking who is signed in, signing out. Plain handlers, because cookies are a matter of
//! browsers and not of the API.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::get,
};
use cladnet_model::{Action, KeyId, Role};
use http::{Extensions, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tonic::Status;
use zeroize::Zeroizing;

use super::{FromPage, browsers_only, cookie, session::Resumed};
use crate::{
    Service, auth,
    error::CallError,
    request_id::RequestId,
    rest::{self, binding::Dialect, problem::Problem},
};

const PATH: &str = "/api/v1/session";

/// An API key in JSON, and room to spare.
const BODY_LIMIT: usize = 1024;

/// The routes, behind the rules for browsers.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    Router::new()
        .route(PATH, get(show).post(sign_in).delete(sign_out))
        .route_layer(from_fn_with_state(service.clone(), browsers_only))
        .with_state(service.clone())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignIn {
    api_key: Zeroizing<String>,
}

/// Who is signed in, and what the page need not hide from them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SignedIn {
    key_id: KeyId,
    name: String,
    role: Role,
    actions: Vec<&'static str>,
    /// When the session ends if no more requests come.
    expires_at: Timestamp,
}

impl SignedIn {
    fn of(Resumed { session, key, .. }: Resumed) -> Self {
        let actions = Action::WORDS.iter().copied();
        let may = |word: &&str| word.parse().is_ok_and(|action| key.role.may(action));
        Self {
            actions: actions.filter(may).collect(),
            expires_at: key.expires_at.map_or(session.ends_at(), |end| end.min(session.ends_at())),
            key_id: key.id,
            name: key.name,
            role: key.role,
        }
    }
}

async fn sign_in(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let signed_in = async {
        let SignIn { api_key } =
            serde_json::from_slice(&rest::read(body, BODY_LIMIT).await?).map_err(|error| malformed(&error))?;
        let old = parts.extensions.get::<FromPage>().and_then(|page| page.secret.as_ref()).map(|secret| secret.id());
        let signed_in = service.sign_in(&api_key, old).await;
        signed_in.map_err(|error| refused(auth::counted(&service, &parts.extensions, error)))
    };
    match signed_in.await {
        Ok((secret, resumed)) => {
            ([(header::SET_COOKIE, cookie::set(&secret))], Json(SignedIn::of(resumed))).into_response()
        }
        Err(problem) => told(&problem, &parts.extensions),
    }
}

async fn show(State(service): State<Arc<Service>>, request: Request) -> Response {
    let extensions = request.extensions();
    let Some(FromPage { secret }) = extensions.get::<FromPage>() else {
        let nobody = CallError::Unauthenticated("nobody is signed in; sign in with an API key".to_owned());
        return told(&refused(nobody), extensions);
    };
    match auth::of_session(&service, secret.as_ref()).await {
        Ok(resumed) => Json(SignedIn::of(resumed)).into_response(),
        Err(error @ CallError::Unauthenticated(_)) => {
            let problem = refused(auth::counted(&service, extensions, error));
            ([(header::SET_COOKIE, cookie::clear())], told(&problem, extensions)).into_response()
        }
        Err(error) => told(&refused(error), extensions),
    }
}

async fn sign_out(State(service): State<Arc<Service>>, request: Request) -> Response {
    let secret = request.extensions().get::<FromPage>().and_then(|page| page.secret.as_ref());
    let ended = match secret {
        Some(secret) => service.sign_out(secret).await,
        None => Ok(()),
    };
    match ended {
        Ok(()) => (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie::clear())]).into_response(),
        // The cookie stays: it is needed to try again.
        Err(error) => told(&refused(error), request.extensions()),
    }
}

fn malformed(error: &serde_json::Error) -> Problem {
    let detail = format!(
        "the body must be {{\"apiKey\":\"cladnet_key_…\"}} ({:?} error in line {})",
        error.classify(),
        error.line()
    );
    Problem::new(StatusCode::BAD_REQUEST, detail).at_field("apiKey")
}

fn refused(error: CallError) -> Problem {
    Problem::of_status(&Status::from(error), Dialect::Cladnet)
}

fn told(problem: &Problem, extensions: &Extensions) -> Response {
    problem.response(RequestId::of(extensions).as_str())
}
