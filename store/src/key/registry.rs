//! Every key there is, by the record it holds. The writer of each is named with its record in `model`.

use std::net::Ipv4Addr;

use cladnet_model::{
    Allocation, ApiKey, Cluster, CommandId, CommandRecord, ConnectivityResult, ConnectivityRun, Deployment,
    DeploymentHost, DeploymentId, DeploymentProgress, Event, EventId, Host, HostId, HostUsage, KeyId, MachineName,
    Membership, MembershipStatus, Network, NetworkId, Peer, Presence, PublicKey, PublicKeyOwner, RunId, Session,
    SessionId, Token, TokenId, UsageCursor,
    bill::Budget,
    deployment::{DeploymentClaim, DeploymentTurn, PinnedHostKey, Transcript},
    network::AddressPlan,
    rule::NetworkRules,
    tariff::{Origin, TariffRecord},
};
use jiff::civil::Date;

use super::{Key, Prefix, ROOT};
use crate::{AnyRecord, Sealed, election::Candidate};

/// Everything of cladnet: one watch for a process that needs many kinds of records in one order.
pub fn everything() -> Prefix<AnyRecord> {
    Prefix::at(ROOT)
}

/// One network.
pub fn network(network: &NetworkId) -> Key<Network> {
    Key::at(format!("{ROOT}network/{network}"))
}

/// All networks.
pub fn networks() -> Prefix<Network> {
    Prefix::at(format!("{ROOT}network/"))
}

/// The rules of a network.
pub fn rules(network: &NetworkId) -> Key<NetworkRules> {
    Key::at(format!("{ROOT}rules/{network}"))
}

/// The rules of all networks.
pub fn all_rules() -> Prefix<NetworkRules> {
    Prefix::at(format!("{ROOT}rules/"))
}

/// One host.
pub fn host(host: &HostId) -> Key<Host> {
    Key::at(format!("{ROOT}host/{host}"))
}

/// All hosts.
pub fn hosts() -> Prefix<Host> {
    Prefix::at(format!("{ROOT}host/"))
}

/// A host in a network.
pub fn membership(network: &NetworkId, host: &HostId) -> Key<Membership> {
    Key::at(format!("{ROOT}membership/{network}/{host}"))
}

/// The memberships of one network.
pub fn memberships(network: &NetworkId) -> Prefix<Membership> {
    Prefix::at(format!("{ROOT}membership/{network}/"))
}

/// The memberships of all networks.
pub fn all_memberships() -> Prefix<Membership> {
    Prefix::at(format!("{ROOT}membership/"))
}

/// What the agent of a host last reported of its membership.
pub fn status(network: &NetworkId, host: &HostId) -> Key<MembershipStatus> {
    Key::at(format!("{ROOT}status/{network}/{host}"))
}

/// The reports of one network.
pub fn statuses(network: &NetworkId) -> Prefix<MembershipStatus> {
    Prefix::at(format!("{ROOT}status/{network}/"))
}

/// The reports of all networks.
pub fn all_statuses() -> Prefix<MembershipStatus> {
    Prefix::at(format!("{ROOT}status/"))
}

/// An address that is taken in a network.
pub fn allocation(network: &NetworkId, address: Ipv4Addr) -> Key<Allocation> {
    Key::at(format!("{ROOT}allocation/{network}/{address}"))
}

/// The taken addresses of one network.
pub fn allocations(network: &NetworkId) -> Prefix<Allocation> {
    Prefix::at(format!("{ROOT}allocation/{network}/"))
}

/// The taken addresses of all networks.
pub fn all_allocations() -> Prefix<Allocation> {
    Prefix::at(format!("{ROOT}allocation/"))
}

/// The controller's answer to a membership.
pub fn peer(network: &NetworkId, host: &HostId) -> Key<Peer> {
    Key::at(format!("{ROOT}peer/{network}/{host}"))
}

/// The peers of one network.
pub fn peers(network: &NetworkId) -> Prefix<Peer> {
    Prefix::at(format!("{ROOT}peer/{network}/"))
}

/// The peers of all networks.
pub fn all_peers() -> Prefix<Peer> {
    Prefix::at(format!("{ROOT}peer/"))
}

/// A join token.
pub fn token(token: &TokenId) -> Key<Token> {
    Key::at(format!("{ROOT}token/{token}"))
}

/// All join tokens.
pub fn tokens() -> Prefix<Token> {
    Prefix::at(format!("{ROOT}token/"))
}

/// An API key.
pub fn api_key(key: &KeyId) -> Key<ApiKey> {
    Key::at(format!("{ROOT}key/{key}"))
}

/// All API keys.
pub fn api_keys() -> Prefix<ApiKey> {
    Prefix::at(format!("{ROOT}key/"))
}

