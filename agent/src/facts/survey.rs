//! Asking STUN servers from the tunnel's own socket how they see us. Pure: what to send and what an answer means.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use cladnet_stun::TransactionId;
use serde::Serialize;

/// Requests whose answer is still welcome; older ones are forgotten.
const MAX_OUTSTANDING: usize = 32;
/// Three rounds at the slowest: who answered none of them, while another did, sees us no more.
const FRESH: Duration = Duration::from_secs(12);

/// Addresses seen from outside, by the server that saw them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    by_server: BTreeMap<SocketAddr, SocketAddr>,
}

/// What stands between us and the servers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Nat {
    /// Nobody has answered yet.
    #[default]
    Unknown,
    /// They see the address that we have.
    None,
    /// They see another address, with our own port: 1:1, as clouds do.
    PortPreserving,
    /// They see another address and another port, all the same.
    PortTranslating,
    /// Every server sees something else: nobody can reach us first.
    Symmetric,
}

impl Observed {
    /// What the servers saw, IPv4 first, each once.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.by_server.values().copied().collect();
        addresses.sort_by_key(|address| (address.is_ipv6(), *address));
        addresses.dedup();
        addresses
    }

    /// The addresses that we had when `before` was seen, and have no more: the same server sees another one.
    pub(crate) fn left_since(&self, before: &Self) -> Vec<IpAddr> {
        let now = |server: &SocketAddr| self.by_server.get(server).map(SocketAddr::ip);
        let moved = before.by_server.iter().filter(|(server, was)| now(server).is_some_and(|is| is != was.ip()));
        moved.map(|(_, was)| was.ip()).collect()
    }

    /// How many addresses of servers see our IPv4 address.
    pub(crate) fn ipv4_servers(&self) -> usize {
        let servers = self.by_server.iter().filter(|(_, seen)| seen.is_ipv4()).map(|(server, _)| server.ip());
        servers.collect::<BTreeSet<_>>().len()
    }

    /// What stands between `local` addresses (with the tunnel's port `port`) and the world, for IPv4: IPv6 is not
    /// translated.
    pub(crate) fn nat(&self, local: &[IpAddr], port: u16) -> Nat {
        let seen: Vec<_> = self.addresses().into_iter().filter(SocketAddr::is_ipv4).collect();
        match seen.as_slice() {
            [] => Nat::Unknown,
            [address] if local.contains(&address.ip()) && address.port() == port => Nat::None,
            [address] if address.port() == port => Nat::PortPreserving,
            [_] => Nat::PortTranslating,
            _ => Nat::Symmetric,
        }
    }

    #[cfg(test)]
    pub(crate) fn only(address: SocketAddr) -> Self {
        Self::by_servers([address])
    }

    /// One server after the other saw these.
    #[cfg(test)]
    pub(crate) fn by_servers(seen: impl IntoIterator<Item = SocketAddr>) -> Self {
        let server = |number| SocketAddr::new(IpAddr::from([192, 0, 2, number]), 8053);
        Self { by_server: (1..).map(server).zip(seen).collect() }
    }
}

impl Nat {
    /// Whether a mapping must be kept open by sending.
    pub(crate) fn translates(self) -> bool {
        matches!(self, Self::PortPreserving | Self::PortTranslating | Self::Symmetric)
    }
}

/// Requests on their way, and what came of those before.
#[derive(Debug, Default)]
pub(super) struct Survey {
    servers: Vec<SocketAddr>,
    outstanding: VecDeque<(TransactionId, SocketAddr)>,
    observed: Observed,
    /// When each server answered last.
    answered: BTreeMap<SocketAddr, Instant>,
}

