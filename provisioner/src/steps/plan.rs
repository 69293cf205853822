//! From what a machine is and what is wanted of it to what must be done. Pure.

use std::fmt;

use cladnet_model::{
    NetworkId,
    deployment::{DeploymentAction, FailureReason},
};
use semver::Version;

use super::inspect::{Init, Inspection, Installed, Privilege};
use crate::failed::Failed;

/// Beside the program itself: unit, configuration, state.
const ROOM_KIB: u64 = 4 * 1024;

/// What is wanted of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Wish<'a> {
    pub action: DeploymentAction,
    pub network: &'a NetworkId,
    /// SHA-256 of our installation's authority, hex.
    pub authority: &'a str,
    /// The agent at hand for this machine; not needed to take one away.
    pub release: Option<Release>,
}

/// The agent at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    pub version: Version,
    /// SHA-256, hex.
    pub sha256: String,
    pub bytes: u64,
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Install {
        /// Whether the program must be sent first.
        upload: bool,
        /// Whether the machine is no member yet.
        join: bool,
    },
    /// The program and its unit only.
    Upgrade {
        upload: bool,
    },
    /// End this membership; the host has others.
    Leave,
    /// Take the agent away.
    Remove {
        /// Whether there is an identity to give up first.
        leave: bool,
    },
    /// There is no agent any more; what the machine was may still be listed.
    Forget,
    Nothing(&'static str),
}

/// What a person reads of it in the transcript.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install { upload: true, join: true } => "to do: upload the agent, install it and join the network",
            Self::Install { upload: true, join: false } => {
                "to do: upload the agent and install it; the machine is in the network already"
            }
            Self::Install { upload: false, join: true } => {
                "to do: install the agent, which needs no upload, and join the network"
            }
            Self::Install { upload: false, join: false } => {
                "to do: install the agent, which needs no upload; the machine is in the network already"
            }
            Self::Upgrade { upload: true } => "to do: upload the agent and replace the old one",
            Self::Upgrade { upload: false } => "to do: replace the old agent by the new one, which needs no upload",
            Self::Leave => "to do: leave this network; the agent stays for its others",
            Self::Remove { leave: true } => "to do: let the agent leave, then remove it",
            Self::Remove { leave: false } => "to do: remove the agent, which cannot leave by itself",
            Self::Forget => "to do: forget the machine, which has no agent",
            Self::Nothing(why) => return write!(f, "nothing to do: {why}"),
        })
    }
}

impl Plan {
    /// Whether it takes away what an agent could give up itself that was stopped.
    pub(crate) fn wants_its_word(self, seen: &Inspection) -> bool {
        let is_silent = seen.agent.is_some() && seen.status().is_none() && seen.traces.identity.is_some();
        is_silent && matches!(self, Self::Leave | Self::Remove { .. })
    }
}

/// Decides what must be done, or why nothing may.
pub(crate) fn plan(seen: &Inspection, wish: &Wish<'_>) -> Result<Plan, Failed> {
    check_system(seen)?;
    check_owner(seen, wish.authority)?;
    check_alone(seen, wish.action)?;
    match wish.action {
        DeploymentAction::Install => {
            let join = !seen.networks().contains(&wish.network);
            Ok(Plan::Install { upload: must_upload(seen, wish)?, join })
        }
        DeploymentAction::Upgrade if seen.agent.is_none() => {
            Err(Failed::new(FailureReason::NotInstalled, "there is no agent to upgrade; deploy it with action install"))
        }
        DeploymentAction::Upgrade => Ok(Plan::Upgrade { upload: must_upload(seen, wish)? }),
        DeploymentAction::Uninstall => Ok(removal(seen, wish.network)),
    }
}

fn check_system(seen: &Inspection) -> Result<(), Failed> {
    let unsupported = |detail: String| Err(Failed::new(FailureReason::UnsupportedSystem, detail));
    if seen.kernel != "Linux" {
        return unsupported(format!("it runs {:?}; agents run on Linux", seen.kernel));
    }
    if !seen.missing.is_empty() {
        return unsupported(format!("it lacks {}; install them (coreutils, grep, sed)", seen.missing));
    }
    if seen.privilege == Privilege::None {
        let detail = "the user is not root and `sudo -n` is refused; log in as root, or let the user use sudo without a password";
        return Err(Failed::new(FailureReason::NoPrivilege, detail));
    }
    if seen.init == Init::None {
        return unsupported(
            "it has no systemd to keep the agent running; install the agent by hand under its own supervisor"
                .to_owned(),
        );
    }
    Ok(())
}

