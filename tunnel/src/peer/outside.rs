//! What a peer exchanges beside its sessions: probes, and clear frames as far as they let it.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Peer, Sighting};
use crate::discard::Discard;
use crate::engine::{Opened, Run};
use crate::host::Host;
use crate::mtu::Probing;
use crate::probe::{Heard, Proof, Urgency};
use crate::sources::PerSecond;
use crate::volume::Carried;

impl Peer {
    /// Writes a request for `to` that fills `datagram`; false if this peer is not probed.
    pub(crate) fn ask(
        &self,
        now: Instant,
        to: SocketAddr,
        urgency: Urgency,
        host: &Host,
        datagram: &mut [u8],
    ) -> Result<bool, Discard> {
        self.probes.ask(now, to, (self.clear.accepts(now, to), urgency), host, datagram)
    }

    /// A request of `len` bytes has been sent.
    pub(crate) fn asked(&self, to: SocketAddr, len: usize) {
        self.counters.sent(to, Carried::one(len));
    }

    /// Where to ask now of its own accord.
    pub(crate) fn ask_due(&self, now: Instant) -> Option<SocketAddr> {
        self.clear.due(now, || self.endpoint())
    }

    /// Takes a probe that bears our tag. `probe` becomes the reply, if there is one to send back; the result is what it
    /// has shown, and the reply's length.
    pub(crate) fn handle_probe(
        &self,
        now: Instant,
        from: SocketAddr,
        host: &Host,
        limit: &PerSecond,
        probe: &mut [u8],
    ) -> Result<(Sighting, Option<usize>), Discard> {
        let heard = self.probes.open(now, from, probe)?;
        self.counters.received(from, Carried::one(probe.len()));
        match heard {
            Heard::Request { challenge, accepts, urgency } => {
                if !limit.admits(now, from.ip()) {
                    return Err(Discard::ProbeLimit);
                }
                self.clear.asked(now, from, accepts);
                let len = self.probes.reply(from, challenge, self.clear.terms(now, from), host, probe)?;
                self.counters.sent(from, Carried::one(len));
                let is_alarm = urgency == Urgency::Alarm;
                Ok((Sighting::Request { from, is_alarm }, Some(len)))
            }
            Heard::Answer { asked_at, len, mapped, terms } => {
                self.mtu.answered(now, from, len);
                if self.engine.has_session(now) && self.may_vouch(now, from) {
                    self.clear.proved(now, from, asked_at, terms);
                }
                Ok((Sighting::Answer { endpoint: from, asked_at, mapped }, None))
            }
        }
    }

    /// Clear frames are for one endpoint at a time: the answer of an alternative does not end those of the one in use.
    fn may_vouch(&self, now: Instant, endpoint: SocketAddr) -> bool {
        let in_use = self.endpoint();
        in_use == Some(endpoint) || in_use.is_none_or(|in_use| !self.clear.is_proved(now, in_use))
    }

    pub(crate) fn proofs(&self, now: Instant) -> Vec<Proof> {
        self.probes.proofs(now)
    }

    /// Takes a run of clear frames, as [`crate::clear::Clear::take_run`] does; false if it takes none.
    pub(crate) fn take_clear(
        &self,
        now: Instant,
        from: SocketAddr,
        run: &Run<'_>,
        check: impl FnMut(&[u8]) -> Result<(), Discard>,
        taken: &mut dyn FnMut(Result<Opened<'_>, Discard>),
    ) -> bool {
        let mut carried = Carried::default();
        self.clear.take_run(now, from, run, check, &mut |result| {
            if let Ok(Opened { packet, .. }) = &result {
                carried = carried.and_data(packet.len());
            }
            taken(result);
        });
        if carried.datagrams > 0 {
            self.count_received(from, carried.in_clear());
            self.mtu.note_received(run.stride);
            self.watch.received();
            if self.endpoint() == Some(from) {
                self.watch.answered();
            }
        }
        carried.datagrams > 0
    }

    /// What to ask now to find out what the path carries; `default` is the interface's MTU.
    pub(crate) fn mtu_due(&self, now: Instant, default: u16) -> Option<Probing> {
        self.mtu.due(now, || self.endpoint().filter(|_| self.probes.is_enabled()), default)
    }
}
