//! What a network's rules must add up to, written beside them: `expect: web-1 may reach db-1:5432`.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use winnow::{
    ModalResult, Parser,
    ascii::{digit1, space0, space1},
    combinator::{alt, delimited, opt, preceded},
    token::{take, take_until},
};

use super::{
    AccessRule, Action, Decision, Member, Party, Protocol, RuleSet, Selector, decide,
    parse::{self, SyntaxError, expected},
};

/// One test of a document of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    from: Who,
    expected: Action,
    to: Who,
    protocol: Protocol,
    /// 0 for ICMP.
    port: u16,
}

/// Whom a test is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// Every peer that bears these labels.
    Peers(Selector),
    /// The peers of this host name or host id.
    Named(String),
    Address(IpAddr),
}

/// A test that the rules break, for one pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expectation} fails: {from} {} reach {to}, by {}", if .decision.action == Action::Allow { "may" } else { "may not" },
    .decision.rule.as_ref().map_or_else(|| "the default".to_owned(), |rule| format!("rule {rule}")))]
pub struct Broken {
    pub expectation: Expectation,
    pub from: String,
    pub to: String,
    pub decision: Decision,
}

/// The tests that the rules break, each with the first pair that shows it.
pub fn check_expectations(rules: &RuleSet, members: &[Member]) -> Vec<Broken> {
    rules.tests.iter().filter_map(|expectation| expectation.broken(rules, members)).collect()
}

impl Expectation {
    fn broken(&self, rules: &RuleSet, members: &[Member]) -> Option<Broken> {
        let (senders, receivers) = (self.from.parties(members), self.to.parties(members));
        let senders = distinct(senders, |party| meant(rules, |access| access.from.matches(party)));
        let receivers = distinct(receivers, |party| meant(rules, |access| access.to.matches(party)));
        let pairs = senders.iter().flat_map(|sender| receivers.iter().map(move |receiver| (sender, receiver)));
        let others = pairs.filter(|((_, sender), (_, receiver))| sender.address != receiver.address);
        let mut decided = others.map(|((from, sender), (to, receiver))| {
            (from, to, decide(rules, sender, receiver, self.protocol, self.port))
        });
        let (from, to, decision) = decided.find(|(.., decision)| decision.action != self.expected)?;
        Some(Broken { expectation: self.clone(), from: from.clone(), to: to.clone(), decision })
    }

    /// Which of its sides is nobody now, so that it proves nothing.
    pub(super) fn nobody(&self, members: &[Member]) -> Option<String> {
        [&self.from, &self.to].into_iter().find(|who| who.parties(members).is_empty()).map(Who::to_string)
    }
}

/// Of those that the same rules mean, two: no rule tells them from the others, and one alone might be asked about itself.
/// So the time that a test takes does not grow with the square of the peers.
fn distinct<'a>(
    parties: Vec<(String, Party<'a>)>,
    meant_by: impl Fn(&Party<'a>) -> Vec<bool>,
) -> Vec<(String, Party<'a>)> {
    let mut seen: BTreeMap<Vec<bool>, usize> = BTreeMap::new();
    let mut is_kept = |party: &Party<'a>| {
        let count = seen.entry(meant_by(party)).or_default();
        *count += 1;
        *count <= 2
    };
    parties.into_iter().filter(|(_, party)| is_kept(party)).collect()
}

/// Of each access rule, whether it holds that.
fn meant(rules: &RuleSet, holds: impl Fn(&AccessRule) -> bool) -> Vec<bool> {
    rules.access_rules().map(|(_, access)| holds(access)).collect()
}

impl Who {
    fn parties<'a>(&self, members: &'a [Member]) -> Vec<(String, Party<'a>)> {
        let chosen = |choose: &dyn Fn(&Member) -> bool| {
            let chosen = members.iter().filter(|member| choose(member));
            chosen.filter_map(|member| Some((member.name.clone(), member.party()?))).collect()
        };
        match self {
            Self::Peers(selector) => chosen(&|member| selector.matches(&member.labels)),
            Self::Named(name) => chosen(&|member| member.name == *name || member.host.as_str() == name),
            Self::Address(address) => {
                let labels = members.iter().find(|member| member.address.is_some_and(|own| own == *address));
                vec![(address.to_string(), Party { address: *address, labels: labels.map(|member| &member.labels) })]
            }
        }
    }
}

