//! The admin web's side of the service: sessions in place of API keys, and the rules that keep other sites from borrowing
//! them (ADR 0010). The pages themselves are handed in; what they may ask is decided where every other call is.

mod cookie;
pub mod front;
pub(crate) mod names;
mod routes;
mod rules;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use cladnet_model::SessionSecret;
use http::header;

pub(crate) use routes::router;
pub(crate) use session::{Resumed, sweep_for_ever};

use self::names::OwnNames;
use crate::{
    Service,
    request_id::RequestId,
    rest::{self, problem::Problem},
};

/// That a request came with a session's cookie and kept every rule: in its extensions, where the network cannot put it.
#[derive(Debug, Clone)]
pub(crate) struct FromPage {
    /// None if the cookie holds what never was a session.
    pub(crate) secret: Option<SessionSecret>,
}

/// Around what takes cookies: a request that has ours, and no key of its own, must keep the rules.
pub(crate) async fn take_cookie(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let Some(secret) = cookie::find(request.headers()) else { return next.run(request).await };
    if request.headers().contains_key(header::AUTHORIZATION) {
        return next.run(request).await;
    }
    if let Err(problem) = rules::check(&service.names, &request) {
        return refuse(request, &problem).await;
    }
    request.extensions_mut().insert(FromPage { secret });
    next.run(request).await
}

/// Around what is for browsers only, with a cookie or before there is one.
async fn browsers_only(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    if let Err(problem) = rules::check(&service.names, &request) {
        return refuse(request, &problem).await;
    }
    if let Some(secret) = cookie::find(request.headers()) {
        request.extensions_mut().insert(FromPage { secret });
    }
    next.run(request).await
}

/// Around pages: they answer to our own names only.
pub(crate) async fn own_names_only(State(names): State<Arc<OwnNames>>, request: Request, next: Next) -> Response {
    match names.check(&request) {
        Ok(_) => next.run(request).await,
        Err(problem) => refuse(request, &problem).await,
    }
}

async fn refuse(request: Request, problem: &Problem) -> Response {
    let id = RequestId::of(request.extensions());
    rest::throw_away(request.into_body()).await;
    problem.response(id.as_str())
}
