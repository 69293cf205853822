//! The thread that measures paths and moves traffic between them: it tells [`Prober`] what the data threads saw, sends
//! what it asks, and does what it chooses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cladnet_tunnel::{BUFFER_SIZE, InterfaceId, ProbeRequest, PublicKey, Sighting};
use tracing::{debug, info};

use super::shared::Shared;
use super::wire::Wire;
use super::{Device, threads};
use crate::paths::Pair;
use crate::probing::{Action, Counts, Measured, PeerId, Prober};

/// How often the peers' traffic is looked at: a part of the time in which a dead path is to be noticed.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What data threads have seen and the prober has not yet; what is beyond is as if it were lost on the way.
const BACKLOG: usize = 1024;

/// What wakes the thread.
pub(super) enum News {
    Sighted(Instant, PeerId, Sighting),
    /// The [`Prober`] was told something, or the device is to stop.
    Told,
}

/// What the control side and the thread share.
pub(super) struct Probing {
    prober: Mutex<Prober>,
    news: SyncSender<News>,
    /// Taken by the thread when it starts.
    heard: Mutex<Option<Receiver<News>>>,
}

impl Probing {
    pub(super) fn new() -> Self {
        let (news, heard) = sync_channel(BACKLOG);
        let prober = Mutex::new(Prober::new(Instant::now(), rand::random));
        Self { prober, news, heard: Mutex::new(Some(heard)) }
    }

    /// Told by data threads; never waits.
    pub(super) fn sighted(&self, id: PeerId, sighting: Sighting) {
        let _ = self.news.try_send(News::Sighted(Instant::now(), id, sighting));
    }

    pub(super) fn stop(&self) {
        let _ = self.news.try_send(News::Told);
    }

    /// Tells the prober something and wakes its thread.
    fn tell(&self, tell: impl FnOnce(&mut Prober)) {
        tell(&mut self.prober());
        // If there is no room it is awake.
        let _ = self.news.try_send(News::Told);
    }

    fn prober(&self) -> MutexGuard<'_, Prober> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device {
    /// The peers of an interface whose paths are to be measured and chosen; others keep what they are configured with.
    pub(crate) async fn set_pairs(&self, name: &str, pairs: BTreeMap<PublicKey, Pair>) {
        if let Some(running) = self.interfaces.lock().await.get(name) {
            let id = running.id;
            self.shared.probing.tell(|prober| prober.set_peers(Instant::now(), id, pairs));
        }
    }

    /// What was measured of the peers of an interface.
    pub(crate) async fn measured(&self, name: &str) -> BTreeMap<PublicKey, Measured> {
        let interfaces = self.interfaces.lock().await;
        let Some(running) = interfaces.get(name) else { return BTreeMap::new() };
        self.shared.probing.prober().measured(Instant::now(), running.id)
    }

    pub(crate) fn probe_counts(&self) -> Counts {
        self.shared.probing.prober().counts()
    }
}

pub(super) fn forget(shared: &Shared, id: InterfaceId) {
    shared.probing.tell(|prober| prober.set_peers(Instant::now(), id, BTreeMap::new()));
}

/// Every path is another one than it was.
pub(super) fn moved(shared: &Shared) {
    shared.probing.tell(|prober| prober.moved(Instant::now()));
}

/// Starts the thread; it ends when `shared` is stopped.
pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
    let heard = shared.probing.heard.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(heard) = heard else { return Ok(()) };
    threads::spawn("cladnet-prober", shared, move |shared| run(&shared, &heard))
}

fn run(shared: &Shared, heard: &Receiver<News>) {
    let (mut hand, mut look_at) = (Hand::new(shared), Instant::now());
    while !shared.is_stopped() {
        let wake_at = shared.probing.prober().wake_at().map_or(look_at, |at| at.min(look_at));
        let first = match heard.recv_timeout(wake_at.saturating_duration_since(Instant::now())) {
            Ok(news) => Some(news),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let actions = {
            let mut prober = shared.probing.prober();
            for news in first.into_iter().chain(heard.try_iter()) {
                match news {
                    News::Sighted(at, id, sighting) => prober.sighted(at, id, sighting),
                    News::Told => {}
                }
            }
            let now = Instant::now();
            if now >= look_at {
                look_at = now + LOOK_EVERY;
                look(shared, now, &mut prober);
            }
            prober.poll(now).into_iter().map(|action| (now, action)).collect::<Vec<_>>()
        };
        actions.into_iter().for_each(|(now, action)| hand.act(now, action));
        hand.wire.flush();
    }
}

/// Tells the prober whose packets pass and whose are not answered.
fn look(shared: &Shared, now: Instant, prober: &mut Prober) {
    for id in shared.tunnel.interfaces() {
        shared.tunnel.activities(now, id, |key, activity| prober.note(now, (id, key), activity));
    }
}

/// Carries out what is to be done.
struct Hand<'a> {
    shared: &'a Shared,
    buffer: Vec<u8>,
    wire: Wire<'a>,
}

impl<'a> Hand<'a> {
    fn new(shared: &'a Shared) -> Self {
        Self { shared, buffer: vec![0; BUFFER_SIZE], wire: Wire::new(shared) }
    }

    fn act(&mut self, now: Instant, action: Action) {
        let Self { shared, buffer, wire } = self;
        match action {
            Action::Ask { peer: (id, key), endpoint, urgency } => {
                let request = ProbeRequest { endpoints: &[endpoint], size: 0, urgency };
                shared.tunnel.probe(now, id, &key, request, buffer, wire);
            }
            Action::Steer { peer: (id, key), from, to } => {
                tell(&key, from, to);
                shared.tunnel.steer(now, id, &key, to, buffer, wire);
            }
        }
    }
}

fn tell(peer: &PublicKey, from: Option<SocketAddr>, to: Option<SocketAddr>) {
    match (from, to) {
        (Some(from), Some(to)) => info!(%peer, %from, %to, "path changed"),
        (_, None) => info!(%peer, "no path"),
        (None, Some(to)) => debug!(%peer, %to, "path chosen"),
    }
}
