//! Two questions that anybody may ask of a replica, and as often as they like: no answer costs the store anything.
//!
//! *Live* (`/livez`): it answers at all; a supervisor that hears nothing starts it again. *Ready* (`/readyz`, and `health` of
//! `cbnet.v1`): it hears of the store, so what it does for its callers is current; a load balancer asks another replica
//! meanwhile, and starting it again would help nobody.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tonic::Status;

use crate::{
    Service,
    error::CallError,
    request_id::RequestId,
    rest::{binding::Dialect, problem::Problem},
};

impl Service {
    /// Refuses while the replica does not hear of the store.
    pub(crate) fn ready(&self) -> Result<(), CallError> {
        if self.agents.is_current() {
            return Ok(());
        }
        Err(CallError::Unavailable("this replica has not heard of the store for a while; ask another one".to_owned()))
    }
}

/// The two pages.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    Router::new().route("/livez", get(|| async { "live" })).route("/readyz", get(ready)).with_state(service.clone())
}

async fn ready(State(service): State<Arc<Service>>, request: Request) -> Response {
    match service.ready() {
        Ok(()) => "ready".into_response(),
        Err(error) => {
            let problem = Problem::of_status(&Status::from(error), Dialect::Cladnet);
            problem.response(RequestId::of(request.extensions()).as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use cladnet_store::{EmbeddedOptions, Store};
    use http::StatusCode;
    use tower::ServiceExt as _;

    use crate::{Config, Server, agents::PATIENCE, router};

    #[tokio::test]
    async fn a_flood_of_questions_costs_the_store_nothing_and_only_readiness_needs_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.expect("a store");
        let listen_addr = "127.0.0.1:0".parse().expect("an address");
        let config = Config { listen_addr, stun_addr: None, ..Config::default() };
        let server = Server::bind(config, store.clone()).await.expect("a replica");
        let router = router::full(server.service(), router::no_pages());
        let status = async |path: &str| {
            let request = http::Request::get(path).body(Body::empty()).expect("a request");
            router.clone().oneshot(request).await.expect("an answer").status()
        };
        store.close().await.expect("closes"); // every read fails from here on
        for path in ["/health", "/readyz", "/livez"] {
            assert_eq!(status(path).await, StatusCode::OK, "{path}: the store was heard of a moment ago");
        }
        tokio::time::pause();
        tokio::time::advance(PATIENCE).await;
        for path in ["/health", "/readyz"] {
            assert_eq!(status(path).await, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
        assert_eq!(status("/livez").await, StatusCode::OK);
    }
}
