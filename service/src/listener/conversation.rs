//! HTTP over one connection, from the first request to the last. Whoever asks nothing for too long has to go; a request
//! lasts until its answer has been read to the end, so a stream is one for as long as it is open.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Bytes};
use http::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};
use tracing::debug;

use super::DRAIN;
use crate::Connection;

/// How long the first request of a connection may take, and the headers of each over HTTP/1.1; also how long an idle
/// HTTP/1.1 connection may stay.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an HTTP/2 connection may stay without a request. A browser or a program that pauses for less keeps its
/// connection, and opens another one without anybody noticing when it paused for longer; an agent's stream is a request.
const IDLE: Duration = Duration::from_secs(120);
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 256;
/// Bytes of all headers of a request.
const HEADERS: u32 = 16 * 1024;
/// A dead peer is noticed within the sum of both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Speaks HTTP until the connection ends, or has been idle, or the service stops.
pub(super) async fn converse<S>(stream: S, connection: Connection, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let remote = connection.remote;
    let (requests, mut in_flight) = watch::channel(Count::default());
    let service = service_fn(move |request| answer(router.clone(), connection.clone(), requests.clone(), request));
    let service = TowerToHyperService::new(service);
    let mut served = pin!(http().serve_connection(TokioIo::new(stream), service).into_owned());
    tokio::select! {
        ended = served.as_mut() => return told(remote, ended),
        () = silence(in_flight.clone()) => return debug!(%remote, "connection closed: no request came"),
        () = idleness(&mut in_flight) => debug!(%remote, "connection is idle; asked to end"),
        () = shutdown.cancelled() => {}
    }
    // What is in flight is finished, and no more is taken.
    served.as_mut().graceful_shutdown();
    tokio::select! {
        ended = served => told(remote, ended),
        () = async { shutdown.cancelled().await; sleep(DRAIN).await } => {}
    }
}

fn told(remote: SocketAddr, ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        debug!(%remote, %error, "connection ended");
    }
}

fn http() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_headers(128);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS);
    http
}

/// Over when the first request does not come in time: neither the choice between the versions of HTTP nor the preface of
/// HTTP/2 has a limit of its own.
async fn silence(mut in_flight: watch::Receiver<Count>) {
    if timeout(HEADER_TIMEOUT, in_flight.wait_for(|count| count.begun)).await.is_ok() {
        pending::<()>().await;
    }
}

/// Over when there has been no request for as long as is allowed.
async fn idleness(in_flight: &mut watch::Receiver<Count>) {
    loop {
        // The sender lives as long as the connection does; without it there is nothing to be idle.
        if in_flight.wait_for(|count| count.begun && count.now == 0).await.is_err() {
            pending::<()>().await;
        }
        if timeout(IDLE, in_flight.changed()).await.is_err() {
            return;
        }
    }
}

/// Requests of one connection.
#[derive(Debug, Default)]
struct Count {
    /// Whether there has been any.
    begun: bool,
    now: usize,
}

/// A request that is counted until this is dropped.
struct InFlight(watch::Sender<Count>);

impl InFlight {
    fn begin(requests: watch::Sender<Count>) -> Self {
        requests.send_modify(|count| *count = Count { begun: true, now: count.now + 1 });
        Self(requests)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| count.now -= 1);
    }
}

async fn answer(
    router: Router,
    connection: Connection,
    requests: watch::Sender<Count>,
    mut request: Request<Incoming>,
) -> Result<http::Response<Counted>, Infallible> {
    let in_flight = InFlight::begin(requests);
    request.extensions_mut().insert(connection);
    let response = router.oneshot(request.map(axum::body::Body::new)).await?;
    Ok(response.map(|body| Counted { body, _in_flight: in_flight }))
}

/// An answer's body, which keeps its request in flight.
struct Counted {
    body: axum::body::Body,
    _in_flight: InFlight,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use futures_util::stream;
    use hyper::client::conn::http2::{SendRequest, handshake};
    use tokio::task::JoinHandle;

    use super::*;

    /// A client, and the conversation at the other end.
    async fn pair(shutdown: &CancellationToken) -> (SendRequest<Body>, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let connection = Connection { remote: ([192, 0, 2, 1], 1).into(), certificate: None, insecure: true };
        let endless = || async { Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()) };
        let router = Router::new().route("/short", get(|| async { "short" })).route("/endless", get(endless));
        let conversation = tokio::spawn(converse(far, connection, router, shutdown.clone()));
        let (client, ours) = handshake(TokioExecutor::new(), TokioIo::new(near)).await.expect("HTTP/2");
        tokio::spawn(ours);
        (client, conversation)
    }

    fn request(path: &str) -> Request<Body> {
        Request::get(format!("http://localhost{path}")).body(Body::empty()).expect("a request")
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_nothing_more_is_ended() {
        let (mut client, conversation) = pair(&CancellationToken::new()).await;
        for _ in 0..3 {
            drop(client.send_request(request("/short")).await.expect("an answer"));
            sleep(IDLE / 2).await;
            assert!(!conversation.is_finished(), "it has asked within the time");
        }
        timeout(IDLE, conversation).await.expect("the idle connection lives").expect("no panic");
        client.send_request(request("/short")).await.expect_err("nobody is there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_in_flight_for_as_long_as_it_is_open() {
        let (mut client, conversation) = pair(&CancellationToken::new()).await;
        let stream = client.send_request(request("/endless")).await.expect("an answer");
        sleep(IDLE * 3).await;
        assert!(!conversation.is_finished(), "the stream was cut");
        drop(stream);
        timeout(IDLE * 2, conversation).await.expect("the idle connection lives").expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_and_one_of_a_service_that_stops_are_ended() {
        let (_client, conversation) = pair(&CancellationToken::new()).await;
        timeout(HEADER_TIMEOUT * 2, conversation).await.expect("the silent connection lives").expect("no panic");
        let shutdown = CancellationToken::new();
        let (mut client, conversation) = pair(&shutdown).await;
        let _stream = client.send_request(request("/endless")).await.expect("an answer");
        shutdown.cancel();
        timeout(DRAIN * 2, conversation).await.expect("the stream holds the service up").expect("no panic");
    }
}
