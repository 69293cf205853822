//! REST, transcoded from the descriptors: a request becomes the RPC's message, passes through the very gRPC router that
//! gRPC callers reach (authentication included), and the answer becomes proto3 JSON. No route and no message of ours is
//! named here.
//!
//! JSON of both interfaces has camelCase names, 64-bit integers as strings, and every field, also empty ones, as cb-network's
//! gateway emitted them.

pub(crate) mod binding;
pub(crate) mod codec;
mod input;
pub(crate) mod problem;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{RawPathParams, Request, rejection::RawPathParamsRejection},
    middleware::from_fn_with_state,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{MethodFilter, MethodRouter, on},
};
use futures_util::StreamExt;
use http::{StatusCode, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Limited};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use tokio::time::timeout;
use tonic::{Status, client::Grpc};
use tower_http::{
    CompressionLevel,
    compression::{CompressionLayer, predicate::SizeAbove},
};

use self::{
    binding::{Binding, Dialect, bindings},
    codec::DynamicCodec,
    problem::Problem,
};
use crate::{Connection, Service, access, auth, request_id::RequestId, web};

/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Most that is read of a body that nobody wants.
const UNWANTED_LIMIT: usize = 16 * 1024;

/// How long such a body may take.
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(1);

/// Most that is read of a body after what was too much of it. A client that sends still more may lose the answer.
const EXCESS_LIMIT: usize = 8 * 1024 * 1024;

/// Bytes of an answer that one packet carries as it is.
const SMALL: u16 = 1_024;

const JSON: SerializeOptions = SerializeOptions::new().skip_default_fields(false);

/// A router with one route for every binding in `pool` whose dialect is wanted; `grpc` carries the calls out.
pub(crate) fn router(
    service: &Arc<Service>,
    pool: &DescriptorPool,
    grpc: &Router,
    wanted: fn(Dialect) -> bool,
) -> Router {
    let bindings = bindings(pool).into_iter().filter(|binding| wanted(binding.dialect));
    bindings.map(Arc::new).fold(Router::new(), |router, binding| {
        let path = binding.path.clone();
        // cb-network's interface never takes a cookie: one of its GETs changes state.
        let takes_cookie = binding.dialect == Dialect::Cladnet;
        let is_small_on_request = binding.verb == http::Method::GET && !binding.rpc.is_server_streaming();
        let route = handler(service.clone(), binding, grpc.clone());
        let route = if is_small_on_request { route.layer(compression()) } else { route };
        router.route(
            &path,
            match takes_cookie {
                true => route.route_layer(from_fn_with_state(service.clone(), web::take_cookie)),
                false => route,
            },
        )
    })
}

/// For answers to questions. Those to anything else may hold a secret beside what somebody else has written, and how small
/// they become would tell of it (BREACH); nor would a stream flow.
fn compression() -> CompressionLayer<SizeAbove> {
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(SizeAbove::new(SMALL))
}

fn handler(service: Arc<Service>, binding: Arc<Binding>, grpc: Router) -> MethodRouter {
    let filter = MethodFilter::try_from(binding.verb.clone()).expect("google.api.http knows only ordinary verbs");
    on(filter, async move |params: Result<RawPathParams, RawPathParamsRejection>, request: Request| {
        let id = RequestId::of(request.extensions());
        let answer = match params {
            Ok(params) => call(&service, &binding, grpc, &params, request).await,
            Err(rejection) => Err(Problem::new(StatusCode::BAD_REQUEST, rejection.body_text())),
        };
        answer.unwrap_or_else(|problem| problem.response(id.as_str()))
    })
}

/// Carries one REST request out. Nothing is taken from a caller who may not call.
async fn call(
    service: &Service,
    binding: &Binding,
    grpc: Router,
    params: &RawPathParams,
    request: Request,
) -> Result<Response, Problem> {
    let refused = |status: Status| Problem::of_status(&status, binding.dialect);
    let (parts, body) = request.into_parts();
    let admission = auth::admit(service, &binding.rpc_path(), &parts.headers, &parts.extensions).await;
    let admission = match admission {
        Ok(admission) => admission,
        Err(error) => {
            throw_away(body).await;
            return Err(refused(error.into()));
        }
    };
    let body = read(body, access::body_limit(&binding.rpc_path())).await?;
    let message = message(binding, params, parts.uri.query(), &body)?;

    let mut rpc = tonic::Request::new(message);
    rpc.extensions_mut().insert(admission);
    rpc.extensions_mut().insert(RequestId::of(&parts.extensions));
    if let Some(connection) = parts.extensions.get::<Connection>() {
        rpc.extensions_mut().insert(connection.clone());
    }
    let path = PathAndQuery::try_from(binding.rpc_path()).expect("names of services are legal in paths");
    let codec = DynamicCodec { output: binding.rpc.output() };

    let mut client = Grpc::new(grpc);
    client.ready().await.map_err(|error| refused(Status::unavailable(error.to_string())))?;
    if binding.rpc.is_server_streaming() {
        let id = RequestId::of(&parts.extensions);
        let stream = client.server_streaming(rpc, path, codec).await.map_err(refused)?.into_inner();
        return Ok(events(stream, binding.dialect, id));
    }
    let answer = client.unary(rpc, path, codec).await.map_err(refused)?.into_inner();
    Ok(([(header::CONTENT_TYPE, "application/json")], json(&answer)?).into_response())
}

