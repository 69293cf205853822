//! What an access rule looks at beside its two sides.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::word::words;

/// An IP protocol that rules can name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Any,
    Tcp,
    Udp,
    /// ICMPv6 too.
    Icmp,
}

words!(Protocol {
    Any = "any",
    Tcp = "tcp",
    Udp = "udp",
    Icmp = "icmp",
});

/// A protocol and, if it has any, the ports at the receiver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    protocol: Protocol,
    /// Empty: all.
    ports: Vec<PortRange>,
}

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    #[error("holds {0:?}; ports are written 443 or 8000-8100")]
    Ports(String),
    #[error("needs the protocol tcp or udp")]
    NoPorts,
}

impl Traffic {
    /// Ports belong to TCP and UDP only.
    pub fn new(protocol: Protocol, ports: Vec<PortRange>) -> Result<Self, TrafficError> {
        match protocol {
            Protocol::Any | Protocol::Icmp if !ports.is_empty() => Err(TrafficError::NoPorts),
            _ => Ok(Self { protocol, ports }),
        }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Empty: all.
    pub fn ports(&self) -> &[PortRange] {
        &self.ports
    }

    /// Whether a packet of this protocol to this port is meant; the port of what has none is 0.
    pub fn matches(&self, protocol: Protocol, port: u16) -> bool {
        let any_port = self.ports.is_empty();
        (self.protocol == Protocol::Any || self.protocol == protocol)
            && (any_port || self.ports.iter().any(|range| range.contains(port)))
    }

    /// Whether this means all that `other` does. False is no proof of the contrary.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let holds =
            |theirs: &PortRange| self.ports.iter().any(|ours| ours.first <= theirs.first && theirs.last <= ours.last);
        match self.protocol {
            Protocol::Any => true,
            protocol if protocol != other.protocol => false,
            _ => self.ports.is_empty() || !other.ports.is_empty() && other.ports.iter().all(holds),
        }
    }
}

impl PortRange {
    pub fn first(self) -> u16 {
        self.first
    }

    pub fn last(self) -> u16 {
        self.last
    }

    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = TrafficError;

    fn from_str(text: &str) -> Result<Self, TrafficError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            text.trim().parse().map_err(|_: ParseIntError| TrafficError::Ports(text.chars().take(20).collect()))
        };
        let range = Self { first: port(first)?, last: port(last)? };
        if range.first <= range.last { Ok(range) } else { Err(TrafficError::Ports(text.to_owned())) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => first.fmt(f),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.protocol.as_str().fmt(f)?;
        self.ports
            .iter()
            .enumerate()
            .try_for_each(|(index, range)| write!(f, "{}{range}", if index == 0 { " " } else { ", " }))
    }
}