/// An agent of another installation is not ours to touch, nor to take away; one that is silent is told by its state.
fn check_owner(seen: &Inspection, authority: &str) -> Result<(), Failed> {
    let told = seen.status().and_then(|status| status.host.as_ref()).map(|host| (Some(&host.id), &host.authority));
    let kept = seen.traces.identity.as_ref().map(|identity| (identity.host.as_ref(), &identity.authority));
    let Some((host, owner)) = told.or(kept).filter(|(_, owner)| *owner != authority) else { return Ok(()) };
    let host = host.map_or("a host", |host| host.as_str());
    let detail = match owner.is_empty() {
        true => format!(
            "the agent there is {host} of a control plane that it does not name; if nobody needs it, remove /var/lib/cladnet-agent"
        ),
        false => format!(
            "the agent there is {host} of another control plane; let it leave first: `cladnet-agent leave --all`"
        ),
    };
    Err(Failed::new(FailureReason::ForeignAgent, detail))
}

/// No machine runs two agents: one that does not answer where agents do is somebody's all the same.
fn check_alone(seen: &Inspection, action: DeploymentAction) -> Result<(), Failed> {
    let foreign = |detail: String| Err(Failed::new(FailureReason::ForeignAgent, detail));
    let traces = &seen.traces;
    let answering = seen.status().and_then(|status| status.pid);
    let is_known = |process: &&u32| [answering, traces.keeper].contains(&Some(**process));
    if let Some(other) = traces.running.iter().find(|process| !is_known(process)) {
        return foreign(format!(
            "another agent runs there, process {other}, and does not answer where agents do; stop it first"
        ));
    }
    let concerns = seen.agent.is_some() || action != DeploymentAction::Uninstall;
    if concerns && traces.port_taken && traces.running.is_empty() && seen.status().is_none() {
        let detail = "another program there has the agent's UDP port (8055 unless configured), perhaps an agent under another name; stop it, or set listen_port in /etc/cladnet-agent/config.toml";
        return foreign(detail.to_owned());
    }
    Ok(())
}

fn must_upload(seen: &Inspection, wish: &Wish<'_>) -> Result<bool, Failed> {
    if !seen.has_tun {
        let detail = "/dev/net/tun is not there; load the module with `modprobe tun`, or give the container the device";
        return Err(Failed::new(FailureReason::NoTun, detail));
    }
    let Some(release) = &wish.release else {
        let detail = format!("there is no agent for {}; put cladnet-agent-{} into --agent-dir", seen.arch, seen.arch);
        return Err(Failed::new(FailureReason::NoAgentBinary, detail));
    };
    if let Some(agent) = &seen.agent {
        check_newer(agent, release)?;
    }
    let is_there = seen.agent.as_ref().is_some_and(|agent| agent.path == PROGRAM && agent.sha256 == release.sha256);
    if is_there {
        return Ok(false);
    }
    let is_staged = seen.staged.as_deref() == Some(&*release.sha256);
    check_room(seen, release, is_staged)?;
    Ok(!is_staged)
}

/// Where the agent is installed.
pub(crate) const PROGRAM: &str = "/usr/local/bin/cladnet-agent";

fn check_newer(agent: &Installed, release: &Release) -> Result<(), Failed> {
    match agent.version.as_ref().filter(|version| **version > release.version) {
        Some(newer) => Err(Failed::new(
            FailureReason::NewerAgent,
            format!("the agent there is {newer}, the one at hand {}; upgrade the control plane first", release.version),
        )),
        None => Ok(()),
    }
}

fn check_room(seen: &Inspection, release: &Release, is_staged: bool) -> Result<(), Failed> {
    let size = release.bytes.div_ceil(1024);
    let Some(staging) = seen.staging.as_deref() else {
        let detail = "the user's home directory cannot be written; the agent is uploaded to .cladnet-deploy there";
        return Err(Failed::new(FailureReason::DiskFull, detail));
    };
    let upload = if is_staged { 0 } else { size };
    // They may be one disk.
    let needed = [
        (staging, seen.free.staging, upload),
        ("/usr/local/bin", seen.free.program, size + upload),
        ("/var/lib", seen.free.state, ROOM_KIB),
    ];
    match needed.iter().find(|(_, free, needed)| free < needed) {
        Some((path, free, needed)) => Err(Failed::new(
            FailureReason::DiskFull,
            format!(
                "{path} has {} MiB free and {} MiB are needed; make room there",
                free / 1024,
                needed.div_ceil(1024)
            ),
        )),
        None => Ok(()),
    }
}

fn removal(seen: &Inspection, network: &NetworkId) -> Plan {
    if seen.agent.is_none() && seen.traces.identity.is_none() {
        return Plan::Forget;
    }
    let networks = seen.networks();
    let has_others = networks.iter().any(|other| *other != network);
    match (networks.contains(&network), has_others) {
        (true, true) => Plan::Leave,
        (false, true) => Plan::Nothing("the agent is in other networks only"),
        (_, false) => Plan::Remove { leave: seen.status().is_some_and(|status| status.host.is_some()) },
    }
}

#[cfg(test)]
mod tests;
