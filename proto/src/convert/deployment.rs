//! Deployments (`deployment.proto`): what is asked for as a draft to be checked, and the records as they are shown.
//! A private key goes in; nothing here ever gives one out.

use std::{collections::BTreeMap, fmt};

use cladnet_model::{
    Deployment, DeploymentHost, DeploymentProgress, MachineName,
    deployment::{DeploymentDraft, DeploymentState, MachineDraft, PinnedHostKey, PrivateKeyText},
};

use super::{location::injected_fields, time::timestamp};
use crate::cladnet::v1;

/// What was sent, to be checked by the draft.
pub fn deployment_draft(wire: &v1::CreateDeploymentRequest) -> DeploymentDraft<'_> {
    DeploymentDraft {
        action: &wire.action,
        concurrency: wire.concurrency,
        hosts: wire.hosts.iter().map(machine).collect(),
    }
}

fn machine(wire: &v1::DeploymentTarget) -> MachineDraft<'_> {
    MachineDraft {
        name: &wire.name,
        address: &wire.address,
        port: wire.port,
        user: &wire.user,
        private_key: PrivateKeyText(&wire.private_key),
        host_key: &wire.host_key,
        bastion: &wire.bastion,
        labels: wire.labels.clone(),
        overlay_address: &wire.overlay_address,
        location: wire.location.iter().flat_map(injected_fields).collect(),
    }
}

/// The records that a deployment is shown from.
#[derive(Debug, Clone, Copy)]
pub struct DeploymentRecords<'a> {
    pub deployment: &'a Deployment,
    pub progress: &'a BTreeMap<MachineName, DeploymentProgress>,
    /// Whether a provisioner works on it now.
    pub claimed: bool,
}

/// A deployment without its machines, but with their number in each state.
pub fn deployment_overview(records: DeploymentRecords<'_>) -> v1::Deployment {
    let DeploymentRecords { deployment, progress, claimed } = records;
    let in_state = |state| deployment.hosts.iter().filter(|name| deployment.state(progress.get(name)) == state).count();
    let state = if deployment.is_finished(progress) { "finished" } else { "running" };
    v1::Deployment {
        deployment_id: deployment.id.to_string(),
        network_id: deployment.network.to_string(),
        action: deployment.action.to_string(),
        created_at: Some(timestamp(deployment.created_at)),
        created_by: deployment.created_by.to_string(),
        cancelled_at: deployment.cancelled_at.map(timestamp),
        concurrency: deployment.concurrency,
        accept_new_host_keys: deployment.accept_new_host_keys,
        keep_credentials: deployment.keep_credentials,
        state: state.to_owned(),
        done: count(in_state(DeploymentState::Done)),
        failed: count(in_state(DeploymentState::Failed)),
        total: count(deployment.hosts.len()),
        hosts: Vec::new(),
        claimed,
        unconfirmed: count(in_state(DeploymentState::ConfirmHostKey)),
    }
}

/// A deployment with its machines, in the order in which they were sent.
pub fn deployment(records: DeploymentRecords<'_>, machines: &BTreeMap<MachineName, DeploymentHost>) -> v1::Deployment {
    let nothing_yet = DeploymentProgress::default();
    let known = records.deployment.hosts.iter().filter_map(|name| machines.get(name));
    let hosts = known.map(|host| {
        let progress = records.progress.get(&host.name);
        shown(host, records.deployment.state(progress), progress.unwrap_or(&nothing_yet))
    });
    v1::Deployment { hosts: hosts.collect(), ..deployment_overview(records) }
}

fn shown(host: &DeploymentHost, state: DeploymentState, progress: &DeploymentProgress) -> v1::DeploymentHost {
    let failure = progress.failure.as_ref();
    let is_asked = state == DeploymentState::ConfirmHostKey;
    let offered = progress.offered_key.filter(|_| is_asked);
    v1::DeploymentHost {
        name: host.name.to_string(),
        address: host.ssh.address.clone(),
        port: u32::from(host.ssh.port),
        user: host.ssh.user.clone(),
        bastion: host.bastion.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: state.to_string(),
        failure: failure.map(|failure| failure.reason.to_string()).unwrap_or_default(),
        detail: failure.map(|failure| failure.detail.clone()).unwrap_or_default(),
        failed_during: failure.map(|failure| failure.during.to_string()).unwrap_or_default(),
        offered_fingerprint: offered.map(|fingerprint| fingerprint.to_string()).unwrap_or_default(),
        host_id: progress.host.as_ref().map(ToString::to_string).unwrap_or_default(),
        agent_version: progress.agent_version.clone(),
        system: progress.system.clone(),
        started_at: progress.started_at.map(timestamp),
        finished_at: progress.finished_at.map(timestamp),
    }
}

/// A pinned host key; `place` is its `address:port`.
pub fn host_key(place: &str, pinned: &PinnedHostKey) -> v1::HostKey {
    v1::HostKey {
        address: place.to_owned(),
        fingerprint: pinned.fingerprint.to_string(),
        algorithm: pinned.algorithm.clone(),
        pinned_at: Some(timestamp(pinned.pinned_at)),
        pinned_by: pinned.pinned_by.clone(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl fmt::Debug for v1::DeploymentTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address, port, user, bastion, .. } = self;
        f.debug_struct("DeploymentTarget")
            .field("name", name)
            .field("address", address)
            .field("port", port)
            .field("user", user)
            .field("bastion", bastion)
            .finish_non_exhaustive()
    }
}
