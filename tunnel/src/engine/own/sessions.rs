//! Which keypairs of a peer are in use (whitepaper §6.4): the current one, the one before it for packets still under
//! way, and the next one, which we answered for and the peer has not used yet.

use std::sync::Arc;
use std::time::Instant;

use crate::datapath::{Keypair, Role};

/// Immutable; data threads read it while a handshake makes another.
#[derive(Default, Clone)]
pub(super) struct Sessions {
    previous: Option<Arc<Keypair>>,
    current: Option<Arc<Keypair>>,
    next: Option<Arc<Keypair>>,
}

impl Sessions {
    /// With a keypair that a handshake just yielded. The initiator may use it at once: the response proved that the
    /// peer has it. The responder waits for a packet.
    pub(super) fn with(&self, keypair: Keypair) -> Self {
        let keypair = Arc::new(keypair);
        match keypair.role() {
            Role::Initiator => {
                let previous = self.next.clone().or_else(|| self.current.clone());
                Self { previous, current: Some(keypair), next: None }
            }
            Role::Responder => Self { next: Some(keypair), ..self.clone() },
        }
    }

    /// After a packet came under `keypair`: in use now if it was the next one.
    pub(super) fn confirmed(&self, keypair: &Arc<Keypair>) -> Option<Self> {
        self.next.as_ref().filter(|next| Arc::ptr_eq(next, keypair))?;
        Some(Self { previous: self.current.clone(), current: self.next.clone(), next: None })
    }

    /// Without those that are dead; nothing if none is.
    pub(super) fn without_dead(&self, now: Instant) -> Option<Self> {
        let alive = |keypair: &Option<Arc<Keypair>>| keypair.clone().filter(|keypair| keypair.is_alive(now));
        let all = [&self.previous, &self.current, &self.next];
        all.into_iter().flatten().any(|keypair| !keypair.is_alive(now)).then(|| Self {
            previous: alive(&self.previous),
            current: alive(&self.current),
            next: alive(&self.next),
        })
    }

    /// What to send under.
    pub(super) fn current(&self) -> Option<&Arc<Keypair>> {
        self.current.as_ref()
    }

    pub(super) fn find(&self, local_index: u32) -> Option<&Arc<Keypair>> {
        let all = [&self.current, &self.next, &self.previous];
        all.into_iter().flatten().find(|keypair| keypair.local_index() == local_index)
    }

    pub(super) fn is_next(&self, keypair: &Arc<Keypair>) -> bool {
        self.next.as_ref().is_some_and(|next| Arc::ptr_eq(next, keypair))
    }
}
