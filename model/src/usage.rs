//! Bytes that hosts exchanged, as they are kept: by place, never by pair of hosts, and as bytes, never as money, so that a
//! corrected price reaches back. How they are added exactly once stands in `service`, what they cost in [`crate::bill`].

use std::collections::BTreeMap;

use jiff::{ToSpan as _, civil::Date};
use serde::{Deserialize, Serialize};

use crate::{CloudLocation, HostId, Located, LocationSource, NetworkId, Scope};

/// Days that usage is kept at least: this month and the one before, whatever their lengths.
const KEPT_DAYS: i32 = 62;

/// The oldest day that is kept. It is a month's first, because tiers and free pools go by what came before in the month.
pub fn oldest_kept(today: Date) -> Date {
    (today - KEPT_DAYS.days()).first_of_month()
}

/// Rows of one record; what does not fit counts as exchanged with an unknown place. With hosts, networks and the days
/// that are kept this bounds what there is.
pub const MAX_ROWS: usize = 256;

/// Plain peers of one record; what more of them exchanged counts as that of [`OTHER_PLAIN_PEERS`].
pub const MAX_PLAIN_PEERS: usize = 256;

/// Stands for the plain peers of a host that are too many to be kept apart.
pub const OTHER_PLAIN_PEERS: &str = "other-plain-peers";

/// What prices depend on of a host's cloud location; what is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vpc: Option<String>,
}

/// What passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchanged {
    /// Of datagrams, with the headers of IP and UDP.
    pub sent: u64,
    pub received: u64,
    /// Of inner packets that travelled unsealed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clear_sent: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub clear_received: u64,
}

/// What a host in one place exchanged with all hosts of another over one kind of path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Where the host stood.
    pub own: Place,
    /// Where the others stood.
    pub peer: Place,
    pub scope: Scope,
    #[serde(flatten)]
    pub bytes: Exchanged,
}

/// What one host exchanged in one network on one UTC day, by its own counters, and what its plain peers exchanged with it,
/// who count nothing. Writer: the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostUsage {
    pub network: NetworkId,
    pub host: HostId,
    pub day: Date,
    pub rows: Vec<UsageRow>,
    /// Of plain peers, as seen from their end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plain: BTreeMap<HostId, Vec<UsageRow>>,
}

/// The last report of a host that is counted. Written with what it holds. Writer: the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageCursor {
    pub sequence: u64,
}

impl Place {
    pub fn of(location: &CloudLocation) -> Self {
        let value = |field: &Option<Located>| field.as_ref().map(|located| located.value.clone());
        Self {
            provider: value(&location.provider),
            account: value(&location.account),
            region: value(&location.region),
            zone: value(&location.zone),
            vpc: value(&location.vpc),
        }
    }

    /// As prices are asked for.
    pub fn location(&self) -> CloudLocation {
        let located = |field: &Option<String>| {
            field.as_ref().map(|value| Located { value: value.clone(), source: LocationSource::Injected })
        };
        CloudLocation {
            provider: located(&self.provider),
            account: located(&self.account),
            region: located(&self.region),
            zone: located(&self.zone),
            vpc: located(&self.vpc),
            ..CloudLocation::default()
        }
    }
}

impl Exchanged {
    /// As seen from the other end.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            sent: self.received,
            received: self.sent,
            clear_sent: self.clear_received,
            clear_received: self.clear_sent,
        }
    }
}

impl std::ops::AddAssign for Exchanged {
    fn add_assign(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
        self.clear_sent = self.clear_sent.saturating_add(other.clear_sent);
        self.clear_received = self.clear_received.saturating_add(other.clear_received);
    }
}

impl HostUsage {
    pub fn new(network: NetworkId, host: HostId, day: Date) -> Self {
        Self { network, host, day, rows: Vec::new(), plain: BTreeMap::new() }
    }

    /// Adds what passed between the host in its place and one in another.
    pub fn add(&mut self, own: &Place, peer: &Place, scope: Scope, bytes: Exchanged) {
        add(&mut self.rows, own, peer, scope, bytes);
    }

    /// Adds what passed between the host in its place and a plain peer in another: to the host as its own, and to the plain
    /// peer as the other end of the same.
    pub fn add_plain(&mut self, plain: &HostId, own: &Place, peer: &Place, scope: Scope, bytes: Exchanged) {
        self.add(own, peer, scope, bytes);
        let fits = self.plain.contains_key(plain) || self.plain.len() < MAX_PLAIN_PEERS;
        let others = || OTHER_PLAIN_PEERS.parse().expect("it is an id");
        let plain = if fits { plain.clone() } else { others() };
        add(self.plain.entry(plain).or_default(), peer, own, scope, bytes.reversed());
    }