impl Survey {
    /// Who is asked from now on; what others saw is forgotten.
    pub(super) fn set_servers(&mut self, servers: Vec<SocketAddr>) {
        self.observed.by_server.retain(|server, _| servers.contains(server));
        self.answered.retain(|server, _| servers.contains(server));
        self.servers = servers;
    }

    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }

    pub(super) fn observed(&self) -> &Observed {
        &self.observed
    }

    /// The request for `server`; its answer is expected from now on.
    pub(super) fn request(&mut self, server: SocketAddr, transaction_id: TransactionId) -> Vec<u8> {
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((transaction_id, server));
        cladnet_stun::binding_request(transaction_id)
    }

    /// Takes an answer; true if it says something new. An answer to nothing we asked is nobody's. Each answer shows
    /// that the way out works, and so ends what silent servers saw: it would be told for ever.
    pub(super) fn answer(&mut self, now: Instant, from: SocketAddr, message: &[u8]) -> bool {
        let Some((transaction_id, address)) = cladnet_stun::parse_response(message) else { return false };
        let expected = |(id, server): &(TransactionId, SocketAddr)| *id == transaction_id && *server == from;
        let Some(place) = self.outstanding.iter().position(expected) else { return false };
        self.outstanding.remove(place);
        let before = self.observed.clone();
        self.answered.insert(from, now);
        self.observed.by_server.insert(from, address);
        let answered = &self.answered;
        let fresh = |server: &SocketAddr| answered.get(server).is_some_and(|at| now.duration_since(*at) <= FRESH);
        self.observed.by_server.retain(|server, _| fresh(server));
        self.observed != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("address")
    }

    fn ask(survey: &mut Survey, server: &str, id: u8, seen_as: &str) -> bool {
        ask_at(survey, Instant::now(), server, id, seen_as)
    }

    fn ask_at(survey: &mut Survey, now: Instant, server: &str, id: u8, seen_as: &str) -> bool {
        let request = survey.request(address(server), [id; 12]);
        let answer = cladnet_stun::answer(&request, address(seen_as)).expect("answer");
        survey.answer(now, address(server), &answer)
    }

    fn survey() -> Survey {
        let mut survey = Survey::default();
        survey.set_servers(vec![address("192.0.2.1:8053"), address("192.0.2.2:8053")]);
        survey
    }

    #[test]
    fn an_answer_is_news_once() {
        let mut survey = survey();
        assert!(ask(&mut survey, "192.0.2.1:8053", 1, "203.0.113.1:8055"));
        assert!(!ask(&mut survey, "192.0.2.1:8053", 2, "203.0.113.1:8055"));
        assert!(ask(&mut survey, "192.0.2.1:8053", 3, "203.0.113.2:8055"), "another address");
        assert_eq!(survey.observed().addresses(), [address("203.0.113.2:8055")]);
    }

    #[test]
    fn an_answer_to_nothing_or_from_elsewhere_is_ignored() {
        let mut survey = survey();
        let request = survey.request(address("192.0.2.1:8053"), [1; 12]);
        let answer = cladnet_stun::answer(&request, address("203.0.113.1:8055")).expect("answer");
        let now = Instant::now();
        assert!(!survey.answer(now, address("192.0.2.9:8053"), &answer), "another server");
        assert!(!Survey::default().answer(now, address("192.0.2.1:8053"), &answer), "nothing was asked");
        assert!(survey.answer(now, address("192.0.2.1:8053"), &answer));
        assert!(!survey.answer(now, address("192.0.2.1:8053"), &answer), "a second time");
    }

    #[test]
    fn what_a_server_saw_just_before_it_died_ends_too_of_either_family() {
        let (mut survey, start) = (survey(), Instant::now());
        survey.set_servers(vec![address("192.0.2.1:8053"), address("192.0.2.2:8053"), address("[2001:db8::1]:8053")]);
        ask_at(&mut survey, start, "192.0.2.2:8053", 1, "203.0.113.1:8055");
        ask_at(&mut survey, start, "[2001:db8::1]:8053", 2, "[2001:db8::9]:8055");
        let second = Duration::from_secs(1);
        assert!(ask_at(&mut survey, start + second, "192.0.2.1:8053", 3, "203.0.113.9:8055"), "moved");
        assert!(!ask_at(&mut survey, start + 4 * second, "192.0.2.1:8053", 4, "203.0.113.9:8055"), "one lost round");
        assert!(ask_at(&mut survey, start + 20 * second, "192.0.2.1:8053", 5, "203.0.113.9:8055"), "forgotten");
        assert_eq!(survey.observed().addresses(), [address("203.0.113.9:8055")]);
    }

    #[test]
    fn a_new_address_ends_what_a_dead_server_saw() {
        let (mut survey, start) = (survey(), Instant::now());
        ask_at(&mut survey, start, "192.0.2.1:8053", 1, "203.0.113.1:8055");
        ask_at(&mut survey, start, "192.0.2.2:8053", 2, "203.0.113.1:8055");
        ask_at(&mut survey, start + Duration::from_secs(60), "192.0.2.1:8053", 3, "203.0.113.9:8055");
        assert_eq!(survey.observed().addresses(), [address("203.0.113.9:8055")]);
    }

    #[test]
    fn an_address_is_left_when_the_server_that_saw_it_sees_another() {
        let (mut survey, start) = (survey(), Instant::now());
        ask_at(&mut survey, start, "192.0.2.1:8053", 1, "203.0.113.1:8055");
        ask_at(&mut survey, start, "192.0.2.2:8053", 2, "10.0.0.4:8055");
        let before = survey.observed().clone();
        assert_eq!(before.left_since(&Observed::default()), <[IpAddr; 0]>::default());
        let later = start + Duration::from_secs(20);
        ask_at(&mut survey, later, "192.0.2.1:8053", 3, "203.0.113.9:8055");
        assert_eq!(survey.observed().addresses(), [address("203.0.113.9:8055")], "the other one is silent");
        assert_eq!(survey.observed().left_since(&before), [address("203.0.113.1:1").ip()]);
    }

    #[test]
    fn kinds_of_nat() {
        let local = ["10.0.0.4".parse().expect("address")];
        let mut survey = survey();
        assert_eq!(survey.observed().nat(&local, 8055), Nat::Unknown);
        ask(&mut survey, "192.0.2.1:8053", 1, "10.0.0.4:8055");
        assert_eq!(survey.observed().nat(&local, 8055), Nat::None);
        ask(&mut survey, "192.0.2.1:8053", 2, "203.0.113.1:8055");
        assert_eq!(survey.observed().nat(&local, 8055), Nat::PortPreserving);
        ask(&mut survey, "192.0.2.1:8053", 3, "203.0.113.1:40000");
        assert_eq!(survey.observed().nat(&local, 8055), Nat::PortTranslating);
        ask(&mut survey, "192.0.2.2:8053", 4, "203.0.113.1:40001");
        assert_eq!(survey.observed().nat(&local, 8055), Nat::Symmetric);
        survey.set_servers(vec![address("192.0.2.2:8053")]);
        assert_eq!(survey.observed().nat(&local, 8055), Nat::PortTranslating);
    }
}
