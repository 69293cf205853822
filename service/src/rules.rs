//! The rules of a network. A change is checked as a whole, against the peers of now too, and takes effect or leaves what was
//! in force; agents get the rules as they are written and resolve them.

use std::{fmt::Display, net::IpAddr};

use cladnet_model::{
    HostId, Membership, Network, NetworkId, RuleId,
    advise::Avoid,
    path::{PairPolicy, same_vpc},
    rule::{
        self, Action, Advertised, Broken, Member, NetworkRules, Party, Protocol, Rule, RuleDraft, RuleSet, RulesDraft,
        Warning, advertised, check_expectations, decide, overlap,
    },
};
use cladnet_proto::{cladnet::v1::PendingSubnet, convert::FieldError};
use cladnet_store::{StoreError, Transaction, Versioned, key};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    Service,
    advice::Wish,
    error::CallError,
    events::Note,
    networks::TRIES,
    peers::{PeerRow, Peers, find},
};

/// A document as a change of it is asked for.
pub(crate) enum RulesChange {
    Replace(RulesDraft),
    /// Adds a rule, before another or at the end.
    Add {
        rule: Box<RuleDraft>,
        before: Option<RuleId>,
    },
    Remove(RuleId),
}

/// How far a change goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is only checked.
    None,
    InForce,
}

/// Rules, and what a person should see beside them.
pub(crate) struct Shown {
    pub(crate) rules: NetworkRules,
    pub(crate) warnings: Vec<Warning>,
    /// What operators of hosts wish to advertise, and no rule does.
    pub(crate) pending: Vec<PendingSubnet>,
}

impl Shown {
    fn of(rules: NetworkRules, peers: &Peers, members: &[Member]) -> Self {
        let mut warnings = rule::warnings(&rules.rules, members);
        warnings.extend(owned(&rules.rules, peers, members));
        let pending = pending(&rules.rules, peers, members);
        Self { rules, warnings, pending }
    }
}

/// What the rules say of a flow, for people too.
pub(crate) struct Answer {
    pub(crate) action: Action,
    pub(crate) rule: Option<RuleId>,
    pub(crate) reason: String,
}

/// A flow that somebody asks about.
pub(crate) struct Question<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) protocol: Protocol,
    /// 0 without ports.
    pub(crate) port: u16,
}

impl Service {
    /// The rules of a network, which must be there, and what a person should look at.
    pub(crate) async fn rules(&self, network: &NetworkId) -> Result<Shown, CallError> {
        let peers = self.peers(network).await?;
        let rules = self.stored_rules(network).await?.map_or_else(|| none(network), |stored| stored.value);
        Ok(Shown::of(rules, &peers, &members(&peers)))
    }

