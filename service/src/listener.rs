//! The accept loop: a task per connection, TLS, HTTP/1.1 and HTTP/2 by what the client speaks, a limit for everything.
//! What a request means is decided by the router that is handed in.

mod conversation;
mod crowd;

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use cladnet_pki::certificate_spki_sha256;
use rustls::pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use self::{
    conversation::converse,
    crowd::{Crowd, Group, Place},
};
use crate::{Connection, tls::ServerTls};

/// A silent client costs a task for this long and no more.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
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
    let (crowd, connections) = (Crowd::new(), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &crowd) => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, remote, Some(place))) => {
                let (security, router, shutdown) = (security.clone(), router.clone(), shutdown.clone());
                connections.spawn(async move { welcome(stream, remote, place, &security, router, shutdown).await });
            }
            Ok((_, remote, None)) => debug!(%remote, "connection refused: too many of its network arrive"),
            // The client has thought better of it.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(DRAIN, connections.wait()).await.is_err() {
        info!("connections were still busy when the time to finish was over");
    }
}

async fn accept(listener: &TcpListener, crowd: &Crowd) -> std::io::Result<(TcpStream, SocketAddr, Option<Place>)> {
    let room = crowd.room().await;
    let (stream, remote) = listener.accept().await?;
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    // A connection that is gone already will say so when it is read.
    let _ = stream.set_nodelay(true);
    Ok((stream, remote, crowd.arrive(room, remote.ip())))
}

/// Agrees on how bytes are protected, then speaks HTTP; the connection has its place until the end.
async fn welcome(
    stream: TcpStream,
    remote: SocketAddr,
    mut place: Place,
    security: &Security,
    router: Router,
    shutdown: CancellationToken,
) {
    let tls = match security {
        Security::Tls(tls) => tls.acceptor(),
        Security::Plain => {
            let connection = Connection { remote, certificate: None, insecure: true };
            if seated(&mut place, &connection, &shutdown).await {
                converse(stream, connection, router, shutdown).await;
            }
            return;
        }
    };
    let handshake = shutdown.run_until_cancelled(timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)));
    match handshake.await.unwrap_or_else(|| Ok(Err(ErrorKind::ConnectionAborted.into()))) {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
            let certificate = certificate.map(CertificateDer::into_owned);
            let connection = Connection { remote, certificate, insecure: false };
            if seated(&mut place, &connection, &shutdown).await {
                converse(stream, connection, router, shutdown).await;
            }
        }
        Ok(Err(error)) => debug!(%remote, %error, "TLS handshake failed"),
        Err(_) => debug!(%remote, "TLS handshake timed out"),
    }
}

/// Whether the connection may stay: if its host has a seat left, or without a certificate its network.
async fn seated(place: &mut Place, connection: &Connection, shutdown: &CancellationToken) -> bool {
    let remote = connection.remote;
    let group = match connection.certificate.as_ref().map(|leaf| certificate_spki_sha256(leaf)) {
        Some(Ok(key)) => Group::Host(key),
        // It was verified, so this does not happen; a certificate that nobody can read is worth nothing.
        Some(Err(_)) | None => Group::strangers(remote.ip()),
    };
    let seated = shutdown.run_until_cancelled(place.seat(group)).await.unwrap_or(false);
    if !seated {
        debug!(%remote, ?group, "connection refused: there are too many of its kind");
    }
    seated
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::agents::testing::{House, Machine};

    #[tokio::test]
    async fn an_agent_comes_in_however_many_strangers_its_network_has() {
        let house = House::with_network("n").await;
        let replica = house.replica().await;
        let token = house.token("n", 1, replica.ca).await;
        let agent = Machine::new().agent(&replica, &token).await;
        let tls = cladnet_pki::client_config(&replica.ca_pem, None).expect("a configuration");
        let connector = TlsConnector::from(Arc::new(tls));
        let mut strangers = Vec::new();
        for _ in 0..crowd::ANONYMOUS + 1 {
            let stream = TcpStream::connect(replica.address).await.expect("connects");
            let name = ServerName::try_from("localhost").expect("a name");
            strangers.push(connector.connect(name, stream).await.expect("a handshake"));
        }
        let come = timeout(crowd::SEAT_WAIT / 2, agent.sync(&replica)).await.expect("it waits for a seat");
        come.expect("its certificate is its ticket");
    }

    #[tokio::test]
    async fn a_certificate_is_a_ticket_for_a_few_seats_only() {
        let house = House::with_network("n").await;
        let replica = house.replica().await;
        let token = house.token("n", 1, replica.ca).await;
        let agent = Machine::new().agent(&replica, &token).await;
        let mut wires = Vec::new();
        for _ in 0..crowd::HOST {
            wires.push(timeout(crowd::SEAT_WAIT / 2, agent.client(&replica)).await.expect("it waits for a seat"));
        }
        timeout(crowd::SEAT_WAIT / 2, agent.sync(&replica)).await.err().expect("it has no share");
    }
}
