//! One machine of a deployment, from the first connection to the last look. Taken up again after a crash it begins at the
//! beginning: every step looks before it does anything.

use std::{sync::Arc, time::Duration};

use cladnet_model::{
    MachineName,
    deployment::{DeploymentAction, DeploymentState, FailureReason, Fingerprint, legible},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    claim::Claim,
    connections::{Attempt, Connections, NoConnection},
    journal::{Journal, Stop},
    shares::Share,
};
use crate::{
    FailPoint,
    binary::Binary,
    failed::Failed,
    remote::Remote,
    script::WAKE,
    steps::{
        Machine,
        inspect::inspect,
        plan::{Plan, Wish, plan},
        settle::settle,
        verify::Expected,
    },
};

/// Somebody must walk to a console and compare.
const CONFIRMATION: Duration = Duration::from_secs(30 * 60);

/// The longest honest attempt: a slow upload, an agent that starts and joins late, peers that answer late. A machine that
/// always answers at the last moment would otherwise hold its place for hours.
const ATTEMPT: Duration = Duration::from_secs(20 * 60);

/// Before a connection that broke is made anew, once each: a cable that was pulled for a moment, a machine whose network
/// starts again. One that is away for longer ends the machine; the next deployment finishes it.
const RECONNECT_AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// What is given up.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    Network,
    /// Every network, and the identity.
    Everything,
    /// The same, of an agent that cannot be asked.
    Silently,
}

/// What is needed to work on a machine.
pub(super) struct Work {
    pub shared: Arc<Shared>,
    pub claim: Arc<Claim>,
    pub connections: Arc<Connections>,
    pub slots: Arc<Semaphore>,
    pub name: MachineName,
    pub cancel: CancellationToken,
}

/// That this machine may be worked on now.
struct Place {
    _slot: OwnedSemaphorePermit,
    _share: Share,
}

impl Work {
    /// A connection that breaks is made anew, and the machine is looked at from the beginning. Nothing else is tried again.
    pub(super) async fn run(&self, journal: &Journal) -> Result<(), Stop> {
        let mut broken = None;
        for pause in RECONNECT_AFTER {
            match self.attempt(journal, broken).await {
                Err(Stop::Broken(failed)) => {
                    journal.say(&format!("connecting again in {} s: {failed}", pause.as_secs()));
                    broken = Some(failed);
                    self.unless_cancelled(sleep(pause)).await?;
                }
                ended => return ended,
            }
        }
        self.attempt(journal, broken).await
    }

    /// `broken` is why the connection before this one ended.
    async fn attempt(&self, journal: &Journal, broken: Option<Failed>) -> Result<(), Stop> {
        let again = if broken.is_some() { Attempt::Again } else { Attempt::First };
        loop {
            let place = self.place().await?;
            self.take_back_token(journal).await?;
            journal.enter(DeploymentState::Connecting).await?;
            match self.unless_cancelled(self.connections.connect(&self.name, again)).await? {
                Ok(remote) => {
                    self.pass(FailPoint::Connected);
                    journal.say(&format!("connected; its key is {}", remote.shown_key().fingerprint));
                    let outcome = within(ATTEMPT, self.work_on(&remote, journal)).await;
                    if matches!(outcome, Err(Stop::Failed(_))) {
                        self.take_back_token(journal).await?;
                    }
                    let is_broken = remote.is_closed();
                    remote.close().await;
                    return match outcome {
                        Err(Stop::Failed(failed)) if is_broken && failed.reason == FailureReason::ConnectionLost => {
                            Err(Stop::Broken(failed))
                        }
                        outcome => outcome,
                    };
                }
                Err(NoConnection::Failed(failed)) => return Err(not_connected(failed, broken, journal)),
                Err(NoConnection::Lost) => return Err(Stop::Lost),
                Err(NoConnection::Unconfirmed { whose, shown }) => {
                    drop(place);
                    self.ask_for_word(journal, &whose, shown.fingerprint).await?;
                }
            }
        }
    }

