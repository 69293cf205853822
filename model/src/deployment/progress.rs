//! How far a machine of a deployment is, and what went wrong.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Fingerprint;
use crate::{HostId, TokenId, marks::is_mark, word::words};

/// Most bytes that are kept of one machine's transcript: its end is what matters.
pub const TRANSCRIPT_BYTES: usize = 32 * 1024;

/// Most characters of one line of a transcript, and of any sentence about a machine: some of it is what the machine says of
/// itself, and a machine may say anything.
pub const LINE_CHARACTERS: usize = 1_000;

/// Most bytes of what is kept in [`DeploymentProgress`] of a machine's own words: a machine may answer anything, and the
/// record must always fit into the store.
const DETAIL_BYTES: usize = 2 * 1024;
const SYSTEM_BYTES: usize = 200;
const VERSION_BYTES: usize = 64;

/// Where a machine stands. All but the last three go on by themselves, [`DeploymentState::ConfirmHostKey`] once a person
/// has spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    #[default]
    Waiting,
    Connecting,
    /// The machine shows a key that nobody has vouched for.
    ConfirmHostKey,
    Inspecting,
    Uploading,
    Installing,
    Joining,
    Verifying,
    Removing,
    Done,
    Failed,
    Cancelled,
}

words!(DeploymentState {
    Waiting = "waiting",
    Connecting = "connecting",
    ConfirmHostKey = "confirm-host-key",
    Inspecting = "inspecting",
    Uploading = "uploading",
    Installing = "installing",
    Joining = "joining",
    Verifying = "verifying",
    Removing = "removing",
    Done = "done",
    Failed = "failed",
    Cancelled = "cancelled",
});

impl DeploymentState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Why a machine failed: a closed list, so that programs can act on it. The text beside it says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureReason {
    /// Nothing answers there, or it refuses.
    Unreachable,
    /// An address that no deployment may connect to.
    AddressRefused,
    AuthenticationFailed,
    /// Another key than the one that is pinned: nothing was sent.
    HostKeyChanged,
    /// Nobody confirmed the first key in time.
    HostKeyUnconfirmed,
    BastionFailed,
    UnsupportedSystem,
    NoPrivilege,
    /// No `/dev/net/tun`.
    NoTun,
    DiskFull,
    /// The agent there belongs to another control plane, or does not tell to which.
    ForeignAgent,
    /// The agent there names a host that this machine is not known to be.
    HostUnproven,
    /// The agent there is newer than the one at hand.
    NewerAgent,
    /// There is no agent to upgrade.
    NotInstalled,
    ConnectionLost,
    /// What arrived is not what was sent.
    UploadCorrupt,
    JoinFailed,
    OverlayUnverified,
    /// The provisioner has no agent for this architecture.
    NoAgentBinary,
    /// The credential is gone, or is none.
    NoCredential,
    Internal,
}

words!(FailureReason {
    Unreachable = "unreachable",
    AddressRefused = "address-refused",
    AuthenticationFailed = "authentication-failed",
    HostKeyChanged = "host-key-changed",
    HostKeyUnconfirmed = "host-key-unconfirmed",
    BastionFailed = "bastion-failed",
    UnsupportedSystem = "unsupported-system",
    NoPrivilege = "no-privilege",
    NoTun = "no-tun",
    DiskFull = "disk-full",
    ForeignAgent = "foreign-agent",
    HostUnproven = "host-unproven",
    NewerAgent = "newer-agent",
    NotInstalled = "not-installed",
    ConnectionLost = "connection-lost",
    UploadCorrupt = "upload-corrupt",
    JoinFailed = "join-failed",
    OverlayUnverified = "overlay-unverified",
    NoAgentBinary = "no-agent-binary",
    NoCredential = "no-credential",
    Internal = "internal",
});

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentFailure {
    pub reason: FailureReason,
    /// For people: what happened and what to do.
    pub detail: String,
    /// During which state.
    pub during: DeploymentState,
}