/// A session of the admin web.
pub fn session(session: &SessionId) -> Key<Session> {
    Key::at(format!("{ROOT}session/{session}"))
}

/// All sessions of the admin web.
pub fn sessions() -> Prefix<Session> {
    Prefix::at(format!("{ROOT}session/"))
}

/// Which replica holds a host's stream; write it with a lease.
pub fn presence(host: &HostId) -> Key<Presence> {
    Key::at(format!("{ROOT}presence/{host}"))
}

/// The presence of all hosts.
pub fn presences() -> Prefix<Presence> {
    Prefix::at(format!("{ROOT}presence/"))
}

/// That a host counts as connected: made and deleted with the events that say so, and not leased, so that it outlives the
/// presence of a replica that crashed.
pub fn stream(host: &HostId) -> Key<Presence> {
    Key::at(format!("{ROOT}stream/{host}"))
}

/// The hosts that count as connected.
pub fn streams() -> Prefix<Presence> {
    Prefix::at(format!("{ROOT}stream/"))
}

/// A command to a host's agent.
pub fn command(host: &HostId, command: &CommandId) -> Key<CommandRecord> {
    Key::at(format!("{ROOT}command/{host}/{command}"))
}

/// The commands to one host's agent.
pub fn commands(host: &HostId) -> Prefix<CommandRecord> {
    Prefix::at(format!("{ROOT}command/{host}/"))
}

/// The commands to all agents.
pub fn all_commands() -> Prefix<CommandRecord> {
    Prefix::at(format!("{ROOT}command/"))
}

/// Something that happened.
pub fn event(event: &EventId) -> Key<Event> {
    Key::at(format!("{ROOT}event/{event}"))
}

/// Everything that happened and is still kept, oldest first.
pub fn events() -> Prefix<Event> {
    Prefix::at(format!("{ROOT}event/"))
}

/// A connectivity run of a network.
pub fn connectivity_run(network: &NetworkId, run: &RunId) -> Key<ConnectivityRun> {
    Key::at(format!("{ROOT}connectivity-run/{network}/{run}"))
}

/// The connectivity runs of a network, oldest first.
pub fn connectivity_runs(network: &NetworkId) -> Prefix<ConnectivityRun> {
    Prefix::at(format!("{ROOT}connectivity-run/{network}/"))
}

/// What one host measured in a connectivity run.
pub fn connectivity_result(network: &NetworkId, run: &RunId, host: &HostId) -> Key<ConnectivityResult> {
    Key::at(format!("{ROOT}connectivity-result/{network}/{run}/{host}"))
}

/// What everybody measured in a connectivity run.
pub fn connectivity_results(network: &NetworkId, run: &RunId) -> Prefix<ConnectivityResult> {
    Prefix::at(format!("{ROOT}connectivity-result/{network}/{run}/"))
}

/// A deployment of agents.
pub fn deployment(deployment: &DeploymentId) -> Key<Deployment> {
    Key::at(format!("{ROOT}deployment/{deployment}"))
}

/// All deployments.
pub fn deployments() -> Prefix<Deployment> {
    Prefix::at(format!("{ROOT}deployment/"))
}

/// One machine of a deployment.
pub fn deployment_host(deployment: &DeploymentId, machine: &MachineName) -> Key<DeploymentHost> {
    Key::at(format!("{ROOT}deployment-host/{deployment}/{machine}"))
}

/// The machines of all deployments.
pub fn all_deployment_hosts() -> Prefix<DeploymentHost> {
    Prefix::at(format!("{ROOT}deployment-host/"))
}

/// The machines of a deployment.
pub fn deployment_hosts(deployment: &DeploymentId) -> Prefix<DeploymentHost> {
    Prefix::at(format!("{ROOT}deployment-host/{deployment}/"))
}

/// How far a machine of a deployment is.
pub fn deployment_progress(deployment: &DeploymentId, machine: &MachineName) -> Key<DeploymentProgress> {
    Key::at(format!("{ROOT}deployment-progress/{deployment}/{machine}"))
}

/// How far the machines of all deployments are.
pub fn all_deployment_progresses() -> Prefix<DeploymentProgress> {
    Prefix::at(format!("{ROOT}deployment-progress/"))
}

/// How far the machines of a deployment are.
pub fn deployment_progresses(deployment: &DeploymentId) -> Prefix<DeploymentProgress> {
    Prefix::at(format!("{ROOT}deployment-progress/{deployment}/"))
}

/// What was done on a machine of a deployment.
pub fn deployment_transcript(deployment: &DeploymentId, machine: &MachineName) -> Key<Transcript> {
    Key::at(format!("{ROOT}deployment-transcript/{deployment}/{machine}"))
}

/// What was done on the machines of a deployment.
pub fn deployment_transcripts(deployment: &DeploymentId) -> Prefix<Transcript> {
    Prefix::at(format!("{ROOT}deployment-transcript/{deployment}/"))
}

