//! The data threads. Each owns its buffers, waits in one system call and carries what it got to the end.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use cladnet_tunnel::offload::{Segments, VirtioNetHeader};
use cladnet_tunnel::{BUFFER_SIZE, Discard, InterfaceId, PublicKey, TICK};
use tokio::sync::mpsc;
use tracing::{trace, warn};

use super::keeper::Lost;
use super::shared::Shared;
use super::stun::{StunReply, is_stun};
use super::wire::Wire;
use crate::tun::{self, Tun};
use crate::udp::Inbox;

/// Single packets that are read before what was gathered goes out. More make trains no longer and the first wait.
const PACKETS_A_WAKE: usize = 64;
/// What a super-packet counts for: eight fill both trains that are gathered four times over.
const SUPER_PACKET: usize = 8;

/// Keeps a thread whose system call fails again and again from taking a core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

/// What the control side asks of the timer thread.
pub(super) enum Command {
    /// Start handshakes with these peers.
    Greet(InterfaceId, Vec<PublicKey>),
    /// Tell every peer where we are.
    Announce,
    Stop,
}

/// Starts the threads that every device has. They end when `shared` is stopped and the sender is gone.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Sender<Command>> {
    let (commands, queue) = channel();
    spawn("cladnet-udp", shared, |shared| read_udp(&shared))?;
    spawn("cladnet-timer", shared, move |shared| keep_time(&shared, &queue))?;
    Ok(commands)
}

/// Makes `tun` the device of an interface and starts its reader, which ends when the device is deleted.
pub(super) fn read_tun(
    shared: &Arc<Shared>,
    id: InterfaceId,
    name: &str,
    tun: Arc<Tun>,
    lost: mpsc::Sender<Lost>,
) -> io::Result<()> {
    shared.attach(id, tun.clone());
    // A thread's name is cut at 15 bytes, as an interface's is.
    spawn(name, shared, move |shared| {
        forward_tun(&shared, id, &tun);
        // Nobody listens any more when the whole device is being closed.
        let _ = lost.blocking_send(Lost { id, tun });
    })
    .inspect_err(|_| shared.detach(id))
}

fn spawn(name: &str, shared: &Arc<Shared>, body: impl FnOnce(Arc<Shared>) + Send + 'static) -> io::Result<()> {
    let shared = shared.clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || body(shared)).map(drop)
}

fn read_udp(shared: &Shared) {
    let (mut inbox, mut buffer, mut wire) = (Inbox::new(), vec![0; BUFFER_SIZE], Wire::new(shared));
    loop {
        let received = shared.socket.receive(&mut inbox);
        if shared.is_stopped() {
            return;
        }
        if let Err(error) = received {
            warn!(%error, "cannot read the tunnel's socket");
            thread::sleep(PAUSE_AFTER_ERROR);
            continue;
        }
        let now = Instant::now();
        for (from, message) in inbox.datagrams() {
            if is_stun(message) {
                // Fails if nobody asked.
                let _ = shared.stun.send(StunReply { from, message: message.to_vec() });
            } else if let Err(reason) = shared.tunnel.open(now, from, message, &mut buffer, &mut wire) {
                trace!(%from, %reason, "datagram discarded");
            }
        }
        wire.flush();
    }
}

/// Returns when the device is gone.
fn forward_tun(shared: &Shared, id: InterfaceId, tun: &Tun) {
    let (mut packet, mut buffer, mut wire) = (vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE], Wire::new(shared));
    loop {
        let drained = tun.wait().and_then(|()| drain(shared, id, tun, &mut packet, &mut buffer, &mut wire));
        wire.flush();
        match drained {
            Ok(()) => {}
            Err(error) if tun::is_gone(&error) => return,
            Err(error) => {
                warn!(%error, "cannot read the interface");
                thread::sleep(PAUSE_AFTER_ERROR);
            }
        }
    }
}

/// Seals what the device holds, up to what one wake may take.
fn drain(
    shared: &Shared,
    id: InterfaceId,
    tun: &Tun,
    packet: &mut [u8],
    buffer: &mut [u8],
    wire: &mut Wire<'_>,
) -> io::Result<()> {
    let mut header = [0; VirtioNetHeader::LEN];
    let mut taken = 0;
    while taken < PACKETS_A_WAKE {
        let len = match tun.receive(&mut header, packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            received => received?,
        };
        let sealed = seal(shared, id, &header, &mut packet[..len], buffer, wire);
        taken += if sealed > 1 { SUPER_PACKET } else { 1 };
    }
    Ok(())
}

/// How many packets came out of it.
fn seal(
    shared: &Shared,
    id: InterfaceId,
    header: &[u8; VirtioNetHeader::LEN],
    packet: &mut [u8],
    buffer: &mut [u8],
    wire: &mut Wire<'_>,
) -> usize {
    let header = VirtioNetHeader::parse(header).ok_or(Discard::MalformedOffload);
    let mut segments = match header.and_then(|header| Segments::new(&header, packet)) {
        Ok(segments) => segments,
        Err(reason) => {
            trace!(?id, %reason, "packet discarded");
            shared.tunnel.discards().count(reason);
            return 1;
        }
    };
    let now = Instant::now();
    while let Some(packet) = segments.next_segment() {
        if let Err(reason) = shared.tunnel.seal(now, id, packet, buffer, wire) {
            trace!(?id, %reason, "packet discarded");
        }
    }
    segments.count()
}

fn keep_time(shared: &Shared, commands: &Receiver<Command>) {
    let (mut buffer, mut wire) = (vec![0; BUFFER_SIZE], Wire::new(shared));
    let mut due = Instant::now() + TICK;
    loop {
        wire.flush();
        match commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Command::Greet(id, peers)) => {
                shared.tunnel.initiate(Instant::now(), id, &peers, &mut buffer, &mut wire);
            }
            Ok(Command::Announce) => shared.tunnel.announce(Instant::now(), &mut buffer, &mut wire),
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                shared.tunnel.handle_timeout(now, &mut buffer, &mut wire);
                due = now + TICK;
            }
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
