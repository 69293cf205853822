//! The daemon `cladnet-agent run`: takes the lock, opens the data plane, applies what was configured last, and only
//! then turns to the service. It ends by a signal, or by the panic of any task: half a daemon is worse than none, and
//! the service manager starts another.

mod clock;
mod commands;
mod core;
mod follow;
mod join;
mod leave;
mod membership;
mod notify;
mod reconcile;
mod report;
mod requests;
mod subnets;
mod take;
#[cfg(test)]
mod tests;
mod usage;
mod volumes;

use std::{sync::Arc, time::Duration};

use cladnet_pki::channel::ServiceUrl;
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{error, info, warn};

use crate::{
    config::Config,
    control::server,
    device::{Device, DeviceError},
    facts::{Facts, Observer, machine},
    failure::{Failure, Kind, chain},
    forwarding::Forwarder,
    netcheck,
    netlink::Netlink,
    state::{Lock, StateDir},
    sync::{self, Inputs, Statuses},
    udp::UdpError,
};
use core::Core;

/// The control side is a few tasks that mostly wait; the data plane has threads of its own.
const WORKERS: usize = 2;
/// What failed is tried again this often.
const RETRY: Duration = Duration::from_secs(5);
/// Configurations that change quickly are written once.
const SAVE_DELAY: Duration = Duration::from_millis(100);
/// A core that does not answer for so long will not any more.
const STUCK: Duration = Duration::from_secs(15);
/// Results of commands that wait for the stream.
const RESULTS: usize = 64;

/// The daemon's shared part: what tasks reach each other through.
pub(crate) struct Agent {
    config: Arc<Config>,
    state: StateDir,
    device: Arc<Device>,
    netlink: Netlink,
    forwarder: Mutex<Forwarder>,
    facts: watch::Receiver<Arc<Facts>>,
    /// Whom STUN asks.
    services: watch::Sender<Vec<ServiceUrl>>,
    identity: watch::Sender<Option<Arc<crate::state::Identity>>>,
    statuses: watch::Sender<Statuses>,
    results: mpsc::Sender<cladnet_proto::cladnet::v1::CommandResult>,
    /// What the service is to count.
    usage: watch::Sender<Option<cladnet_proto::cladnet::v1::UsageReport>>,
    metering: std::sync::Mutex<usage::Metering>,
    /// The service said what it has counted.
    counted: Notify,
    /// Something waits to be written to disk.
    unsaved: Notify,
    core: Mutex<Core>,
    /// What was last measured.
    round_trips: std::sync::Mutex<commands::RoundTrips>,
    /// One join or leave at a time.
    changing: Mutex<()>,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> Result<(), Failure> {
    netcheck::may_run()?;
    let state = StateDir::open(&config.state_dir).map_err(|error| Failure::caused(Kind::Configuration, &error))?;
    let lock = state.lock().map_err(|error| Failure::caused(Kind::Conflict, &error))?;
    end_with_any_panic();
    // Keys are in memory: no core dump, no debugger but root's.
    let _ = nix::sys::prctl::set_dumpable(false);
    cladnet_pki::install_crypto_provider();
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Failed, format!("cannot start: {error}")))?;
    runtime.block_on(serve(Arc::new(config), state, lock))
}

