//! Raw keys read back into what they name.

use std::net::Ipv4Addr;

use cladnet_model::{
    CommandId, DeploymentId, EventId, HostId, KeyId, MachineName, NetworkId, PublicKey, RunId, SessionId, TokenId,
    tariff::Origin,
};

use jiff::civil::Date;

use super::ROOT;

/// What a raw key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyKey {
    Network(NetworkId),
    Rules(NetworkId),
    Host(HostId),
    Membership(NetworkId, HostId),
    Status(NetworkId, HostId),
    Allocation(NetworkId, Ipv4Addr),
    Peer(NetworkId, HostId),
    Token(TokenId),
    ApiKey(KeyId),
    Session(SessionId),
    Presence(HostId),
    Stream(HostId),
    Command(HostId, CommandId),
    Event(EventId),
    ConnectivityRun(NetworkId, RunId),
    ConnectivityResult(NetworkId, RunId, HostId),
    Deployment(DeploymentId),
    DeploymentHost(DeploymentId, MachineName),
    DeploymentProgress(DeploymentId, MachineName),
    DeploymentTranscript(DeploymentId, MachineName),
    DeploymentCredential(DeploymentId, MachineName),
    DeploymentClaim(DeploymentId),
    /// `address:port`.
    HostKey(String),
    PublicKey(PublicKey),
    Tariff(Origin),
    Usage(Date, NetworkId, HostId),
    UsageCursor(HostId),
    Budget(NetworkId),
    Secret(String),
    Cluster,
    Election(String),
    /// Not one of ours: another release's, or somebody's who shares the cluster.
    Unknown(String),
}

impl AnyKey {
    /// Reads a raw key; one that is not exactly of a known form is [`AnyKey::Unknown`].
    pub fn parse(path: &str) -> Self {
        known(path).unwrap_or_else(|| Self::Unknown(path.to_owned()))
    }
}