    /// Changes the rules of a network; with `expected_generation` only if nobody else did meanwhile.
    pub(crate) async fn change_rules(
        &self,
        id: &NetworkId,
        change: &RulesChange,
        expected_generation: Option<u64>,
        effect: Effect,
        actor: &str,
    ) -> Result<Shown, CallError> {
        for _ in 0..TRIES {
            let network = self.network(id).await?;
            let stored = self.stored_rules(id).await?;
            let before = stored.as_ref().map_or_else(|| none(id), |stored| stored.value.clone());
            check_generation(&before, expected_generation)?;
            let rules = change.apply(&before.rules)?;
            let peers = self.peers(id).await?;
            let members = members(&peers);
            check(&rules, &members, change)?;
            self.check_advertised(&network.value, &rules, change).await?;
            if rules == before.rules {
                return Ok(Shown::of(before, &peers, &members));
            }
            let after = NetworkRules {
                network: id.clone(),
                generation: before.generation + 1,
                changed_at: self.clock.now(),
                rules,
            };
            if effect == Effect::None {
                return Ok(Shown::of(after, &peers, &members));
            }
            let key = key::rules(id);
            let transaction = self.store.transaction().same(&network.key, network.created);
            let transaction = match &stored {
                Some(stored) => transaction.unchanged(&key, stored.modified),
                None => transaction.absent(&key),
            };
            let message = format!("rules of network {id} changed: {}", differences(&before.rules, &after.rules));
            let note = Note { kind: "rules.changed", network: Some(id), host: None, actor, message };
            match self.note(transaction.put(&key, &after), note).commit().await {
                Ok(_) => return Ok(Shown::of(after, &peers, &members)),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(CallError::Conflict(format!("others keep changing the rules of network {id}; repeat the call")))
    }

    /// What the rules in force say of a flow that nobody sends.
    pub(crate) async fn test_access(&self, network: &NetworkId, ask: &Question<'_>) -> Result<Answer, CallError> {
        let peers = self.peers(network).await?;
        let rules = self.rule_set(network).await?;
        let members = members(&peers);
        let from = party(&peers, &members, network, "from", ask.from)?;
        let to = party(&peers, &members, network, "to", ask.to)?;
        let decision = decide(&rules, &from, &to, ask.protocol, ask.port);
        let found = rules.rules.iter().find(|rule| Some(&rule.id) == decision.rule.as_ref());
        let reason = match found {
            Some(Rule { id, comment, .. }) if comment.is_empty() => format!("rule {id} is the first that matches"),
            Some(Rule { id, comment, .. }) => format!("rule {id} is the first that matches: {comment}"),
            None => format!("no rule matches, and the network's default is {}", rules.default_access),
        };
        let is_receiver = |row: &&PeerRow| row.address().is_some_and(|address| to.address == address);
        let unaware = peers.rows.iter().find(is_receiver).filter(|row| row.membership.plain);
        let reason = match unaware {
            Some(row) if decision.action == Action::Deny => {
                format!("{reason}; but {} is a plain WireGuard peer, which enforces no rules", row.name())
            }
            _ => reason,
        };
        Ok(Answer { action: decision.action, rule: decision.rule, reason })
    }

    /// Refuses labels of a peer by which a test in the rules fails that holds now. It rewrites the rules' record: of two
    /// changes at one moment, of labels or of rules, the second is looked at again.
    pub(crate) async fn check_labels(
        &self,
        transaction: Transaction,
        changed: &Membership,
    ) -> Result<Transaction, CallError> {
        let key = key::rules(&changed.network);
        let Some(stored) = self.stored_rules(&changed.network).await? else { return Ok(transaction.absent(&key)) };
        let rules = &stored.value.rules;
        if !rules.tests.is_empty() {
            let mut members = members(&self.peers(&changed.network).await?);
            let before = check_expectations(rules, &members);
            for member in members.iter_mut().filter(|member| member.host == changed.host) {
                *member = Member::new(member.host.clone(), member.name.clone(), member.address, &changed.labels);
            }
            let failed_before = |broken: &Broken| before.iter().any(|old| old.expectation == broken.expectation);
            let broken = check_expectations(rules, &members).into_iter().filter(|broken| !failed_before(broken));
            let faults: Vec<_> = broken
                .map(|broken| FieldError::new("labels", format!("breaks a test of the rules: {broken}")))
                .collect();
            if !faults.is_empty() {
                return Err(CallError::Invalid(faults));
            }
        }
        Ok(transaction.unchanged(&key, stored.modified).put(&key, &stored.value))
    }

    /// The rules in force.
    pub(crate) async fn rule_set(&self, network: &NetworkId) -> Result<RuleSet, CallError> {
        Ok(self.stored_rules(network).await?.map(|stored| stored.value.rules).unwrap_or_default())
    }

    /// Of all networks; an error if one of them cannot be read.
    pub(crate) async fn every_rule_set(&self) -> Result<Vec<NetworkRules>, CallError> {
        Ok(self.store.list(&key::all_rules()).await?.complete()?.into_iter().map(|item| item.value).collect())
    }

    async fn stored_rules(&self, network: &NetworkId) -> Result<Option<Versioned<NetworkRules>>, CallError> {
        Ok(self.store.get(&key::rules(network)).await?)
    }

    /// No advertised subnet takes an address that is somebody's already: of the overlay, of another network, of another rule.
    async fn check_advertised(
        &self,
        network: &Network,
        rules: &RuleSet,
        change: &RulesChange,
    ) -> Result<(), CallError> {
        let others = self.every_network().await?.into_iter().filter(|other| other.id != network.id);
        let spaces: Vec<_> = others.map(|other| (other.id, other.address_space)).collect();
        let clashes = rules.clashes(network.address_space, &spaces);
        if clashes.is_empty() {
            return Ok(());
        }
        let wish = Wish { avoid: Avoid::of_rules(&network.id, rules).collect(), ..Wish::default() };
        let lengths: Vec<u8> = clashes.iter().map(|clash| clash.prefix.prefix_len()).collect();
        let free = self.stand_ins(wish, &lengths).await?;
        let faults = clashes.iter().zip(free).map(|(clash, free)| {
            let place = rules.rules.iter().position(|rule| rule.id == clash.rule).unwrap_or_default();
            let offer = free.map_or_else(String::new, |free| {
                format!("; the others may know it by another prefix, of which {free} is free: give that as `mapped`")
            });
            change.fault(rules, place, clash.field, format_args!("{clash}{offer}"))
        });
        Err(CallError::Invalid(faults.collect()))
    }
}

impl RulesChange {
    fn apply(&self, before: &RuleSet) -> Result<RuleSet, CallError> {
        let mut draft = RulesDraft::from(before.clone());
        let place = |id: &RuleId, field| {
            let found = before.rules.iter().position(|rule| rule.id == *id);
            found.ok_or_else(|| CallError::missing(field, format!("is {id}, and the network has no such rule")))
        };
        match self {
            Self::Replace(replacement) => return Ok(replacement.check()?),
            Self::Remove(id) => drop(draft.rules.remove(place(id, "rule_id")?)),
            Self::Add { rule, before } => {
                let at = before.as_ref().map_or(Ok(draft.rules.len()), |id| place(id, "before"))?;
                draft.rules.insert(at, (**rule).clone());
                let own = format!("rules[{at}].");
                return draft.check().map_err(|mut faults| {
                    for fault in &mut faults.0 {
                        if let Some(field) = fault.field.strip_prefix(&own) {
                            fault.field = format!("rule.{field}");
                        }
                    }
                    faults.into()
                });
            }
        }
        Ok(draft.check()?)
    }

    /// A fault of the rule at `place` of what the change makes of the rules, under the name that the request has for it.
    fn fault(&self, rules: &RuleSet, place: usize, field: &str, reason: impl Display) -> FieldError {
        match self {
            Self::Replace(_) => FieldError::new(format!("rules[{place}].{field}"), reason),
            Self::Add { .. } => FieldError::new(format!("rule.{field}"), reason),
            Self::Remove(_) => {
                FieldError::new("rule_id", format!("leaves rule {} that {reason}", rules.rules[place].id))
            }
        }
    }
}

/// The tests that stand beside the rules.
fn check(rules: &RuleSet, members: &[Member], change: &RulesChange) -> Result<(), CallError> {
    let faults = check_expectations(rules, members).into_iter().map(|broken| {
        let place = rules.tests.iter().position(|test| *test == broken.expectation).unwrap_or_default();
        let field = match change {
            RulesChange::Replace(_) => format!("tests[{place}]"),
            RulesChange::Add { .. } => "rule".to_owned(),
            RulesChange::Remove(_) => "rule_id".to_owned(),
        };
        FieldError::new(field, format!("breaks a test: {broken}"))
    });
    let faults: Vec<_> = faults.collect();
    if faults.is_empty() { Ok(()) } else { Err(CallError::Invalid(faults)) }
}

fn check_generation(before: &NetworkRules, expected: Option<u64>) -> Result<(), CallError> {
    match expected {
        Some(expected) if expected != before.generation => Err(CallError::Conflict(format!(
            "the rules of network {} are at generation {}, not {expected}: somebody changed them; look again and repeat",
            before.network, before.generation
        ))),
        _ => Ok(()),
    }
}

/// A network whose rules nobody has changed.
fn none(network: &NetworkId) -> NetworkRules {
    NetworkRules {
        network: network.clone(),
        generation: 0,
        changed_at: Timestamp::UNIX_EPOCH,
        rules: RuleSet::default(),
    }
}

fn members(peers: &Peers) -> Vec<Member> {
    peers.rows.iter().map(member).collect()
}

fn member(row: &PeerRow) -> Member {
    Member::new(row.id().clone(), row.name().to_owned(), row.address(), &row.membership.labels)
}

/// What holds for packets from one peer to another.
pub(crate) fn pair_policy(rules: &RuleSet, network: &PairPolicy, from: &PeerRow, to: &PeerRow) -> PairPolicy {
    let (from, to) = (member(from), member(to));
    match from.party().zip(to.party()) {
        Some((from, to)) => rule::policy(rules, network, &from, &to),
        None => network.clone(),
    }
}

/// The subnets behind peers whose addresses others have: those leave them out.
fn owned(rules: &RuleSet, peers: &Peers, members: &[Member]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (host, subnets) in advertised(rules, members) {
        let Some(gateway) = peers.rows.iter().find(|row| *row.id() == host) else { continue };
        let is_elsewhere = |row: &&PeerRow| *row.id() != host && same_vpc(&row.location, &gateway.location).is_err();
        let elsewhere: Vec<&PeerRow> = peers.rows.iter().filter(is_elsewhere).collect();
        for Advertised { prefix, rule, .. } in subnets {
            let own_route = |row: &&PeerRow| {
                let mut routes = row.host.facts.routes.iter().filter(|route| route.prefix_len() > 0);
                Some((row.name().to_owned(), *routes.find(|route| overlap(**route, prefix))?))
            };
            let mut owners = elsewhere.iter().filter_map(own_route);
            let Some((host, route)) = owners.next() else { continue };
            warnings.push(Warning::Owned { rule, prefix, host, route, others: owners.count() });
        }
    }
    warnings
}

fn pending(rules: &RuleSet, peers: &Peers, members: &[Member]) -> Vec<PendingSubnet> {
    let behind = advertised(rules, members);
    let is_approved = |host: &HostId, wish: &IpNet| {
        let own = behind.get(host).into_iter().flatten();
        own.map(|one| one.mapped_from.unwrap_or(one.prefix)).any(|prefix| prefix.contains(wish))
    };
    let wishes = peers.rows.iter().flat_map(|row| row.host.facts.advertise.iter().map(move |wish| (row, wish)));
    let waiting = wishes.filter(|(row, wish)| !is_approved(row.id(), wish));
    let wire = |(row, wish): (&PeerRow, &IpNet)| PendingSubnet {
        host_id: row.id().to_string(),
        host_name: row.name().to_owned(),
        prefix: wish.to_string(),
    };
    waiting.map(wire).collect()
}

/// Whom a person means by a peer or an address.
fn party<'a>(
    peers: &Peers,
    members: &'a [Member],
    network: &NetworkId,
    field: &str,
    text: &str,
) -> Result<Party<'a>, CallError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let owner = members.iter().find(|member| member.address.is_some_and(|own| own == address));
        return Ok(Party { address, labels: owner.map(|member| &member.labels) });
    }
    let id = find(peers, network, field, text)?.id();
    let member = members.iter().find(|member| member.host == *id);
    let party = member.and_then(Member::party);
    party.ok_or_else(|| CallError::Precondition(format!("peer {text} has no address yet")))
}

