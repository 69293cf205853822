//! Traffic as a matrix of bytes between places, and what becomes of it when hosts or regions stand elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use crate::{HostId, HostUsage, Place, Scope};

/// Bytes in one direction between two places over one kind of path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub from: Place,
    pub to: Place,
    pub scope: Scope,
}

/// Bytes of a month.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matrix(BTreeMap<Flow, u64>);

/// A host, or all of a region, elsewhere: `db-1=gcp/asia-northeast3`, `aws/us-east-1=aws/eu-west-1`. Zones and VPCs of a
/// region keep their names: what was in one stays in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    Host(HostId, Place),
    Region(Place, Place),
}

/// A matrix after some moves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    pub matrix: Matrix,
    /// Moves, by their number, of which there is no traffic.
    pub idle: BTreeSet<usize>,
    /// Bytes of which it is not known how many went between two hosts that both moved, because usage is kept by place and
    /// not by pair; they are taken to be spread evenly.
    pub unsure: u64,
}

impl Matrix {
    /// What hosts sent, by their own counters.
    pub fn of<'a>(usages: impl IntoIterator<Item = &'a HostUsage>) -> Self {
        let mut matrix = Self::default();
        for row in usages.into_iter().flat_map(|usage| &usage.rows) {
            matrix.add(Flow { from: row.own.clone(), to: row.peer.clone(), scope: row.scope }, row.bytes.sent);
        }
        matrix
    }

    pub fn add(&mut self, flow: Flow, bytes: u64) {
        if bytes > 0 {
            let counted = self.0.entry(flow).or_default();
            *counted = counted.saturating_add(bytes);
        }
    }

    pub fn flows(&self) -> impl Iterator<Item = (&Flow, u64)> {
        self.0.iter().map(|(flow, bytes)| (flow, *bytes))
    }

    /// With hosts and regions elsewhere, all at once: what moves to a region that moves as well stays there. `usages` are
    /// those that the matrix was made of, because it does not know hosts.
    #[must_use]
    pub fn moved(&self, usages: &[HostUsage], moves: &[Move]) -> Moved {
        let mut moved = Moved { idle: (0..moves.len()).collect(), ..Moved::default() };
        let mut ends = Ends::of_all(usages, moves);
        for (flow, bytes) in self.flows() {
            let (shares, unsure) = ends.remove(flow).unwrap_or_default().share(bytes);
            moved.unsure = moved.unsure.saturating_add(unsure);
            for ([sender, receiver], bytes) in shares {
                let from = sender.or_else(|| region_of(&flow.from, moves));
                let to = receiver.or_else(|| region_of(&flow.to, moves));
                moved.idle.retain(|number| ![from, to].contains(&Some(*number)));
                let place = |number: Option<usize>, before: &Place| match number.map(|number| &moves[number]) {
                    None => before.clone(),
                    Some(Move::Host(_, place)) => place.clone(),
                    Some(Move::Region(_, to)) => {
                        Place { provider: to.provider.clone(), region: to.region.clone(), ..before.clone() }
                    }
                };
                let is_elsewhere = from.or(to).is_some();
                let (from, to) = (place(from, &flow.from), place(to, &flow.to));
                let scope = if is_elsewhere { scope_between(&from, &to, flow.scope) } else { flow.scope };
                moved.matrix.add(Flow { from, to, scope }, bytes);
            }
        }
        moved
    }
}

/// The move that takes the region of a place along.
fn region_of(place: &Place, moves: &[Move]) -> Option<usize> {
    let is_meant = |to: &Move| match to {
        Move::Region(from, _) => from.provider == place.provider && from.region == place.region,
        Move::Host(..) => false,
    };
    moves.iter().position(is_meant)
}

/// From where something was moved to, no private path is known to lead to another provider or another region.
fn scope_between(one: &Place, other: &Place, scope: Scope) -> Scope {
    let is_near = one.provider == other.provider && one.region == other.region;
    if scope == Scope::Private && !is_near { Scope::Public } else { scope }
}

/// What hosts that move sent and received of a flow, by the numbers of their moves.
#[derive(Debug, Default)]
struct Ends {
    sent: BTreeMap<usize, u64>,
    received: BTreeMap<usize, u64>,
}