/// The private SSH key for a machine, sealed. The service writes it, the provisioner deletes it with the job's end.
pub fn deployment_credential(deployment: &DeploymentId, machine: &MachineName) -> Key<Sealed> {
    Key::at(format!("{ROOT}deployment-credential/{deployment}/{machine}"))
}

/// The private SSH keys of a deployment.
pub fn deployment_credentials(deployment: &DeploymentId) -> Prefix<Sealed> {
    Prefix::at(format!("{ROOT}deployment-credential/{deployment}/"))
}

/// Which provisioner works on a deployment; write it with a lease.
pub fn deployment_claim(deployment: &DeploymentId) -> Key<DeploymentClaim> {
    Key::at(format!("{ROOT}deployment-claim/{deployment}"))
}

/// The claims on all deployments.
pub fn deployment_claims() -> Prefix<DeploymentClaim> {
    Prefix::at(format!("{ROOT}deployment-claim/"))
}

/// What every transaction writes that makes a deployment. Watches take it for unknown: it only excludes.
pub fn deployment_turn() -> Key<DeploymentTurn> {
    Key::at(format!("{ROOT}deployment-turn"))
}

/// The pinned key of whatever answers SSH at `address:port`; names are lower case, IPv6 addresses in brackets.
pub fn host_key(target: &str) -> Key<PinnedHostKey> {
    debug_assert!(!target.contains('/'), "{target} is no address:port");
    Key::at(format!("{ROOT}host-key/{target}"))
}

/// Every pinned host key.
pub fn host_keys() -> Prefix<PinnedHostKey> {
    Prefix::at(format!("{ROOT}host-key/"))
}

/// Whose WireGuard key this is: create it with a membership, so that no key serves twice.
pub fn public_key(key: &PublicKey) -> Key<PublicKeyOwner> {
    use std::fmt::Write as _;
    let mut path = format!("{ROOT}public-key/");
    for byte in key.0 {
        write!(path, "{byte:02x}").expect("a string takes every write");
    }
    Key::at(path)
}

/// All WireGuard keys in use.
pub fn public_keys() -> Prefix<PublicKeyOwner> {
    Prefix::at(format!("{ROOT}public-key/"))
}

/// A tariff document: the operator's, or what was imported.
pub fn tariff(origin: Origin) -> Key<TariffRecord> {
    Key::at(format!("{ROOT}tariff/{origin}"))
}

/// All tariff documents that are not shipped.
pub fn tariffs() -> Prefix<TariffRecord> {
    Prefix::at(format!("{ROOT}tariff/"))
}

/// What every transaction writes that gives a network an address space. Watches take it for unknown: it only excludes.
pub fn address_plan() -> Key<AddressPlan> {
    Key::at(format!("{ROOT}address-plan"))
}

/// What one host exchanged in one network on one UTC day. Days come first, so that old ones can be forgotten and a report
/// reads no others.
pub fn usage(day: Date, network: &NetworkId, host: &HostId) -> Key<HostUsage> {
    Key::at(format!("{ROOT}usage/{day}/{network}/{host}"))
}

/// What all hosts exchanged in one network on one UTC day.
pub fn usage_of_network(day: Date, network: &NetworkId) -> Prefix<HostUsage> {
    Prefix::at(format!("{ROOT}usage/{day}/{network}/"))
}

/// What all hosts exchanged in all networks on one UTC day.
pub fn usages(day: Date) -> Prefix<HostUsage> {
    Prefix::at(format!("{ROOT}usage/{day}/"))
}

/// Up to which report a host's usage is counted.
pub fn usage_cursor(host: &HostId) -> Key<UsageCursor> {
    Key::at(format!("{ROOT}usage-cursor/{host}"))
}

/// What a network may cost in a month.
pub fn budget(network: &NetworkId) -> Key<Budget> {
    Key::at(format!("{ROOT}budget/{network}"))
}

/// The budgets of all networks.
pub fn budgets() -> Prefix<Budget> {
    Prefix::at(format!("{ROOT}budget/"))
}

/// What all networks together may cost in a month. Watches take it for unknown: only the service reads it.
pub fn budget_of_all() -> Key<Budget> {
    Key::at(format!("{ROOT}budget-of-all"))
}

/// What is true of the whole installation.
pub fn cluster() -> Key<Cluster> {
    Key::at(format!("{ROOT}cluster"))
}

/// A secret, sealed under the key's own path. `name` is a constant of the caller, `[a-z0-9-]`.
pub fn secret(name: &'static str) -> Key<Sealed> {
    debug_assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')), "{name} is no secret's name");
    Key::at(format!("{ROOT}secret/{name}"))
}

pub(crate) fn election(name: &str) -> Key<Candidate> {
    Key::at(format!("{ROOT}election/{name}"))
}