impl FromStr for Expectation {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        parse::whole(text, expectation)
    }
}

const FORM: &str = "a test such as: web-1 may reach db-1:5432, or: role=web may not reach role=db:22/tcp";

fn expectation(input: &mut &str) -> ModalResult<Expectation> {
    (space0, opt(("expect:", space0))).parse_next(input)?;
    let from = take_until(1.., " may ").try_map(who).context(expected(FORM)).parse_next(input)?;
    (space0, "may", space1).parse_next(input)?;
    let negated = opt(("not", space1)).parse_next(input)?.is_some();
    ("reach", space1).context(expected("reach, or not reach")).parse_next(input)?;
    let to = receiver.parse_next(input)?;
    let (protocol, port) = target.parse_next(input)?;
    let expected = if negated { Action::Deny } else { Action::Allow };
    Ok(Expectation { from, expected, to, protocol, port })
}

fn who(text: &str) -> Result<Who, SyntaxError> {
    let text = text.trim();
    let is_selector = text.contains(['=', '!', '(', ',']);
    match text.parse() {
        Ok(address) => Ok(Who::Address(address)),
        Err(_) if is_selector => text.parse().map(Who::Peers),
        Err(_) => Ok(Who::Named(text.to_owned())),
    }
}

/// All up to the port, or to the protocol: an IPv6 address stands in brackets.
fn receiver(input: &mut &str) -> ModalResult<Who> {
    let bracketed = delimited('[', take_until(1.., "]"), ']');
    let end = input.rfind(':').or_else(|| input.rfind("/icmp")).unwrap_or(input.len());
    let plain = take(input[..end].chars().count());
    alt((bracketed, plain))
        .verify(|text: &str| !text.trim().is_empty())
        .try_map(who)
        .context(expected(FORM))
        .parse_next(input)
}

fn target(input: &mut &str) -> ModalResult<(Protocol, u16)> {
    let port = || preceded(':', digit1.try_map(str::parse::<u16>));
    let protocol = opt(alt(("/tcp".value(Protocol::Tcp), "/udp".value(Protocol::Udp))));
    let ports = (port(), protocol).map(|(port, protocol)| (protocol.unwrap_or(Protocol::Tcp), port));
    let icmp = "/icmp".value((Protocol::Icmp, 0));
    let target = alt((icmp, ports)).context(expected("a port such as :443 or :53/udp, or /icmp")).parse_next(input)?;
    space0.parse_next(input)?;
    Ok(target)
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = if self.expected == Action::Allow { "may" } else { "may not" };
        write!(f, "expect: {} {may} reach ", self.from)?;
        match (&self.to, self.protocol) {
            (Who::Address(IpAddr::V6(address)), _) => write!(f, "[{address}]")?,
            (to, _) => to.fmt(f)?,
        }
        match self.protocol {
            Protocol::Icmp => f.write_str("/icmp"),
            Protocol::Udp => write!(f, ":{}/udp", self.port),
            Protocol::Tcp | Protocol::Any => write!(f, ":{}", self.port),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peers(selector) => selector.fmt(f),
            Self::Named(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_survives_its_text() {
        for text in [
            "expect: web may reach db:5432",
            "expect: a may not reach b:22",
            "expect: role=web, zone in (a, b) may reach role=db:53/udp",
            "expect: 10.1.0.7 may not reach db/icmp",
            "expect: fd00::1 may reach [fd00::2]:443",
        ] {
            assert_eq!(text.parse::<Expectation>().unwrap_or_else(|error| panic!("{text}: {error}")).to_string(), text);
        }
        let short = "a may reach b:443/tcp".parse::<Expectation>().unwrap();
        assert_eq!(short.to_string(), "expect: a may reach b:443");
    }

    #[test]
    fn what_is_no_test_is_told_with_its_place() {
        for (text, place) in [
            ("a reaches b:1", "at character 1,"),
            ("a may see b:1", "at character 7,"),
            ("a may reach b", "at character 14,"),
            ("a may reach b:99999", "at character 1"),
            ("a may reach b:1/sctp", "at character 16,"),
            ("a= may reach b:x", "at character 1"),
        ] {
            let error = text.parse::<Expectation>().map_err(|error| error.to_string()).expect_err(text);
            assert!(error.contains(place) && error.contains("expected"), "{text}: {error}");
        }
    }
}