fn known(path: &str) -> Option<AnyKey> {
    let mut parts = path.strip_prefix(ROOT)?.split('/');
    let kind = parts.next()?;
    let names = (parts.next(), parts.next());
    let third = parts.next();
    if parts.next().is_some() {
        return None;
    }
    if let Some(host) = third {
        let host = host.parse().ok()?;
        return match (kind, names) {
            ("connectivity-result", (Some(network), Some(run))) => {
                Some(AnyKey::ConnectivityResult(network.parse().ok()?, run.parse().ok()?, host))
            }
            ("usage", (Some(day), Some(network))) => Some(AnyKey::Usage(date(day)?, network.parse().ok()?, host)),
            _ => None,
        };
    }
    match (kind, names) {
        ("network", (Some(network), None)) => Some(AnyKey::Network(network.parse().ok()?)),
        ("rules", (Some(network), None)) => Some(AnyKey::Rules(network.parse().ok()?)),
        ("host", (Some(host), None)) => Some(AnyKey::Host(host.parse().ok()?)),
        ("membership", (Some(network), Some(host))) => {
            Some(AnyKey::Membership(network.parse().ok()?, host.parse().ok()?))
        }
        ("status", (Some(network), Some(host))) => Some(AnyKey::Status(network.parse().ok()?, host.parse().ok()?)),
        ("allocation", (Some(network), Some(address))) => {
            Some(AnyKey::Allocation(network.parse().ok()?, address.parse().ok()?))
        }
        ("peer", (Some(network), Some(host))) => Some(AnyKey::Peer(network.parse().ok()?, host.parse().ok()?)),
        ("token", (Some(token), None)) => Some(AnyKey::Token(token.parse().ok()?)),
        ("key", (Some(key), None)) => Some(AnyKey::ApiKey(key.parse().ok()?)),
        ("session", (Some(session), None)) => Some(AnyKey::Session(session.parse().ok()?)),
        ("presence", (Some(host), None)) => Some(AnyKey::Presence(host.parse().ok()?)),
        ("stream", (Some(host), None)) => Some(AnyKey::Stream(host.parse().ok()?)),
        ("command", (Some(host), Some(command))) => Some(AnyKey::Command(host.parse().ok()?, command.parse().ok()?)),
        ("event", (Some(event), None)) => Some(AnyKey::Event(event.parse().ok()?)),
        ("connectivity-run", (Some(network), Some(run))) => {
            Some(AnyKey::ConnectivityRun(network.parse().ok()?, run.parse().ok()?))
        }
        ("deployment", (Some(deployment), None)) => Some(AnyKey::Deployment(deployment.parse().ok()?)),
        ("deployment-host", (Some(deployment), Some(machine))) => {
            Some(AnyKey::DeploymentHost(deployment.parse().ok()?, machine.parse().ok()?))
        }
        ("deployment-progress", (Some(deployment), Some(machine))) => {
            Some(AnyKey::DeploymentProgress(deployment.parse().ok()?, machine.parse().ok()?))
        }
        ("deployment-transcript", (Some(deployment), Some(machine))) => {
            Some(AnyKey::DeploymentTranscript(deployment.parse().ok()?, machine.parse().ok()?))
        }
        ("deployment-credential", (Some(deployment), Some(machine))) => {
            Some(AnyKey::DeploymentCredential(deployment.parse().ok()?, machine.parse().ok()?))
        }
        ("deployment-claim", (Some(deployment), None)) => Some(AnyKey::DeploymentClaim(deployment.parse().ok()?)),
        ("host-key", (Some(place), None)) => Some(AnyKey::HostKey(place.to_owned())),
        ("tariff", (Some(origin), None)) => Some(AnyKey::Tariff(origin.parse().ok()?)),
        ("public-key", (Some(hex), None)) => public_key(hex).map(AnyKey::PublicKey),
        ("usage-cursor", (Some(host), None)) => Some(AnyKey::UsageCursor(host.parse().ok()?)),
        ("budget", (Some(network), None)) => Some(AnyKey::Budget(network.parse().ok()?)),
        ("secret", (Some(name), None)) => Some(AnyKey::Secret(name.to_owned())),
        ("cluster", (None, None)) => Some(AnyKey::Cluster),
        ("election", (Some(name), None)) => Some(AnyKey::Election(name.to_owned())),
        _ => None,
    }
}

/// A day as keys have it, and in no other form.
fn date(text: &str) -> Option<Date> {
    text.parse().ok().filter(|date: &Date| date.to_string() == text)
}

