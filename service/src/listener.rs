//! The accept loop: a task per connection, TLS, HTTP/1.1 and HTTP/2 by what the client speaks, a limit for everything.
//! What a request means is decided by the router that is handed in.

mod crowd;

use std::{
    future::pending,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
    service::TowerToHyperService,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use self::crowd::{Crowd, Place};
use crate::{Connection, tls::ServerTls};

/// A silent client costs a task for this long and no more.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the first request of a connection and for the headers of each over HTTP/1.1; also how long an idle
/// HTTP/1.1 connection may stay.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Requests of one HTTP/2 connection at a time.
const STREAMS: u32 = 256;
/// Bytes of all headers of a request.
const HEADERS: u32 = 16 * 1024;
/// A dead peer is noticed within the sum of both.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Requests in flight may finish for this long after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(5);
/// Pause after `accept` failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a listener's bytes are protected.
pub(crate) enum Security {
    Tls(Arc<ServerTls>),
    /// Loopback only; the router behind it knows no more than it should.
    Plain,
}

/// Serves until `shutdown`, then lets requests finish.
pub(crate) async fn serve(listener: TcpListener, security: Security, router: Router, shutdown: CancellationToken) {
    let security = Arc::new(security);
    let crowd = Crowd::new();
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &crowd) => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, remote, Some(place))) => {
                let (security, router, watcher) = (security.clone(), router.clone(), graceful.watcher());
                let shutdown = shutdown.clone();
                tokio::spawn(async move {
                    welcome(stream, remote, &security, router, watcher, shutdown).await;
                    drop(place);
                });
            }
            Ok((_, remote, None)) => debug!(%remote, "connection refused: its address has too many"),
            // The client has thought better of it.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        info!("connections were still busy when the time to finish was over");
    }
}

async fn accept(listener: &TcpListener, crowd: &Crowd) -> std::io::Result<(TcpStream, SocketAddr, Option<Place>)> {
    let permit = crowd.room().await;
    let (stream, remote) = listener.accept().await?;
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    // A connection that is gone already will say so when it is read.
    let _ = stream.set_nodelay(true);
    Ok((stream, remote, crowd.admit(permit, remote.ip())))
}

/// Agrees on how bytes are protected, then speaks HTTP.
async fn welcome(
    stream: TcpStream,
    remote: SocketAddr,
    security: &Security,
    router: Router,
    watcher: Watcher,
    shutdown: CancellationToken,
) {
    let tls = match security {
        Security::Tls(tls) => tls.acceptor(),
        Security::Plain => {
            let connection = Connection { remote, certificate: None, insecure: true };
            return converse(stream, connection, router, watcher).await;
        }
    };
    let handshake = shutdown.run_until_cancelled(timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)));
    match handshake.await.unwrap_or_else(|| Ok(Err(ErrorKind::ConnectionAborted.into()))) {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
            let certificate = certificate.map(CertificateDer::into_owned);
            converse(stream, Connection { remote, certificate, insecure: false }, router, watcher).await;
        }
        Ok(Err(error)) => debug!(%remote, %error, "TLS handshake failed"),
        Err(_) => debug!(%remote, "TLS handshake timed out"),
    }
}

/// Speaks HTTP until the connection ends.
async fn converse<S>(stream: S, connection: Connection, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let remote = connection.remote;
    let spoken = Arc::new(AtomicBool::new(false));
    let speaks = spoken.clone();
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        speaks.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(connection.clone());
        request.map(axum::body::Body::new)
    });
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_headers(128);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS);
    let served = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).into_owned();
    // Neither the choice between the versions of HTTP nor the preface of HTTP/2 has a time limit of its own.
    let silence = async {
        sleep(HEADER_TIMEOUT).await;
        if spoken.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    };
    tokio::select! {
        served = watcher.watch(served) => {
            if let Err(error) = served {
                debug!(%remote, %error, "connection ended");
            }
        }
        () = silence => debug!(%remote, "connection closed: no request came"),
    }
}
