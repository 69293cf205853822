//! A thread of one TUN device: reads what the kernel routes into its queues, by turns, cuts super-packets, and seals
//! packets for one address together.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::Instant;

use cladnet_tunnel::offload::{Segments, VirtioNetHeader};
use cladnet_tunnel::{BUFFER_SIZE, Discard, InterfaceId, Train};
use tracing::{trace, warn};

use super::PAUSE_AFTER_ERROR;
use super::pace::Pace;
use super::shared::Shared;
use super::wire::Wire;
use crate::readiness::Readiness;
use crate::tun::{self, Tun};

/// Packets of one turn of a queue: a full train of short ones, so that fairness costs floods no speed.
const PACKETS_A_TURN: usize = 64;
/// What a super-packet counts for: two of them take 0.1 ms to seal, for which queues that say little wait.
const SUPER_PACKET: usize = 32;

pub(super) struct TunReader<'a> {
    shared: &'a Shared,
    id: InterfaceId,
    tun: &'a Tun,
    /// Its share of the device's.
    queues: &'a [usize],
    /// Of each of them.
    paces: Vec<Pace>,
    readiness: Readiness,
    buffers: Buffers,
    wire: Wire<'a>,
}

/// Each of [`BUFFER_SIZE`].
struct Buffers {
    /// What was read.
    packet: Vec<u8>,
    /// The train in the making.
    train: Vec<u8>,
    tunnel: Vec<u8>,
}

impl<'a> TunReader<'a> {
    /// `readiness` is that of these queues.
    pub(super) fn new(
        shared: &'a Shared,
        id: InterfaceId,
        tun: &'a Tun,
        queues: &'a [usize],
        readiness: Readiness,
    ) -> Self {
        let [packet, train, tunnel] = [(); 3].map(|()| vec![0; BUFFER_SIZE]);
        let buffers = Buffers { packet, train, tunnel };
        let paces = vec![Pace::new(Instant::now()); queues.len()];
        Self { shared, id, tun, queues, paces, readiness, buffers, wire: Wire::new(shared) }
    }

    /// Returns when the device is gone.
    pub(super) fn run(mut self) {
        loop {
            match self.take_turns() {
                Ok(()) => {}
                Err(error) if tun::is_gone(&error) => return,
                Err(error) => {
                    warn!(%error, "cannot read the interface");
                    thread::sleep(PAUSE_AFTER_ERROR);
                }
            }
        }
    }

    fn take_turns(&mut self) -> io::Result<()> {
        let Self { shared, id, tun, queues, paces, readiness, buffers, wire } = self;
        readiness.wait()?;
        for position in readiness.turns(&|position| paces[position].is_bulk()) {
            let turn = Turn { shared, id: *id, tun, queue: queues[position] };
            let drained = turn.drain(&mut paces[position], buffers, wire);
            wire.flush();
            drained?;
        }
        Ok(())
    }
}

/// A queue's.
struct Turn<'a> {
    shared: &'a Shared,
    id: InterfaceId,
    tun: &'a Tun,
    queue: usize,
}

impl Turn<'_> {
    /// Seals what the queue holds, up to what one turn may take.
    fn drain(&self, pace: &mut Pace, buffers: &mut Buffers, wire: &mut Wire<'_>) -> io::Result<()> {
        let Self { shared: Shared { tunnel, .. }, id, .. } = self;
        let now = Instant::now();
        let mut seal = |train: Train<'_>| {
            if !train.is_empty()
                && let Err(reason) = tunnel.seal_train(now, train, &mut buffers.tunnel, wire)
            {
                trace!(?id, %reason, "packets discarded");
            }
        };
        let discard = |reason: Discard| {
            trace!(?id, %reason, "packet discarded");
            tunnel.discards().count(reason);
        };
        let (mut train, mut train_to) = match tunnel.train(*id, None, &mut buffers.train) {
            Ok(train) => (train, None),
            Err(reason) => {
                discard(reason);
                return self.read(&mut buffers.packet).map(drop);
            }
        };
        let mut result = Ok(());
        let (mut taken, mut reads) = (0, 0);
        while taken < PACKETS_A_TURN {
            let mut segments = match self.read(&mut buffers.packet) {
                Ok(Some(Ok(segments))) => segments,
                Ok(Some(Err(reason))) => {
                    discard(reason);
                    taken += 1;
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            taken += if segments.count() > 1 { SUPER_PACKET } else { 1 };
            reads += 1;
            let may_overtake = pace.note(now, segments.len());
            while let Some(packet) = segments.next_segment() {
                let to = destination(packet);
                if to.is_some() && to == train_to && train.may_overtake() == may_overtake && train.push(packet) {
                    continue;
                }
                seal(train);
                let Ok(mut next) = tunnel.train(*id, to, &mut buffers.train) else { return result };
                next.set_may_overtake(may_overtake);
                (train, train_to) = (next, to);
                if !train.push(packet) {
                    discard(Discard::Oversized);
                }
            }
        }
        seal(train);
        self.tun.note_turn(now, self.queue, reads, taken >= PACKETS_A_TURN);
        result
    }

    /// The next packet, cut, unless it is malformed; none if there is none now.
    fn read<'p>(&self, packet: &'p mut [u8]) -> io::Result<Option<Result<Segments<'p>, Discard>>> {
        let mut header = [0; VirtioNetHeader::LEN];
        let len = match self.tun.receive(self.queue, &mut header, packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        let header = VirtioNetHeader::parse(&header).ok_or(Discard::MalformedOffload);
        Ok(Some(header.and_then(|header| Segments::new(&header, &mut packet[..len]))))
    }
}

/// Packets of which it is the same have the same peer; one that has none travels alone.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => packet.get(16..)?.first_chunk().map(|octets: &[u8; 4]| Ipv4Addr::from(*octets).into()),
        6 => packet.get(24..)?.first_chunk().map(|octets: &[u8; 16]| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}
