//! The data threads. Each owns its buffers, waits in one system call and carries what it got to the end.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use cladnet_tunnel::{BUFFER_SIZE, InterfaceId, PublicKey, TICK};
use tokio::sync::mpsc;
use tracing::{trace, warn};

use super::keeper::Lost;
use super::shared::{Shared, Wire};
use super::stun::{StunReply, is_stun};
use crate::tun::{self, Tun};

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
    let (mut datagram, mut buffer) = (vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]);
    loop {
        let received = shared.socket.receive(&mut datagram);
        if shared.is_stopped() {
            return;
        }
        let (len, from) = match received {
            Ok(received) => received,
            Err(error) => {
                warn!(%error, "cannot read the tunnel's socket");
                thread::sleep(PAUSE_AFTER_ERROR);
                continue;
            }
        };
        let message = &datagram[..len];
        if is_stun(message) {
            // Fails if nobody asked.
            let _ = shared.stun.send(StunReply { from, message: message.to_vec() });
        } else if let Err(reason) = shared.tunnel.open(Instant::now(), from, message, &mut buffer, &mut Wire(shared)) {
            trace!(%from, %reason, "datagram discarded");
        }
    }
}

/// Returns when the device is gone.
fn forward_tun(shared: &Shared, id: InterfaceId, tun: &Tun) {
    let (mut packet, mut buffer) = (vec![0; BUFFER_SIZE], vec![0; BUFFER_SIZE]);
    loop {
        match tun.receive(&mut packet) {
            Ok(len) => {
                let now = Instant::now();
                if let Err(reason) = shared.tunnel.seal(now, id, &packet[..len], &mut buffer, &mut Wire(shared)) {
                    trace!(?id, %reason, "packet discarded");
                }
            }
            Err(error) if tun::is_gone(&error) => return,
            Err(error) => {
                warn!(%error, "cannot read the interface");
                thread::sleep(PAUSE_AFTER_ERROR);
            }
        }
    }
}

fn keep_time(shared: &Shared, commands: &Receiver<Command>) {
    let mut buffer = vec![0; BUFFER_SIZE];
    let mut due = Instant::now() + TICK;
    loop {
        match commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Command::Greet(id, peers)) => {
                shared.tunnel.initiate(Instant::now(), id, &peers, &mut buffer, &mut Wire(shared));
            }
            Ok(Command::Announce) => shared.tunnel.announce(Instant::now(), &mut buffer, &mut Wire(shared)),
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                shared.tunnel.handle_timeout(now, &mut buffer, &mut Wire(shared));
                due = now + TICK;
            }
            Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
