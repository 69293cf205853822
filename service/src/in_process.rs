//! Callers inside this very process: a channel through memory to the same RPCs, behind the same table of who may what.
//! They need no key, so that none is stored; what the network sends never looks as if it came from here.

use axum::{Router, body::Body, extract::Request, middleware::from_fn};
use cladnet_model::Role;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::io::DuplexStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::{ServiceExt as _, service_fn};
use tracing::debug;

use crate::{auth::Caller, envelope};

/// Bytes between the two ends.
const BUFFER: usize = 256 * 1024;

/// Who calls, in the extensions of a call that came from here.
#[derive(Debug, Clone)]
pub(crate) struct InProcess(pub(crate) Caller);

/// A channel to `grpc` for the part of this process that is called `name` in events.
pub(crate) fn channel(grpc: Router, name: &'static str, role: Role) -> Channel {
    let caller = InProcess(Caller { key: name.parse().expect("the name is an id"), role, session: None });
    let router = grpc.layer(from_fn(envelope::wrap));
    let connect = move |_: Uri| {
        let (near, far) = tokio::io::duplex(BUFFER);
        tokio::spawn(converse(far, router.clone(), caller.clone()));
        std::future::ready(Ok::<_, std::io::Error>(TokioIo::new(near)))
    };
    Endpoint::from_static("http://in-process").connect_with_connector_lazy(service_fn(connect))
}

/// Answers until the other end is dropped.
async fn converse(stream: DuplexStream, router: Router, caller: InProcess) {
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| -> Request {
        request.extensions_mut().insert(caller.clone());
        request.map(Body::new)
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    if let Err(error) = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).await {
        debug!(%error, "connection inside the process ended");
    }
}