/// Who sent and who received, by the numbers of their moves; none: all that stay.
type Share = ([Option<usize>; 2], u64);

impl Ends {
    fn of_all(usages: &[HostUsage], moves: &[Move]) -> BTreeMap<Flow, Self> {
        let mut ends: BTreeMap<Flow, Self> = BTreeMap::new();
        for usage in usages {
            let is_meant = |to: &Move| matches!(to, Move::Host(host, _) if *host == usage.host);
            let Some(number) = moves.iter().position(is_meant) else { continue };
            for row in &usage.rows {
                let (own, peer) = (row.own.clone(), row.peer.clone());
                let out = Flow { from: own.clone(), to: peer.clone(), scope: row.scope };
                *ends.entry(out).or_default().sent.entry(number).or_default() += row.bytes.sent;
                let back = Flow { from: peer, to: own, scope: row.scope };
                *ends.entry(back).or_default().received.entry(number).or_default() += row.bytes.received;
            }
        }
        ends
    }

    /// Splits the bytes of a flow among those that move and the rest. No host sends to itself, and what one sent went to the
    /// others in proportion to what they received: with two hosts, or one in each place, that is what was. The second figure
    /// says of how many bytes it need not be so.
    fn share(self, bytes: u64) -> (Vec<Share>, u64) {
        let Self { sent, mut received } = self;
        let (mut shares, mut unsure, mut unsent, mut unheard) = (Vec::new(), 0, bytes, bytes);
        for heard in received.values_mut() {
            *heard = (*heard).min(unheard);
            unheard -= *heard;
        }
        let mut from_others = received.clone();
        for (sender, sent) in sent {
            let sent = sent.min(unsent);
            let mut rest = sent;
            unsent -= sent;
            let heard_by_others = bytes - received.get(&sender).copied().unwrap_or(0);
            for (receiver, heard) in received.iter().filter(|(receiver, _)| **receiver != sender) {
                let unshared = from_others.entry(*receiver).or_default();
                let share = part(sent, *heard, heard_by_others).min(rest).min(*unshared);
                let (least, most) = (sent.saturating_sub(heard_by_others - heard), sent.min(*heard));
                unsure += most.saturating_sub(least);
                rest -= share;
                *unshared -= share;
                shares.push(([Some(sender), Some(*receiver)], share));
            }
            shares.push(([Some(sender), None], rest));
        }
        for (receiver, heard) in from_others {
            let share = heard.min(unsent);
            unsent -= share;
            shares.push(([None, Some(receiver)], share));
        }
        shares.push(([None, None], unsent));
        (shares.into_iter().filter(|(_, bytes)| *bytes > 0).collect(), unsure)
    }
}

/// As much of `bytes` as `some` is of `all`.
fn part(bytes: u64, some: u64, all: u64) -> u64 {
    let part = u128::from(bytes) * u128::from(some) / u128::from(all.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// The text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {0:?}; use provider/region, provider/region/zone or provider/region/zone/vpc")]
pub struct PlaceTextError(String);

impl FromStr for Place {
    type Err = PlaceTextError;

    fn from_str(text: &str) -> Result<Self, PlaceTextError> {
        let refused = || PlaceTextError(text.chars().take(60).collect());
        // The VPC is last and may hold slashes itself.
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let [provider, region, rest @ ..] = parts.as_slice() else { return Err(refused()) };
        if parts.iter().any(|part| part.trim().is_empty()) {
            return Err(refused());
        }
        let own = |part: &&str| (*part).to_owned();
        Ok(Self {
            provider: Some(provider.to_ascii_lowercase()),
            account: None,
            region: Some(own(region)),
            zone: rest.first().map(own),
            vpc: rest.get(1).map(own),
        })
    }
}

impl fmt::Display for Place {
    /// As far as it is known; a part that is not is a question mark.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.provider, &self.region, &self.zone, &self.vpc];
        let known = parts.iter().rposition(|part| part.is_some()).map_or(1, |last| last + 1);
        let texts: Vec<_> = parts[..known].iter().map(|part| part.as_deref().unwrap_or("?")).collect();
        f.pad(&texts.join("/"))
    }
}