async fn serve(config: Arc<Config>, state: StateDir, _lock: Lock) -> Result<(), Failure> {
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::caused(Kind::Failed, error);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    let device =
        Arc::new(Device::open(config.listen_port, config.engine.into(), config.offload).map_err(
            |error| match error {
                DeviceError::Udp(UdpError::PortInUse { .. }) => Failure::caused(Kind::Conflict, &error),
                error => failed(&error),
            },
        )?);
    let netlink = Netlink::connect().map_err(|error| failed(&error))?;
    let listener = server::bind(&config.socket).map_err(|error| {
        Failure::new(Kind::Failed, format!("cannot make the control socket {}: {error}", config.socket.display()))
    })?;

    let (services, services_seen) = watch::channel(Vec::new());
    let (observer, facts, moved) =
        Observer::start(config.clone(), device.clone(), netlink.clone(), state.clone(), services_seen).await;
    let (identity, identity_seen) = watch::channel(None);
    let (statuses, statuses_seen) = watch::channel(Statuses::new());
    let (results, results_seen) = mpsc::channel(RESULTS);
    let (usage, usage_seen) = watch::channel(None);
    let metering = usage::Metering::load(&state).into();
    let forwarder = Forwarder::load(&state);
    let agent = Arc::new(Agent {
        core: Mutex::new(Core::load(&state, &machine::machine_id())),
        config: config.clone(),
        state,
        device: device.clone(),
        netlink,
        forwarder: Mutex::new(forwarder),
        facts: facts.clone(),
        services,
        identity,
        statuses,
        results,
        usage,
        metering,
        counted: Notify::new(),
        unsaved: Notify::new(),
        round_trips: Default::default(),
        changing: Mutex::new(()),
    });
    agent.begin().await;

    let inputs = Inputs {
        identity: identity_seen,
        facts,
        moved,
        statuses: statuses_seen,
        results: results_seen,
        usage: usage_seen,
    };
    let serving = agent.clone();
    let link = tokio::spawn(sync::run(inputs, agent.clone()));
    let tasks = [
        tokio::spawn(server::serve(listener, move |request, caller| serving.clone().answer(request, caller))),
        tokio::spawn(agent.clone().keep_saved()),
        tokio::spawn(agent.clone().keep_usage()),
        tokio::spawn(agent.clone().follow_facts()),
        tokio::spawn(async move {
            if let Err(error) = observer.run().await {
                error!(error = chain(&error), "the kernel's address changes cannot be followed");
                // The service manager's next one may.
                std::process::abort();
            }
        }),
    ];
    info!(port = config.listen_port, socket = %config.socket.display(), "cladnet-agent is ready");
    notify::ready();
    let mut watchdog = interval(Duration::from_secs(5));
    watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = watchdog.tick() => match timeout(STUCK, agent.core.lock()).await {
                Ok(core) => {
                    drop(core);
                    notify::alive();
                }
                Err(_) => error!("the core does not answer; the service manager's watchdog decides"),
            }
        }
    }
    info!("going down");
    notify::stopping();
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    agent.report_at_the_end().await;
    link.abort();
    agent.end().await;
    if let Err(error) = std::fs::remove_file(&config.socket) {
        warn!(%error, "control socket not removed");
    }
    Ok(())
}

/// tokio catches panics task by task; ours end the process.
fn end_with_any_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

impl Agent {
    /// Raises what was up before; nothing here waits for the service.
    async fn begin(&self) {
        let mut core = self.core.lock().await;
        self.services.send_replace(core.services());
        self.reconcile_all(&mut core).await;
        self.identity.send_replace(core.identity.clone());
    }

    /// Removes the interfaces and what was made for them, and writes what is not written yet.
    async fn end(&self) {
        let mut core = self.core.lock().await;
        self.save(&mut core);
        for membership in core.memberships.values() {
            self.read_meter(membership).await;
        }
        self.save_usage();
        self.forwarder.lock().await.end(&self.netlink).await;
        for membership in core.memberships.values_mut().filter(|membership| membership.running) {
            membership.running = false;
            if let Err(error) = self.device.remove_interface(&membership.record.interface).await {
                warn!(interface = membership.record.interface, error = chain(&error), "interface not removed");
            }
        }
    }

    /// Our addresses and location decide which endpoints of peers are used.
    async fn follow_facts(self: Arc<Self>) {
        let mut facts = self.facts.clone();
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = facts.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let mut core = self.core.lock().await;
                    self.reconcile_all(&mut core).await;
                }
                _ = retry.tick() => {
                    let mut core = self.core.lock().await;
                    self.review(&mut core).await;
                }
            }
        }
    }

    /// Writes memberships that changed; while the disk is full or read-only the agent goes on and tries again.
    async fn keep_saved(self: Arc<Self>) {
        loop {
            self.unsaved.notified().await;
            tokio::time::sleep(SAVE_DELAY).await;
            loop {
                if self.save(&mut *self.core.lock().await) {
                    break;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
