//! The data threads. Each owns its buffers and its share of the queues, waits in one system call, serves by turns the
//! queues that hold something, and carries what it got to the end.

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use cladnet_tunnel::{
    BUFFER_SIZE, CoDel, Delivery, Discard, InterfaceId, ProbeRequest, PublicKey, ReceivedTrain, TICK, Urgency,
};
use tokio::sync::mpsc;
use tracing::warn;

use super::PAUSE_AFTER_ERROR;
use super::keeper::Lost;
use super::shared::Shared;
use super::slice;
use super::stun::{StunReply, is_stun};
use super::tun_reader::TunReader;
use super::wire::Wire;
use crate::tun::Tun;
use crate::udp::{Arrival, Inbox, UdpSocket, Waiting};

/// How many threads at most share the queues of the socket, or of one TUN. Each costs a few hundred kilobytes, and not
/// all of a machine's cores are ours.
const MAX_THREADS: usize = 4;

/// What the control side asks of the timer thread.
pub(super) enum Command {
    /// Start handshakes with these peers, and tell all what a change of configuration means to them.
    Greet(InterfaceId, Vec<PublicKey>),
    /// Ask a peer at these endpoints by datagrams of this size.
    Probe(InterfaceId, PublicKey, Vec<SocketAddr>, usize),
    /// Tell every peer where we are.
    Announce,
    Stop,
}

/// Starts the threads that every device has. They end when `shared` is stopped and the sender is gone.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Sender<Command>> {
    let (commands, queue) = channel();
    for queues in shares(shared.socket.queue_count(), UdpSocket::group) {
        let waiting = shared.socket.waiting(queues)?;
        spawn("cladnet-udp", shared, move |shared| read_udp(&shared, waiting))?;
    }
    spawn("cladnet-timer", shared, move |shared| keep_time(&shared, &queue))?;
    Ok(commands)
}

/// Makes `tun` the device of an interface and starts its readers, which end when the device is deleted.
pub(super) fn read_tun(
    shared: &Arc<Shared>,
    id: InterfaceId,
    name: &str,
    tun: &Arc<Tun>,
    lost: &mpsc::Sender<Lost>,
) -> io::Result<()> {
    shared.attach(id, tun.clone());
    let start = |queues: Vec<usize>| {
        let (tun, lost, readiness) = (tun.clone(), lost.clone(), tun.readiness(&queues)?);
        // A thread's name is cut at 15 bytes, as an interface's is.
        spawn(name, shared, move |shared| {
            TunReader::new(&shared, id, &tun, &queues, readiness).run();
            // Nobody listens any more when the whole device is being closed.
            let _ = lost.blocking_send(Lost { id, tun });
        })
    };
    shares(tun.queue_count(), |queue| queue).try_for_each(start).inspect_err(|_| shared.detach(id))
}

/// Queues are dealt out to as many threads as can run at once, those of a group to one.
fn shares(queues: usize, group: fn(usize) -> usize) -> impl Iterator<Item = Vec<usize>> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(MAX_THREADS).min(queues);
    (0..threads).map(move |thread| (0..queues).filter(|queue| group(*queue) % threads == thread).collect())
}

pub(super) fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    body: impl FnOnce(Arc<Shared>) + Send + 'static,
) -> io::Result<()> {
    let shared = shared.clone();
    let body = move || {
        slice::shorten();
        body(shared);
    };
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

fn read_udp(shared: &Shared, mut waiting: Waiting) {
    let mut reader = UdpReader::new(shared);
    loop {
        let ready = waiting.wait(&shared.socket, &reader.inbox);
        let read = ready.and_then(|mut ready| ready.try_for_each(|queue| reader.read(queue)));
        if shared.is_stopped() {
            return;
        }
        if let Err(error) = read {
            warn!(%error, "cannot read the tunnel's socket");
            thread::sleep(PAUSE_AFTER_ERROR);
        }
    }
}

/// What a thread of the socket works with; nothing is allocated after its first trains.
struct UdpReader<'a> {
    shared: &'a Shared,
    inbox: Inbox,
    buffer: Vec<u8>,
    opened: Vec<Delivery>,
    deliveries: Vec<Delivery>,
    wire: Wire<'a>,
    /// Of every queue of the socket.
    codels: Vec<CoDel>,
}

impl<'a> UdpReader<'a> {
    fn new(shared: &'a Shared) -> Self {
        let (inbox, buffer, wire) = (Inbox::new(), vec![0; BUFFER_SIZE], Wire::new(shared));
        let codels = (0..shared.socket.queue_count()).map(|_| CoDel::default()).collect();
        Self { shared, inbox, buffer, opened: Vec::new(), deliveries: Vec::new(), wire, codels }
    }

    /// One turn of a queue.
    fn read(&mut self, queue: usize) -> io::Result<()> {
        let Self { shared, inbox, buffer, opened, deliveries, wire, codels } = self;
        shared.socket.receive(queue, inbox)?;
        let now = Instant::now();
        for mut arrival in inbox.arrivals() {
            if codels[queue].drops(now, arrival.waited) {
                shared.tunnel.discards().count(Discard::Congested);
                arrival.drop_first();
                if arrival.train.datagrams.is_empty() {
                    continue;
                }
            }
            let Arrival { start: at, train, .. } = arrival;
            if train.datagrams.is_empty() {
                shared.tunnel.discards().count(Discard::Malformed);
            } else if is_stun(first(&train)) {
                answer_stun(shared, &train);
            } else {
                shared.tunnel.open_train(now, train, opened, buffer, wire);
                deliveries.extend(opened.drain(..).map(|Delivery { interface, packet }| {
                    let packet = at + packet.start..at + packet.end;
                    Delivery { interface, packet }
                }));
            }
        }
        wire.deliver_all(inbox.bytes(), deliveries);
        deliveries.clear();
        wire.flush();
        Ok(())
    }
}

fn first<'a>(train: &'a ReceivedTrain<'_>) -> &'a [u8] {
    &train.datagrams[..train.segment_size.min(train.datagrams.len())]
}

/// Who sends STUN from a port sends nothing else from there.
fn answer_stun(shared: &Shared, train: &ReceivedTrain<'_>) {
    for message in train.datagrams.chunks(train.segment_size).filter(|datagram| is_stun(datagram)) {
        // Fails if nobody asked.
        let _ = shared.stun.send(StunReply { from: train.from, message: message.to_vec() });
    }
}

fn keep_time(shared: &Shared, commands: &Receiver<Command>) {
    let (mut buffer, mut wire) = (vec![0; BUFFER_SIZE], Wire::new(shared));
    let mut due = Instant::now() + TICK;
    loop {
        wire.flush();
        match commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Command::Greet(id, peers)) => {
                let now = Instant::now();
                shared.tunnel.initiate(now, id, &peers, &mut buffer, &mut wire);
                shared.tunnel.probe_due(now, &mut buffer, &mut wire);
            }
            Ok(Command::Probe(id, peer, endpoints, size)) => {
                let request = ProbeRequest { endpoints: &endpoints, size, urgency: Urgency::Routine };
                shared.tunnel.probe(Instant::now(), id, &peer, request, &mut buffer, &mut wire);
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