    /// One of the deployment's places, and one of the replica's; who waits for a person holds none.
    async fn place(&self) -> Result<Place, Stop> {
        let place = async {
            let slot = self.slots.clone().acquire_owned().await.expect("it is never closed");
            Place { _slot: slot, _share: self.shared.machines.take(&self.claim.deployment().network).await }
        };
        self.unless_cancelled(place).await
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Stop::Cancelled),
            done = work => Ok(done),
        }
    }

    /// Waits until somebody has vouched for a key.
    async fn ask_for_word(&self, journal: &Journal, whose: &MachineName, shown: Fingerprint) -> Result<(), Stop> {
        if *whose == self.name {
            journal.say(&format!("it shows the key {shown}: compare and confirm it"));
            journal.enter_with(DeploymentState::ConfirmHostKey, |progress| progress.offered_key = Some(shown)).await?;
        } else {
            journal.say(&format!("the key of its bastion {whose} waits to be confirmed"));
            journal.enter(DeploymentState::Waiting).await?;
        }
        let mut hosts = self.connections.hosts();
        let confirmed = hosts.wait_for(|hosts| hosts.get(whose).is_some_and(|host| host.confirmed.is_some()));
        tokio::select! {
            () = self.cancel.cancelled() => Err(Stop::Cancelled),
            word = timeout(CONFIRMATION, confirmed) => match word {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(Stop::Lost),
                Err(_) if *whose == self.name => Err(Failed::new(
                    FailureReason::HostKeyUnconfirmed,
                    format!("nobody confirmed the key {shown} within 30 minutes; repeat the deployment, or give host_key"),
                )
                .into()),
                Err(_) => Err(Failed::new(
                    FailureReason::BastionFailed,
                    format!("nobody confirmed the key of its bastion {whose} within 30 minutes; repeat the deployment"),
                )
                .into()),
            },
        }
    }

    async fn work_on(&self, remote: &Remote, journal: &Journal) -> Result<(), Stop> {
        journal.enter(DeploymentState::Inspecting).await?;
        let seen = inspect(remote).await?;
        self.pass(FailPoint::Inspected);
        let machine = Machine { remote, seen: &seen };
        let outcome = self.treat(&machine, journal).await;
        if !matches!(outcome, Err(Stop::Lost)) {
            machine.clean().await;
        }
        outcome
    }

    /// Decides what must be done, and does it.
    async fn treat(&self, machine: &Machine<'_>, journal: &Journal) -> Result<(), Stop> {
        let seen = machine.seen;
        let system = legible(&seen.system());
        journal.say(&system);
        journal.change(|progress| progress.system = system).await?;
        let deployment = self.claim.deployment();
        let authority = self.shared.config.service.authority().await?;
        let binary = match deployment.action {
            DeploymentAction::Uninstall => None,
            _ => self.shared.binaries.find(&seen.arch).await?,
        };
        let release = binary.as_ref().map(|binary| binary.release.clone());
        let wish = Wish { action: deployment.action, network: &deployment.network, authority: &authority, release };
        let decided = plan(seen, &wish)?;
        if !decided.wants_its_word(seen) {
            return self.carry_out(machine, decided, binary.as_ref(), &authority, journal).await;
        }
        journal.say("the agent does not answer: starting it, so that it can leave");
        WAKE.run(machine.remote, seen.root(), &[seen.init.as_str()]).await?;
        let seen = inspect(machine.remote).await?;
        let machine = Machine { remote: machine.remote, seen: &seen };
        self.carry_out(&machine, plan(&seen, &wish)?, None, &authority, journal).await
    }

    async fn carry_out(
        &self,
        machine: &Machine<'_>,
        plan: Plan,
        binary: Option<&Binary>,
        authority: &str,
        journal: &Journal,
    ) -> Result<(), Stop> {
        journal.say(&plan.to_string());
        match (plan, binary) {
            (Plan::Install { upload, .. }, Some(binary)) => {
                self.install(machine, upload, binary, authority, journal).await
            }
            (Plan::Upgrade { upload }, Some(binary)) => self.upgrade(machine, upload, binary, authority, journal).await,
            (Plan::Install { .. } | Plan::Upgrade { .. }, None) => {
                Err(Failed::new(FailureReason::NoAgentBinary, "there is no agent to send").into())
            }
            (Plan::Leave, _) => self.leave(machine, Leaving::Network, journal).await,
            (Plan::Remove { leave }, _) => {
                let leaving = if leave { Leaving::Everything } else { Leaving::Silently };
                self.leave(machine, leaving, journal).await?;
                let state = machine.seen.traces.identity.as_ref().filter(|_| !leave);
                let told = machine.remove(state.and_then(|state| state.host.as_ref())).await?;
                told.iter().for_each(|line| journal.say(line));
                self.pass(FailPoint::Removed);
                Ok(())
            }
            (Plan::Forget, _) => self.leave(machine, Leaving::Silently, journal).await,
            (Plan::Nothing(_), _) => Ok(()),
        }
    }

    async fn put(
        &self,
        machine: &Machine<'_>,
        upload: bool,
        binary: &Binary,
        authority: &str,
        journal: &Journal,
    ) -> Result<crate::steps::install::Installed, Stop> {
        if upload {
            journal.enter(DeploymentState::Uploading).await?;
            machine.upload(binary).await?;
            journal.say(&format!("uploaded {} bytes, SHA-256 {}", binary.release.bytes, binary.release.sha256));
            self.pass(FailPoint::Uploaded);
        }
        journal.enter(DeploymentState::Installing).await?;
        let installed = machine.install(&binary.release, authority).await?;
        self.pass(FailPoint::Installed);
        journal.say(if installed.restarted {
            "installed, and the agent restarted"
        } else {
            "all is installed already"
        });
        let version = legible(&installed.status.version);
        journal.change(|progress| progress.agent_version = version).await?;
        Ok(installed)
    }

    async fn install(
        &self,
        machine: &Machine<'_>,
        upload: bool,
        binary: &Binary,
        authority: &str,
        journal: &Journal,
    ) -> Result<(), Stop> {
        let installed = self.put(machine, upload, binary, authority, journal).await?;
        let deployment = self.claim.deployment();
        // It may have been silent before.
        if let Some(host) = installed.status.host.as_ref().filter(|host| host.authority != authority) {
            let detail = format!("the agent there is {} of another control plane; let it leave first", host.id);
            return Err(Failed::new(FailureReason::ForeignAgent, detail).into());
        }
        let id = self.become_member(machine, &installed.status, journal).await?;
        let wish = self.connections.host(&self.name)?;
        let service = &self.shared.config.service;
        for line in settle(service, &deployment.network, &id, &wish).await? {
            journal.say(&line);
        }
        self.pass(FailPoint::Settled);
        journal.enter(DeploymentState::Verifying).await?;
        let expected = Expected { service, network: &deployment.network, host: &id, address: wish.overlay_address };
        for line in machine.verify(&expected).await? {
            journal.say(&line);
        }
        self.pass(FailPoint::Verified);
        Ok(())
    }

    async fn upgrade(
        &self,
        machine: &Machine<'_>,
        upload: bool,
        binary: &Binary,
        authority: &str,
        journal: &Journal,
    ) -> Result<(), Stop> {
        self.put(machine, upload, binary, authority, journal).await?;
        journal.enter(DeploymentState::Verifying).await?;
        let before = machine.seen.agent.as_ref().and_then(|agent| agent.status.as_ref());
        journal.say(&machine.verify_upgrade(before).await?);
        self.pass(FailPoint::Verified);
        Ok(())
    }

    /// Takes back what this machine is in the network, or altogether: the agent says so first, with its own certificate, and
    /// we do only for the host that the machine is known to be.
    async fn leave(&self, machine: &Machine<'_>, leaving: Leaving, journal: &Journal) -> Result<(), Stop> {
        let network = &self.claim.deployment().network;
        let known = self.connections.known_host(&self.name).await?;
        journal.enter_with(DeploymentState::Removing, |progress| progress.host = known.clone()).await?;
        let warning = match leaving {
            Leaving::Network => machine.leave(network).await?,
            Leaving::Everything => machine.leave_all(network).await?,
            Leaving::Silently => None,
        };
        let service = &self.shared.config.service;
        match (&known, leaving) {
            (Some(host), Leaving::Network) => service.remove_peer(network, host).await?,
            (Some(host), _) => service.remove_host(host).await?,
            (None, Leaving::Silently) if machine.seen.traces.identity.is_some() => journal.say(
                "which host this machine was is not known; it is still listed, remove it with `cladnet host remove`",
            ),
            (None, _) => warning.iter().for_each(|warning| journal.say(warning)),
        }
        if !matches!(leaving, Leaving::Network) {
            self.connections.keep_host(&self.name, None).await?;
        }
        journal.say(known.map_or("left".to_owned(), |host| format!("{host} has left")).as_str());
        self.pass(FailPoint::Left);
        Ok(())
    }

    pub(super) fn pass(&self, point: FailPoint) {
        point.pass(self.shared.config.fail_point);
    }
}

/// A machine that cannot be reached after its connection broke is away still: that it broke is what is told.
fn not_connected(failed: Failed, broken: Option<Failed>, journal: &Journal) -> Stop {
    use FailureReason::{BastionFailed, ConnectionLost, Unreachable};
    match broken {
        Some(broken) if matches!(failed.reason, Unreachable | BastionFailed | ConnectionLost) => {
            journal.say(&failed.detail);
            Stop::Broken(broken)
        }
        _ => Stop::Failed(failed),
    }
}

/// What is cut off here is taken up by the next deployment, which looks first.
async fn within(limit: Duration, work: impl Future<Output = Result<(), Stop>>) -> Result<(), Stop> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let detail = format!("it was not done within {} minutes; look why it is so slow", limit.as_secs() / 60);
        Err(Failed::new(FailureReason::ConnectionLost, detail).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_attempt_has_an_end() {
        match within(Duration::ZERO, std::future::pending()).await {
            Err(Stop::Failed(failed)) => assert_eq!(failed.reason, FailureReason::ConnectionLost),
            other => panic!("{other:?}"),
        }
        assert!(matches!(within(ATTEMPT, async { Err(Stop::Cancelled) }).await, Err(Stop::Cancelled)));
    }
}
