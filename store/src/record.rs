//! A record of any kind, for the one watch of a process over everything.

use cladnet_model::{
    Allocation, ApiKey, Cluster, CommandRecord, Deployment, DeploymentHost, DeploymentProgress, Event, Host,
    Membership, MembershipStatus, Network, Peer, Presence, PublicKeyOwner, Session, Token, rule::NetworkRules,
    tariff::TariffRecord,
};

use crate::{AnyKey, DecodeError, Record};

/// A record, by the kind its key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyRecord {
    Network(Network),
    Rules(Box<NetworkRules>),
    Host(Box<Host>),
    Membership(Membership),
    Status(MembershipStatus),
    Allocation(Allocation),
    Peer(Peer),
    Token(Token),
    ApiKey(ApiKey),
    Session(Session),
    Presence(Presence),
    Command(CommandRecord),
    Event(Event),
    PublicKey(PublicKeyOwner),
    Deployment(Box<Deployment>),
    DeploymentHost(Box<DeploymentHost>),
    DeploymentProgress(Box<DeploymentProgress>),
    Cluster(Cluster),
    Tariff(Box<TariffRecord>),
    /// Secrets, elections, what only few ever read, and what is not ours.
    Other,
}

impl Record for AnyRecord {
    fn decode(path: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match AnyKey::parse(path) {
            AnyKey::Network(_) => Self::Network(Record::decode(path, bytes)?),
            AnyKey::Rules(_) => Self::Rules(Box::new(Record::decode(path, bytes)?)),
            AnyKey::Host(_) => Self::Host(Box::new(Record::decode(path, bytes)?)),
            AnyKey::Membership(..) => Self::Membership(Record::decode(path, bytes)?),
            AnyKey::Status(..) => Self::Status(Record::decode(path, bytes)?),
            AnyKey::Allocation(..) => Self::Allocation(Record::decode(path, bytes)?),
            AnyKey::Peer(..) => Self::Peer(Record::decode(path, bytes)?),
            AnyKey::Token(_) => Self::Token(Record::decode(path, bytes)?),
            AnyKey::ApiKey(_) => Self::ApiKey(Record::decode(path, bytes)?),
            AnyKey::Session(_) => Self::Session(Record::decode(path, bytes)?),
            AnyKey::Presence(_) => Self::Presence(Record::decode(path, bytes)?),
            AnyKey::Command(..) => Self::Command(Record::decode(path, bytes)?),
            AnyKey::Event(_) => Self::Event(Record::decode(path, bytes)?),
            AnyKey::PublicKey(_) => Self::PublicKey(Record::decode(path, bytes)?),
            AnyKey::Cluster => Self::Cluster(Record::decode(path, bytes)?),
            AnyKey::Tariff(_) => Self::Tariff(Box::new(Record::decode(path, bytes)?)),
            AnyKey::Deployment(_) => Self::Deployment(Box::new(Record::decode(path, bytes)?)),
            AnyKey::DeploymentHost(..) => Self::DeploymentHost(Box::new(Record::decode(path, bytes)?)),
            AnyKey::DeploymentProgress(..) => Self::DeploymentProgress(Box::new(Record::decode(path, bytes)?)),
            AnyKey::Stream(_)
            | AnyKey::ConnectivityRun(..)
            | AnyKey::ConnectivityResult(..)
            | AnyKey::DeploymentTranscript(..)
            | AnyKey::DeploymentCredential(..)
            | AnyKey::DeploymentClaim(_)
            | AnyKey::HostKey(_)
            | AnyKey::Usage(..)
            | AnyKey::UsageCursor(_)
            | AnyKey::Budget(_)
            | AnyKey::Secret(_)
            | AnyKey::Election(_)
            | AnyKey::Unknown(_) => Self::Other,
        })
    }
}
