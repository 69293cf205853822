//! The accept loop: a task per connection, TLS, HTTP/1.1 and HTTP/2 by what the client speaks, a limit for everything.
//! What a request means is decided by the router that is handed in.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use crate::{Connection, tls::ServerTls};

/// A silent client costs a task for this long and no more.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the headers of an HTTP/1.1 request; also how long an idle connection may stay.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Agents stay connected, so this is the number of agents that one replica can hold.
const CONNECTIONS: usize = 8_192;
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
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = shutdown.cancelled() => break,
        };
        let (stream, remote, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (security, router, watcher) = (security.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            match &*security {
                Security::Plain => {
                    let connection = Connection { remote, certificate: None, insecure: true };
                    converse(stream, connection, router, watcher).await;
                }
                Security::Tls(tls) => match timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
                        let certificate = certificate.map(rustls::pki_types::CertificateDer::into_owned);
                        let connection = Connection { remote, certificate, insecure: false };
                        converse(stream, connection, router, watcher).await;
                    }
                    Ok(Err(error)) => debug!(%remote, %error, "TLS handshake failed"),
                    Err(_) => debug!(%remote, "TLS handshake timed out"),
                },
            }
        });
    }
    drop(listener);
    if timeout(DRAIN, graceful.shutdown()).await.is_err() {
        info!("connections were still busy when the time to finish was over");
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, remote) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, SocketAddr::new(remote.ip().to_canonical(), remote.port()), permit))
}

/// Speaks HTTP until the connection ends.
async fn converse<S>(stream: S, connection: Connection, router: Router, watcher: hyper_util::server::graceful::Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let remote = connection.remote;
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
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
    if let Err(error) = watcher.watch(served).await {
        debug!(%remote, %error, "connection ended");
    }
}