/// How far a machine is. Writer: the provisioner that holds the deployment's claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentProgress {
    pub state: DeploymentState,
    #[serde(default)]
    pub failure: Option<DeploymentFailure>,
    /// The key that the machine showed, while it waits for a person's word.
    #[serde(default)]
    pub offered_key: Option<Fingerprint>,
    /// The host that the machine is, proved by a token.
    #[serde(default)]
    pub host: Option<HostId>,
    /// The token that was made for it and not seen used yet; revoked if it never is.
    #[serde(default)]
    pub token: Option<TokenId>,
    #[serde(default)]
    pub agent_version: String,
    /// Operating system, architecture and service manager, once known.
    #[serde(default)]
    pub system: String,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
}

impl DeploymentProgress {
    /// With as much of the machine's own words as is kept.
    pub fn bounded(mut self) -> Self {
        cut(&mut self.system, SYSTEM_BYTES);
        cut(&mut self.agent_version, VERSION_BYTES);
        if let Some(failure) = &mut self.failure {
            cut(&mut failure.detail, DETAIL_BYTES);
        }
        self
    }
}

/// Leaves at most `bytes` of a text, and a sign that there was more.
fn cut(text: &mut String, bytes: usize) {
    const MORE: &str = "…";
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes - MORE.len()));
        text.push_str(MORE);
    }
}

/// What was done on a machine, line by line, for people: at most [`TRANSCRIPT_BYTES`], without control characters and
/// without secrets. Writer: the provisioner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    text: String,
}

impl Transcript {
    /// Adds a line; old lines go when there is no room.
    pub fn push(&mut self, at: Timestamp, line: &str) {
        self.text.push_str(&format!("{at:.0} {}\n", legible(line)));
        if self.text.len() > TRANSCRIPT_BYTES {
            let from = self.text.ceil_char_boundary(self.text.len() - TRANSCRIPT_BYTES);
            let from = self.text[from..].find('\n').map_or(from, |end| from + end + 1);
            self.text.drain(..from);
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A text in one line of at most [`LINE_CHARACTERS`], without anything that a terminal or a page would obey
/// ([`is_mark`]).
pub fn legible(text: &str) -> String {
    let shown = text.trim().chars().map(|c| if is_mark(c) { ' ' } else { c });
    let mut line: String = shown.take(LINE_CHARACTERS).collect();
    if text.trim().chars().nth(LINE_CHARACTERS).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_keeps_its_end_in_whole_lines() {
        let mut transcript = Transcript::default();
        for n in 0..2000 {
            transcript.push(Timestamp::UNIX_EPOCH, &format!("line {n} \u{1b}[31mé"));
        }
        assert!(transcript.as_str().len() <= TRANSCRIPT_BYTES);
        assert!(transcript.as_str().starts_with("1970-01-01T00:00:00Z line "));
        assert!(transcript.as_str().ends_with("1970-01-01T00:00:00Z line 1999  [31mé\n"));
    }

    #[test]
    fn a_line_shows_what_it_says_and_obeys_nobody() {
        assert_eq!(legible(" a\nb\u{1b}[2J\u{202e}c\u{9b}1m "), "a b [2J c 1m");
        let long = legible(&"é".repeat(LINE_CHARACTERS + 1));
        assert_eq!((long.chars().count(), long.ends_with('…')), (LINE_CHARACTERS + 1, true));
    }

    #[test]
    fn a_machine_that_says_too_much_is_kept_short() {
        let endless = || "\"é".repeat(500_000);
        let failure = DeploymentFailure {
            reason: FailureReason::Internal,
            detail: endless(),
            during: DeploymentState::Inspecting,
        };
        let progress = DeploymentProgress {
            system: endless(),
            agent_version: endless(),
            failure: Some(failure),
            ..Default::default()
        };
        let kept = progress.bounded();
        assert!(kept.system.len() <= SYSTEM_BYTES && kept.agent_version.len() <= VERSION_BYTES);
        let detail = &kept.failure.as_ref().unwrap().detail;
        assert!(detail.len() <= DETAIL_BYTES && detail.starts_with("\"é\"é") && detail.ends_with('…'));
        assert_eq!(kept.clone().bounded(), kept, "what is short stays as it is");
    }

    #[test]
    fn one_endless_line_does_not_outgrow_a_transcript() {
        let mut transcript = Transcript::default();
        transcript.push(Timestamp::UNIX_EPOCH, &"é".repeat(TRANSCRIPT_BYTES));
        assert!(transcript.as_str().len() <= TRANSCRIPT_BYTES);
    }
}