pub(crate) async fn read(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    match timeout(BODY_TIMEOUT, Limited::new(&mut body, limit).collect()).await {
        Ok(Ok(read)) => Ok(read.to_bytes()),
        Ok(Err(_)) => {
            drain(body, EXCESS_LIMIT, BODY_TIMEOUT).await;
            let detail = format!("the body is larger than {limit} bytes or was cut off");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Err(_) => {
            let detail = format!("the body took longer than {} s", BODY_TIMEOUT.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

/// Reads what is short of a body that nobody wants.
pub(crate) async fn throw_away(body: Body) {
    drain(body, UNWANTED_LIMIT, UNWANTED_TIMEOUT).await;
}

/// Reads and forgets, within limits. An answer that comes before the body has gone out breaks the stream of some HTTP/2
/// clients (curl 7.88 with error 92).
async fn drain(body: Body, limit: usize, time: Duration) {
    let mut body = Limited::new(body, limit);
    let drained = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whoever sends more than that gets the answer all the same, if they still listen.
    let _ = timeout(time, drained).await;
}

fn message(
    binding: &Binding,
    params: &RawPathParams,
    query: Option<&str>,
    body: &Bytes,
) -> Result<DynamicMessage, Problem> {
    let path: Vec<_> = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let query: Vec<(String, String)> =
        form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned().collect();
    input::read(binding, &path, &query, body).map_err(|error| {
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, error.detail).at_field(error.field);
        problem.code = (binding.dialect == Dialect::Cbnet).then_some(tonic::Code::InvalidArgument);
        problem
    })
}

/// How often a silent stream says that it is alive. Public: clients give up a stream after twice this.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream of messages as server-sent events; an error ends it with an event named `error`, and each
/// [`HEARTBEAT`] without a message there is one named `heartbeat`.
fn events(stream: tonic::Streaming<DynamicMessage>, dialect: Dialect, id: RequestId) -> Response {
    let events = stream.map(move |item| {
        let text = item.map_err(|status| Problem::of_status(&status, dialect)).and_then(|message| json(&message));
        Ok::<_, Infallible>(match text {
            Ok(json) => Event::default().data(json),
            Err(problem) => Event::default().event("error").data(problem.document(id.as_str()).to_string()),
        })
    });
    // A named event and not a comment: a page can see that the stream is alive.
    let heartbeat = KeepAlive::new().interval(HEARTBEAT).event(Event::default().event("heartbeat").data("{}"));
    Sse::new(events).keep_alive(heartbeat).into_response()
}

fn json(message: &DynamicMessage) -> Result<String, Problem> {
    let mut text = Vec::new();
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut text), &JSON)
        .ok()
        .and_then(|()| String::from_utf8(text).ok())
        .ok_or_else(|| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written as JSON"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::stream;

    use super::*;

    /// What is answered to a body of so many pieces of 1 KiB, and how many of them were read.
    async fn answer(pieces: usize, limit: usize) -> (Option<StatusCode>, usize) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let pieces = stream::iter(0..pieces).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(vec![0; 1024])
        });
        let read = read(Body::from_stream(pieces), limit).await;
        (read.err().map(|problem| problem.status), taken.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_is_read_before_it_is_refused_but_not_without_end() {
        assert_eq!(answer(4, 4 * 1024).await, (None, 4));
        assert_eq!(answer(100, 4 * 1024).await, (Some(StatusCode::PAYLOAD_TOO_LARGE), 100));
        let (refused, taken) = answer(2 * EXCESS_LIMIT / 1024, 4 * 1024).await;
        assert_eq!(refused, Some(StatusCode::PAYLOAD_TOO_LARGE));
        assert!(taken <= EXCESS_LIMIT / 1024 + 8, "{taken} KiB were read");
    }
}