/// What an event says of a change.
fn differences(before: &RuleSet, after: &RuleSet) -> String {
    let in_set = |rules: &RuleSet, id: &RuleId| rules.rules.iter().any(|rule| rule.id == *id);
    let is_changed = |rule: &&Rule| before.rules.iter().any(|old| old.id == rule.id && old != *rule);
    let added = after.rules.iter().filter(|rule| !in_set(before, &rule.id));
    let removed = before.rules.iter().filter(|rule| !in_set(after, &rule.id));
    let parts =
        [("added", ids(added)), ("removed", ids(removed)), ("changed", ids(after.rules.iter().filter(is_changed)))];
    let told = parts.into_iter().filter(|(_, ids)| !ids.is_empty());
    let mut told: Vec<String> = told.map(|(what, ids)| format!("{what} {ids}")).collect();
    if before.default_access != after.default_access {
        told.push(format!("default access from {} to {}", before.default_access, after.default_access));
    }
    if told.is_empty() { "order or tests".to_owned() } else { told.join("; ") }
}

/// The first few of them; an event is a sentence.
fn ids<'a>(rules: impl Iterator<Item = &'a Rule>) -> String {
    const SHOWN: usize = 10;
    let ids: Vec<&str> = rules.map(|rule| rule.id.as_str()).collect();
    let more = ids.len().saturating_sub(SHOWN);
    let shown = ids[..ids.len() - more].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
