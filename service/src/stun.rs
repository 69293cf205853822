//! The STUN server: tells a host from which public address its tunnel's socket is seen.

use std::{io, net::IpAddr, time::Duration};

use jiff::Timestamp;
use tokio::net::UdpSocket;
use tracing::{debug, warn};

use crate::rate::{Limiter, RateLimit};

/// What an address behind one NAT may ask; a source may be forged, so that nobody can be flooded through us.
const ANSWERS: RateLimit = RateLimit { burst: 256, every: Duration::from_millis(10) };

/// Pause after the socket itself failed: what it lacks, memory most likely, may come back, and the log is not flooded.
const SOCKET_PAUSE: Duration = Duration::from_millis(100);

/// Answers for ever.
pub(crate) async fn serve(socket: UdpSocket) {
    let limiter: Limiter<IpAddr> = ANSWERS.limiter();
    let mut buffer = [0; 1_500];
    loop {
        if let Err(error) = answer_one(&socket, &limiter, &mut buffer).await {
            // An ICMP error of an earlier answer shows up here; it says nothing of the socket.
            debug!(%error, "STUN");
            if error.kind() == io::ErrorKind::Other {
                warn!(%error, "STUN socket");
                tokio::time::sleep(SOCKET_PAUSE).await;
            }
        }
    }
}

async fn answer_one(socket: &UdpSocket, limiter: &Limiter<IpAddr>, buffer: &mut [u8]) -> io::Result<()> {
    let (length, from) = socket.recv_from(buffer).await?;
    let Some(answer) = cladnet_stun::answer(&buffer[..length], from) else { return Ok(()) };
    if limiter.take(from.ip().to_canonical(), Timestamp::now()) {
        socket.send_to(&answer, from).await?;
    }
    Ok(())
}
