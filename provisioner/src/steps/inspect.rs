//! Looking at a machine: what it is, and what agent is there already.

use std::net::Ipv4Addr;

use cladnet_model::{HostId, NetworkId};
use semver::Version;
use serde::Deserialize;

use super::traces::Traces;
use crate::{
    failed::Failed,
    remote::{As, Remote},
    script::{Answer, INSPECT, LOOK},
};

/// What a machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// Linux, or what else it is.
    pub kernel: String,
    pub os: String,
    /// As `uname -m` has it.
    pub arch: String,
    pub init: Init,
    pub privilege: Privilege,
    pub has_tun: bool,
    /// Programs that the scripts need and that are not there.
    pub missing: String,
    /// The directory for uploads; none if it cannot be made.
    pub staging: Option<String>,
    /// SHA-256 of the program that was uploaded before, hex.
    pub staged: Option<String>,
    pub free: Free,
    pub agent: Option<Installed>,
    pub traces: Traces,
}

/// Who keeps services running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    Systemd,
    /// The sandbox's.
    Cladnet,
    None,
}

/// What the user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    Root,
    Sudo,
    None,
}

/// Room on the disks, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Free {
    pub staging: u64,
    pub program: u64,
    pub state: u64,
}

/// An agent that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    pub path: String,
    /// SHA-256, hex.
    pub sha256: String,
    /// None if it does not even tell that.
    pub version: Option<Version>,
    /// None if it does not run.
    pub status: Option<AgentStatus>,
}

/// What an agent tells of itself: the part of `cladnet-agent status --output json` that matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AgentStatus {
    pub version: String,
    #[serde(default)]
    pub pid: Option<u32>,
    pub host: Option<AgentHost>,
    pub networks: Vec<AgentNetwork>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AgentHost {
    pub id: HostId,
    /// SHA-256 of its installation's authority, hex.
    #[serde(default)]
    pub authority: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct AgentNetwork {
    pub network: NetworkId,
    pub state: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
}

/// Looks at the machine; where the user may see no more, at its agent only from outside.
pub(crate) async fn inspect(remote: &Remote) -> Result<Inspection, Failed> {
    let mut seen = INSPECT.run(remote, As::User, &[]).await.map(|answer| Inspection::of(&answer))?;
    if seen.privilege != Privilege::None {
        seen.traces = Traces::of(&LOOK.run(remote, seen.root(), &[]).await?);
    }
    Ok(seen)
}

/// SHA-256 of what was uploaded.
pub(crate) async fn staged(remote: &Remote) -> Result<Option<String>, Failed> {
    INSPECT.run(remote, As::User, &[]).await.map(|answer| Inspection::of(&answer).staged)
}

impl Init {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cladnet => "cladnet-init",
            Self::None => "no service manager",
        }
    }
}

impl Inspection {
    pub(crate) fn of(answer: &Answer) -> Self {
        Self {
            kernel: answer.text("kernel").to_owned(),
            os: answer.text("os").to_owned(),
            arch: answer.text("arch").to_owned(),
            init: match answer.text("init") {
                "systemd" => Init::Systemd,
                "cladnet-init" => Init::Cladnet,
                _ => Init::None,
            },
            privilege: match answer.text("privilege") {
                "root" => Privilege::Root,
                "sudo" => Privilege::Sudo,
                _ => Privilege::None,
            },
            has_tun: answer.text("tun") == "yes",
            missing: answer.text("missing").to_owned(),
            staging: answer.get("staging").map(str::to_owned),
            staged: answer.get("staged_sha256").map(str::to_owned),
            free: Free {
                staging: answer.number("free_staging_kib"),
                program: answer.number("free_bin_kib"),
                state: answer.number("free_state_kib"),
            },
            agent: answer.get("agent").map(|path| Installed {
                path: path.to_owned(),
                sha256: answer.text("agent_sha256").to_owned(),
                version: version(answer.text("agent_version")),
                status: AgentStatus::parse(answer.text("agent_status")),
            }),
            traces: Traces::default(),
        }
    }

    /// What the agent tells; none if it does not answer.
    pub(crate) fn status(&self) -> Option<&AgentStatus> {
        self.agent.as_ref()?.status.as_ref()
    }

    /// The networks that the agent is in: by its own word, or by its state if it is silent.
    pub(crate) fn networks(&self) -> Vec<&NetworkId> {
        match self.status() {
            Some(status) => status.networks.iter().map(|membership| &membership.network).collect(),
            None => self.traces.networks.iter().collect(),
        }
    }

    /// As whom scripts run that change the machine.
    pub(crate) fn root(&self) -> As {
        if self.privilege == Privilege::Root { As::User } else { As::Sudo }
    }

    /// For people.
    pub(crate) fn system(&self) -> String {
        format!("{}, {}, {}", self.os, self.arch, self.init.as_str())
    }
}

impl AgentStatus {
    /// None if it is no status: the agent does not run, or was not understood.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(crate) fn network(&self, network: &NetworkId) -> Option<&AgentNetwork> {
        self.networks.iter().find(|membership| membership.network == *network)
    }
}

/// Of what `cladnet-agent --version` prints.
pub(crate) fn version(text: &str) -> Option<Version> {
    text.strip_prefix("cladnet-agent ")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{ "version": "0.1.0", "pid": 7, "host": { "id": "host-a", "services": [], "authority": "ab" },
        "service": { "state": "idle" }, "networks": [ { "network": "prod", "name": "", "state": "tunneling", "peers": 2 } ] }"#;

    #[test]
    fn a_machine_with_an_agent_is_understood() {
        let status = STATUS.replace('\n', " ");
        let answer = Answer::of(&format!(
            "missing=\nprivilege=sudo\nkernel=Linux\narch=aarch64\nos=Debian GNU/Linux 12 (bookworm)\ninit=systemd\ntun=yes\n\
             staging=/home/debian/.cladnet-deploy\nstaged_sha256=\nfree_bin_kib=1000\nagent=/usr/bin/cladnet-agent\n\
             agent_sha256=cd\nagent_version=cladnet-agent 0.1.0\nagent_status={status}\nend=yes\n"
        ));
        let seen = Inspection::of(&answer);
        assert_eq!(seen.system(), "Debian GNU/Linux 12 (bookworm), aarch64, systemd");
        assert_eq!((seen.root(), seen.staged, seen.free.program), (As::Sudo, None, 1000));
        let agent = seen.agent.unwrap();
        assert_eq!(agent.version, Some(Version::new(0, 1, 0)));
        let status = agent.status.unwrap();
        assert_eq!(status.host.clone().unwrap().authority, "ab");
        assert_eq!(status.network(&"prod".parse().unwrap()).unwrap().state, "tunneling");
        assert_eq!(status.network(&"other".parse().unwrap()), None);
    }

    #[test]
    fn a_machine_that_says_nothing_has_nothing() {
        let seen = Inspection::of(&Answer::of(""));
        assert_eq!((seen.init, seen.privilege, seen.has_tun), (Init::None, Privilege::None, false));
        assert_eq!((seen.staging, seen.agent), (None, None));
    }

    #[test]
    fn an_agent_that_does_not_run_is_there_all_the_same() {
        let seen =
            Inspection::of(&Answer::of("agent=/usr/local/bin/cladnet-agent\nagent_version=Segmentation fault\n"));
        let agent = seen.agent.unwrap();
        assert_eq!((agent.version, agent.status), (None, None));
    }
}