    /// The usage of the host, and that of each of its plain peers as if they had counted it.
    pub fn of_each_host(self) -> impl Iterator<Item = Self> {
        let Self { network, host, day, rows, plain } = self;
        let each = std::iter::once((host, rows)).chain(plain);
        each.map(move |(host, rows)| Self { network: network.clone(), host, day, rows, plain: BTreeMap::new() })
    }
}

/// Rows that are kept free for what does not fit: one of each scope.
const UNKNOWN: usize = 3;

fn add(rows: &mut Vec<UsageRow>, own: &Place, peer: &Place, scope: Scope, bytes: Exchanged) {
    if let Some(row) = row_of(rows, own, peer, scope) {
        row.bytes += bytes;
    } else if rows.len() + UNKNOWN < MAX_ROWS {
        rows.push(UsageRow { own: own.clone(), peer: peer.clone(), scope, bytes });
    } else {
        let unknown = Place::default();
        match row_of(rows, &unknown, &unknown, scope) {
            Some(row) => row.bytes += bytes,
            None => rows.push(UsageRow { own: unknown.clone(), peer: unknown, scope, bytes }),
        }
    }
}

fn row_of<'a>(rows: &'a mut [UsageRow], own: &Place, peer: &Place, scope: Scope) -> Option<&'a mut UsageRow> {
    rows.iter_mut().find(|row| (&row.own, &row.peer, row.scope) == (own, peer, scope))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(bytes: &u64) -> bool {
    *bytes == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(zone: &str) -> Place {
        Place { provider: Some("aws".into()), zone: Some(zone.into()), ..Place::default() }
    }

    fn usage() -> HostUsage {
        HostUsage::new("prod".parse().unwrap(), "host-a".parse().unwrap(), Date::new(2026, 11, 20).unwrap())
    }

    #[test]
    fn months_are_kept_whole_this_one_and_at_least_the_one_before() {
        for today in Date::new(2027, 11, 1).unwrap().series(1.day()).take(500) {
            let (oldest, before) = (oldest_kept(today), today.first_of_month().yesterday().unwrap());
            assert_eq!(oldest, oldest.first_of_month());
            assert!(oldest <= before.first_of_month() && today.since(oldest).unwrap().get_days() <= 92, "{today}");
        }
    }

    #[test]
    fn hosts_of_one_place_share_a_row() {
        let mut usage = usage();
        let bytes = Exchanged { sent: 5, received: 7, ..Exchanged::default() };
        usage.add(&place("a"), &place("b"), Scope::Private, bytes);
        usage.add(&place("a"), &place("b"), Scope::Private, bytes);
        usage.add(&place("a"), &place("b"), Scope::Public, bytes);
        assert_eq!(usage.rows.len(), 2);
        assert_eq!(usage.rows[0].bytes, Exchanged { sent: 10, received: 14, ..Exchanged::default() });
    }

    #[test]
    fn too_many_places_lose_their_names_and_no_byte() {
        let mut usage = usage();
        for number in 0..2 * MAX_ROWS as u64 {
            for scope in [Scope::Private, Scope::Public, Scope::PublicV6] {
                usage.add(
                    &place("a"),
                    &place(&number.to_string()),
                    scope,
                    Exchanged { sent: 1, ..Exchanged::default() },
                );
            }
        }
        assert!(usage.rows.len() <= MAX_ROWS, "{}", usage.rows.len());
        assert_eq!(usage.rows.iter().map(|row| row.bytes.sent).sum::<u64>(), 6 * MAX_ROWS as u64);
    }

    #[test]
    fn a_plain_peer_has_what_its_peers_counted_from_the_other_end() {
        let mut usage = usage();
        let bytes = Exchanged { sent: 5, received: 7, ..Exchanged::default() };
        let plain = |number: usize| format!("plain-{number}").parse().unwrap();
        for number in 0..MAX_PLAIN_PEERS + 9 {
            usage.add_plain(&plain(number), &place("a"), &place("b"), Scope::Public, bytes);
        }
        usage.add_plain(&plain(0), &place("a"), &place("b"), Scope::Public, bytes);
        let all: BTreeMap<_, _> =
            usage.of_each_host().map(|usage| (usage.host.to_string(), usage.rows[0].clone())).collect();
        assert_eq!(all["host-a"].bytes.sent, 5 * (MAX_PLAIN_PEERS as u64 + 10));
        let UsageRow { own, peer, bytes, .. } = &all["plain-0"];
        assert_eq!((own, peer, bytes.sent, bytes.received), (&place("b"), &place("a"), 14, 10));
        assert_eq!((all.len(), all[OTHER_PLAIN_PEERS].bytes.sent), (MAX_PLAIN_PEERS + 2, 9 * 7));
    }

    #[test]
    fn a_place_is_what_prices_ask_for() {
        let place = Place { vpc: Some("vpc-1".into()), ..place("a") };
        assert_eq!(Place::of(&place.location()), place);
    }
}