fn public_key(hex: &str) -> Option<PublicKey> {
    if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&hex[digits..digits + 2], 16).ok()?;
    }
    Some(PublicKey(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key;

    #[test]
    fn every_key_reads_back_as_what_it_names() {
        let (network, host): (NetworkId, HostId) = ("prod".parse().unwrap(), "host-1".parse().unwrap());
        let address = Ipv4Addr::new(10, 0, 0, 7);
        assert_eq!(key::network(&network).parse(), AnyKey::Network(network.clone()));
        assert_eq!(key::rules(&network).parse(), AnyKey::Rules(network.clone()));
        assert_eq!(key::host(&host).parse(), AnyKey::Host(host.clone()));
        assert_eq!(key::membership(&network, &host).parse(), AnyKey::Membership(network.clone(), host.clone()));
        assert_eq!(key::presence(&host).parse(), AnyKey::Presence(host.clone()));
        assert_eq!(key::stream(&host).parse(), AnyKey::Stream(host.clone()));
        assert_eq!(key::status(&network, &host).parse(), AnyKey::Status(network.clone(), host.clone()));
        assert_eq!(key::allocation(&network, address).parse(), AnyKey::Allocation(network.clone(), address));
        assert_eq!(key::peer(&network, &host).parse(), AnyKey::Peer(network.clone(), host.clone()));
        assert_eq!(key::public_key(&PublicKey([0xa7; 32])).parse(), AnyKey::PublicKey(PublicKey([0xa7; 32])));
        let (deployment, machine): (DeploymentId, MachineName) = ("d-1".parse().unwrap(), "db-1".parse().unwrap());
        assert_eq!(key::deployment(&deployment).parse(), AnyKey::Deployment(deployment.clone()));
        let both = || (deployment.clone(), machine.clone());
        let of = |make: fn(DeploymentId, MachineName) -> AnyKey| make(both().0, both().1);
        assert_eq!(key::deployment_host(&deployment, &machine).parse(), of(AnyKey::DeploymentHost));
        assert_eq!(key::deployment_progress(&deployment, &machine).parse(), of(AnyKey::DeploymentProgress));
        assert_eq!(key::deployment_transcript(&deployment, &machine).parse(), of(AnyKey::DeploymentTranscript));
        assert_eq!(key::deployment_credential(&deployment, &machine).parse(), of(AnyKey::DeploymentCredential));
        assert_eq!(key::deployment_claim(&deployment).parse(), AnyKey::DeploymentClaim(deployment.clone()));
        assert_eq!(key::host_key("[2001:db8::1]:22").parse(), AnyKey::HostKey("[2001:db8::1]:22".into()));
        let run: RunId = "run-1".parse().unwrap();
        assert_eq!(
            key::connectivity_run(&network, &run).parse(),
            AnyKey::ConnectivityRun(network.clone(), run.clone())
        );
        assert_eq!(
            key::connectivity_result(&network, &run, &host).parse(),
            AnyKey::ConnectivityResult(network.clone(), run.clone(), host.clone())
        );
        let day = Date::new(2026, 11, 20).unwrap();
        assert_eq!(key::usage(day, &network, &host).parse(), AnyKey::Usage(day, network.clone(), host.clone()));
        assert_eq!(key::budget(&network).parse(), AnyKey::Budget(network.clone()));
        assert_eq!(key::usage_cursor(&host).parse(), AnyKey::UsageCursor(host.clone()));
        let session: SessionId = "0a".repeat(32).parse().unwrap();
        assert_eq!(key::session(&session).parse(), AnyKey::Session(session));
        assert_eq!(key::tariff(Origin::Operator).parse(), AnyKey::Tariff(Origin::Operator));
        assert_eq!(key::cluster().parse(), AnyKey::Cluster);
        assert_eq!(key::secret("ca").parse(), AnyKey::Secret("ca".into()));
        assert_eq!(key::election("controller").parse(), AnyKey::Election("controller".into()));
    }

    #[test]
    fn a_network_whose_id_begins_another_id_has_its_own_prefix() {
        let (short, long): (NetworkId, NetworkId) = ("prod".parse().unwrap(), "prod-2".parse().unwrap());
        let host: HostId = "host-1".parse().unwrap();
        assert!(!key::peer(&long, &host).path().starts_with(key::peers(&short).path()));
        assert!(key::peer(&short, &host).path().starts_with(key::peers(&short).path()));
    }

    #[test]
    fn foreign_and_malformed_keys_are_unknown() {
        for path in [
            "",
            "/cladnet/v1",
            "/cladnet/v1/",
            "/cladnet/v2/network/prod",
            "/cladnet/v1/network/",
            "/cladnet/v1/network/a/b",
            "/cladnet/v1/network/Prod",
            "/cladnet/v1/membership/prod",
            "/cladnet/v1/membership/prod/host-1/more",
            "/cladnet/v1/connectivity-result/prod/run-1",
            "/cladnet/v1/usage/2026-11-20/prod",
            "/cladnet/v1/usage/20261120/prod/host-1",
            "/cladnet/v1/connectivity-result/prod/run-1/host-1/more",
            "/cladnet/v1/allocation/prod/10.0.0",
            "/cladnet/v1/public-key/é0",
            "/cladnet/v1/session/0A",
            "/cladnet/v1/cluster/1",
            "/registry/pods/default/a",
        ] {
            assert_eq!(AnyKey::parse(path), AnyKey::Unknown(path.to_owned()), "{path}");
        }
    }
}
