//! What-if: a matrix of bytes between places, priced as it went, under other rule types, or with hosts elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use jiff::civil::Date;

use crate::{
    HostId, HostUsage, Place, RuleType, Scope,
    path::same_vpc,
    tariff::{self, AttoUsd, Book, PoolUsage},
};

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

/// A host, or all of a region, elsewhere: `db-1=gcp/asia-northeast3`, `aws/us-east-1=aws/eu-west-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    Host(HostId, Place),
    Region(Place, Place),
}

/// What a matrix costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Priced {
    pub spent: AttoUsd,
    /// Bytes without a known price; nothing of them is in `spent`.
    pub unpriced: u64,
    pub estimated: u64,
}

impl Matrix {
    /// What hosts sent, by their own counters, with some of them moved.
    pub fn of<'a>(usages: impl IntoIterator<Item = &'a HostUsage>, moves: &[Move]) -> Self {
        let mut matrix = Self::default();
        let usages: Vec<_> = usages.into_iter().collect();
        for usage in &usages {
            for row in &usage.rows {
                matrix.add(Flow { from: row.own.clone(), to: row.peer.clone(), scope: row.scope }, row.bytes.sent);
            }
        }
        for to in moves {
            if let Move::Host(host, place) = to {
                usages.iter().filter(|usage| usage.host == *host).for_each(|usage| matrix.move_host(usage, place));
            }
        }
        matrix.moved(moves)
    }

    /// With all of some regions elsewhere; hosts are known to [`Matrix::of`] alone.
    #[must_use]
    pub fn moved(self, moves: &[Move]) -> Self {
        moves.iter().fold(self, |matrix, to| match to {
            Move::Region(from, to) => matrix.move_region(from, to),
            Move::Host(..) => matrix,
        })
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

    /// The host's own counters tell both what it sent and what others sent to it.
    fn move_host(&mut self, usage: &HostUsage, place: &Place) {
        for row in &usage.rows {
            let (own, peer) = (row.own.clone(), row.peer.clone());
            let elsewhere = scope_between(place, &peer, row.scope);
            for (from, to, moved_from, moved_to, bytes) in [
                (own.clone(), peer.clone(), place.clone(), peer.clone(), row.bytes.sent),
                (peer.clone(), own.clone(), peer, place.clone(), row.bytes.received),
            ] {
                let taken = self.take(&Flow { from, to, scope: row.scope }, bytes);
                self.add(Flow { from: moved_from, to: moved_to, scope: elsewhere }, taken);
            }
        }
    }

    /// Takes so many bytes out, or all there are.
    fn take(&mut self, flow: &Flow, bytes: u64) -> u64 {
        let Some(left) = self.0.get_mut(flow) else { return 0 };
        let taken = bytes.min(*left);
        *left -= taken;
        taken
    }

    /// Zones and VPCs keep their names: what was in one stays in one.
    fn move_region(self, from: &Place, to: &Place) -> Self {
        let is_meant = |place: &Place| place.provider == from.provider && place.region == from.region;
        let moved = |place: Place| {
            if is_meant(&place) {
                Place { provider: to.provider.clone(), region: to.region.clone(), ..place }
            } else {
                place
            }
        };
        let mut matrix = Self::default();
        for (flow, bytes) in self.0 {
            let moves = is_meant(&flow.from) || is_meant(&flow.to);
            let (from, to) = (moved(flow.from), moved(flow.to));
            let scope = if moves { scope_between(&from, &to, flow.scope) } else { flow.scope };
            matrix.add(Flow { from, to, scope }, bytes);
        }
        matrix
    }
}

/// From where something was moved to, no private path is known to lead to another provider or another region.
fn scope_between(one: &Place, other: &Place, scope: Scope) -> Scope {
    let is_near = one.provider == other.provider && one.region == other.region;
    if scope == Scope::Private && !is_near { Scope::Public } else { scope }
}

/// Prices a matrix as the traffic of one month, both sides together; `rule` none: as it went. Under a rule type a flow goes the
/// way that the rule takes of those that are known to be there: public addresses, what it used, and private ones in one VPC.
pub fn priced(book: &Book, matrix: &Matrix, rule: Option<RuleType>, at: Date) -> Priced {
    let mut usage = PoolUsage::new_month();
    let mut priced = Priced::default();
    for (flow, bytes) in matrix.flows() {
        let (from, to) = (flow.from.location(), flow.to.location());
        let scope = rule.map_or(flow.scope, |rule| chosen(book, flow, rule, at));
        let charge = tariff::charge(book, &from, &to, scope, at, &mut usage, bytes);
        match charge.total {
            Some(total) => priced.spent += total,
            None => priced.unpriced = priced.unpriced.saturating_add(bytes),
        }
        if charge.estimated {
            priced.estimated = priced.estimated.saturating_add(bytes);
        }
    }
    priced
}

/// Without measurements latency says nothing; then private goes first, as in one VPC it does.
fn chosen(book: &Book, flow: &Flow, rule: RuleType, at: Date) -> Scope {
    let (from, to) = (flow.from.location(), flow.to.location());
    let inside = same_vpc(&from, &to).is_ok().then_some(Scope::Private);
    let scopes: BTreeSet<Scope> = [Some(Scope::Public), Some(flow.scope), inside].into_iter().flatten().collect();
    match rule {
        RuleType::Basic => Scope::Public,
        RuleType::LatencyPrioritized => scopes.into_iter().next().unwrap_or(flow.scope),
        RuleType::CostPrioritized | RuleType::Balanced => {
            let price = |scope: &Scope| {
                let quote = tariff::cost(book, &from, &to, *scope, at, &PoolUsage::FirstPaid);
                (quote.per_gb.is_none(), quote.per_gb, *scope)
            };
            scopes.into_iter().min_by_key(price).unwrap_or(flow.scope)
        }
    }
}

/// The text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {0:?}; use provider/region, provider/region/zone or provider/region/zone/vpc")]
pub struct PlaceTextError(String);

impl FromStr for Place {
    type Err = PlaceTextError;

    fn from_str(text: &str) -> Result<Self, PlaceTextError> {
        let refused = || PlaceTextError(text.chars().take(60).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let [provider, region, rest @ ..] = parts.as_slice() else { return Err(refused()) };
        if rest.len() > 2 || parts.iter().any(|part| part.trim().is_empty()) {
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
