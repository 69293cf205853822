//! HTTP over one connection, from the first request to the last. Whoever asks nothing for too long has to go; a request
//! lasts until its answer has been read to the end, so a stream is one for as long as it is open. A connection on which
//! nobody has shown who they are ends with the first request that takes too long.

use std::{
    collections::BTreeMap,
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
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};
use tracing::debug;

use super::DRAIN;
use crate::{Connection, connection::Acquaintance};

/// How long the first request of a connection may take, and the headers of each over HTTP/1.1; also how long an idle
/// HTTP/1.1 connection may stay.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an HTTP/2 connection may stay without a request. A browser or a program that pauses for less keeps its
/// connection, and opens another one without anybody noticing when it paused for longer; an agent's stream is a request.
const IDLE: Duration = Duration::from_secs(120);
/// How long a request of a stranger may last: an enrolment, a question about the interfaces, or a page over a slow line.
const STRANGERS_REQUEST: Duration = Duration::from_secs(30);
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
    let known = Acquaintance::default();
    if connection.certificate.is_some() {
        known.make();
    }
    let asker = known.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        request.extensions_mut().insert(asker.clone());
        answer(router.clone(), requests.clone(), request)
    });
    let service = TowerToHyperService::new(service);
    let mut served = pin!(http().serve_connection(TokioIo::new(stream), service).into_owned());
    tokio::select! {
        ended = served.as_mut() => return told(remote, ended),
        () = silence(in_flight.clone()) => return debug!(%remote, "connection closed: no request came"),
        () = outstay(in_flight.clone(), &known) => return debug!(%remote, "connection closed: a stranger's request lasts"),
        () = idleness(&mut in_flight) => debug!(%remote, "connection is idle; asked to end"),
        () = shutdown.cancelled() => {}
    }
    // What is in flight is finished, and no more is taken. Of an idle connection that is an answer which nobody takes.
    served.as_mut().graceful_shutdown();
    match timeout(DRAIN, served).await {
        Ok(ended) => told(remote, ended),
        Err(_) => debug!(%remote, "connection closed: it did not end in time"),
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
    if timeout(HEADER_TIMEOUT, in_flight.wait_for(|count| count.begun > 0)).await.is_ok() {
        pending::<()>().await;
    }
}

/// Over when there has been no request for as long as is allowed.
async fn idleness(in_flight: &mut watch::Receiver<Count>) {
    loop {
        // The sender lives as long as the connection does; without it there is nothing to be idle.
        if in_flight.wait_for(|count| count.begun > 0 && count.standing.is_empty()).await.is_err() {
            pending::<()>().await;
        }
        if timeout(IDLE, in_flight.changed()).await.is_err() {
            return;
        }
    }
}

/// Over when nobody has become known and a request has lasted for as long as a stranger's may. The whole connection has to
/// end then: nothing else reaches an answer that waits until its reader takes more.
async fn outstay(mut in_flight: watch::Receiver<Count>, known: &Acquaintance) {
    let outstayed = async {
        loop {
            let oldest = in_flight.borrow_and_update().standing.first_key_value().map(|(_, begun)| *begun);
            match oldest {
                Some(begun) if timeout_at(begun + STRANGERS_REQUEST, in_flight.changed()).await.is_err() => return,
                None if in_flight.changed().await.is_err() => pending().await,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = outstayed => {}
        () = known.made() => pending().await,
    }
}

/// Requests of one connection.
#[derive(Debug, Default)]
struct Count {
    begun: u64,
    /// Those in flight, by number, and when they began.
    standing: BTreeMap<u64, Instant>,
}

/// A request that is counted until this is dropped.
struct InFlight {
    requests: watch::Sender<Count>,
    number: u64,
}

impl InFlight {
    fn begin(requests: watch::Sender<Count>) -> Self {
        let mut number = 0;
        requests.send_modify(|count| {
            count.begun += 1;
            number = count.begun;
            count.standing.insert(number, Instant::now());
        });
        Self { requests, number }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.requests.send_modify(|count| {
            count.standing.remove(&self.number);
        });
    }
}

async fn answer(
    router: Router,
    requests: watch::Sender<Count>,
    request: Request<Incoming>,
) -> Result<http::Response<Counted>, Infallible> {
    let in_flight = InFlight::begin(requests);
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
    use axum::{Extension, body::Body, routing::get};
    use futures_util::stream;
    use hyper::client::conn::http2::{SendRequest, handshake};
    use tokio::{task::JoinHandle, time::sleep};

    use super::*;

    /// A client, and the conversation at the other end.
    async fn pair(shutdown: &CancellationToken) -> (SendRequest<Body>, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let connection = Connection { remote: ([192, 0, 2, 1], 1).into(), certificate: None, insecure: true };
        let endless = || async { Body::from_stream(stream::pending::<Result<Bytes, Infallible>>()) };
        let admitted = async move |Extension(known): Extension<Acquaintance>| {
            known.make();
            endless().await
        };
        let router = Router::new()
            .route("/short", get(|| async { "short" }))
            .route("/endless", get(endless))
            .route("/silent", get(pending::<()>))
            .route("/large", get(|| async { vec![0; 1 << 24] }))
            .route("/admitted", get(admitted));
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
    async fn a_stream_of_somebody_known_is_in_flight_for_as_long_as_it_is_open() {
        let (mut client, conversation) = pair(&CancellationToken::new()).await;
        let stream = client.send_request(request("/admitted")).await.expect("an answer");
        sleep(IDLE * 3).await;
        assert!(!conversation.is_finished(), "the stream was cut");
        drop(stream);
        timeout(IDLE * 2, conversation).await.expect("the idle connection lives").expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_of_a_stranger_has_a_deadline() {
        for path in ["/silent", "/endless"] {
            let (mut client, conversation) = pair(&CancellationToken::new()).await;
            let asked = client.send_request(request(path));
            let answer = tokio::spawn(async move { (asked.await, pending::<()>().await) });
            sleep(STRANGERS_REQUEST / 2).await;
            assert!(!conversation.is_finished(), "{path}: the time is not over");
            timeout(STRANGERS_REQUEST, conversation).await.expect(path).expect("no panic");
            answer.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_takes_does_not_keep_a_connection() {
        let (mut client, conversation) = pair(&CancellationToken::new()).await;
        let _answer = client.send_request(request("/large")).await.expect("the head of an answer");
        timeout(IDLE + DRAIN * 2, conversation).await.expect("the connection lives").expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_may_ask_again_and_again() {
        let (mut client, conversation) = pair(&CancellationToken::new()).await;
        let start = Instant::now();
        while start.elapsed() < STRANGERS_REQUEST * 3 {
            let answer = client.send_request(request("/short")).await.expect("an answer");
            sleep(STRANGERS_REQUEST / 3).await;
            drop(answer);
        }
        assert!(!conversation.is_finished(), "no request took too long");
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
