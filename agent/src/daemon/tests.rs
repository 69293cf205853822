use std::{fs, net::SocketAddr, time::Duration};

use cladnet_model::{
    CloudLocation, DesiredState, EncryptionPolicy, Located, LocationSource, PeerState,
    tariff::{Book, Document},
};
use cladnet_proto::cladnet::v1::{
    AdvertisedPrefix, AgentEndpoint, AgentLocation, MembershipEnded, Rule, RuleDocument, Welcome,
};
use cladnet_tunnel::{Action, PrivateKey, PublicKey};
use ipnet::IpNet;
use prost::Message as _;
use zeroize::Zeroizing;

use super::membership::{Membership, Target};
use crate::{
    configuration::{
        Refusal,
        testing::{Service, host, network, peer},
    },
    device::InterfaceConfig,
    facts::{Facts, Observed},
    netlink::DefaultInterface,
    state::{Identity, MembershipRecord, StateDir},
};

use super::core::Core;

fn record() -> MembershipRecord {
    MembershipRecord {
        network: network(),
        private_key: PrivateKey::from_bytes([9; 32]),
        interface: "cbnet0".into(),
        wish: DesiredState::Up,
        left: false,
        snapshot: Vec::new(),
    }
}

fn member_of(service: &Service) -> Membership {
    Membership::new(record(), Some(service.taken()), Book::shipped())
}

fn facts(mtu: u32) -> Facts {
    let underlay = DefaultInterface {
        name: "ens5".into(),
        index: 2,
        mtu,
        gateway: None,
        addresses: vec!["10.0.1.4/24".parse().expect("address")],
    };
    Facts { port: 8055, underlay: Some(underlay), ..Facts::default() }
}

fn up(membership: &Membership, facts: &Facts) -> InterfaceConfig {
    match membership.target(facts) {
        Target::Up(config) => *config,
        Target::Down(state, reason) => panic!("up, not {state}: {reason}"),
    }
}

fn down(membership: &Membership) -> (PeerState, &'static str) {
    match membership.target(&Facts::default()) {
        Target::Down(state, reason) => (state, reason),
        Target::Up(config) => panic!("down, not {config:?}"),
    }
}

#[test]
fn an_interface_is_up_only_if_everybody_wants_it_and_it_has_an_address() {
    let service = Service::new().with([1]);
    assert_eq!(down(&Membership::new(record(), None, Book::shipped())).0, PeerState::Configuring);

    let mut without_address = service.clone();
    without_address.membership.ipv4_address = String::new();
    assert_eq!(down(&member_of(&without_address)), (PeerState::Configuring, "waiting for an address"));

    let mut downed_by_admin = service.clone();
    downed_by_admin.membership.desired_state = "down".into();
    assert_eq!(down(&member_of(&downed_by_admin)), (PeerState::Released, "taken down by an admin"));

    let mut downed_here = member_of(&service);
    downed_here.record.wish = DesiredState::Down;
    assert_eq!(down(&downed_here), (PeerState::Released, "taken down on this machine"));

    let config = up(&member_of(&service), &facts(1500));
    assert_eq!((config.name.as_str(), config.address.to_string().as_str()), ("cbnet0", "10.77.0.1/16"));
    assert_eq!(config.peers.len(), 1);
    assert_eq!(config.peers[0].allowed_ips, ["10.77.1.1/32".parse().expect("prefix")]);
}

#[test]
fn peers_that_are_down_are_not_talked_to() {
    let mut service = Service::new().with([1, 2]);
    service.peers.get_mut("host-2").expect("is there").desired_state = "down".into();
    assert_eq!(up(&member_of(&service), &facts(1500)).peers.len(), 1);
}

#[test]
fn a_subnet_behind_a_peer_is_one_of_its_allowed_ips_once_it_is_accepted() {
    let mut membership = member_of(&Service::new().with([1, 2]));
    let subnet: IpNet = "10.1.0.0/16".parse().expect("prefix");
    membership.subnets.by_host.insert("host-2".parse().expect("id"), vec![subnet]);
    let config = up(&membership, &facts(1500));
    assert_eq!(config.subnets, [subnet]);
    let allowed: Vec<_> = config.peers.iter().map(|peer| peer.allowed_ips.len()).collect();
    assert_eq!(allowed, [1, 2]);
    assert_eq!(config.peers[1].allowed_ips[1], subnet);
}

#[test]
fn a_host_lets_in_what_is_for_itself_or_for_a_subnet_that_it_stands_before() {
    let mut service = Service::new().with([1]);
    let access = |service: &Service| up(&member_of(service), &facts(1500)).access.expect("a filter");
    let own: Vec<IpNet> = vec!["10.77.0.1/32".parse().expect("prefix")];
    assert_eq!((&access(&service).rules[0].destinations, access(&service).default), (&own, Action::Deny));
    let advertised = AdvertisedPrefix { prefix: "10.1.0.0/16".into(), snat: true, ..AdvertisedPrefix::default() };
    service.membership.advertised = vec![advertised];
    let access = access(&service);
    let destinations: Vec<_> = access.rules[0].destinations.iter().map(ToString::to_string).collect();
    assert_eq!((destinations, access.default), (vec!["10.77.0.1/32".into(), "10.1.0.0/16".into()], Action::Deny));
}

#[test]
fn keepalives_are_sent_from_behind_a_nat_only() {
    let membership = member_of(&Service::new().with([1]));
    let seen_as = |address: &str| {
        let observed = Observed::only(address.parse().expect("address"));
        up(&membership, &Facts { observed, ..facts(1500) }).peers[0].persistent_keepalive
    };
    assert_eq!(seen_as("10.0.1.4:8055"), None);
    assert_eq!(seen_as("203.0.113.9:8055"), Some(Duration::from_secs(25)));
    assert_eq!(up(&membership, &facts(1500)).peers[0].persistent_keepalive, None, "nobody has seen us yet");
}

#[test]
fn the_mtu_follows_a_smaller_way_out_and_no_larger_one() {
    let membership = member_of(&Service::new());
    for (carried, expected) in [(1500, 1420), (9001, 1420), (1460, 1380), (1300, 1280)] {
        assert_eq!(up(&membership, &facts(carried)).mtu, expected, "{carried}");
    }
}

#[test]
fn a_peer_in_our_vpc_is_reached_at_its_private_address_and_others_at_the_public_one() {
    let at = |vpc: &str| {
        let located = |value: &str| Some(Located { value: value.into(), source: LocationSource::Metadata });
        let location = CloudLocation {
            provider: located("aws"),
            region: located("ap-northeast-2"),
            vpc: located(vpc),
            ..CloudLocation::default()
        };
        Some(AgentLocation::from(&location))
    };
    let mut service = Service::new();
    service.membership.location = at("vpc-1");
    for (number, vpc) in [(1, "vpc-1"), (2, "vpc-2")] {
        let mut peer = peer(number, 1);
        peer.location = at(vpc);
        let private = AgentEndpoint {
            address: format!("10.0.2.{number}:8055"),
            scope: "private".into(),
            source: "interface".into(),
        };
        peer.endpoints.push(private);
        service.peers.insert(peer.host_id.clone(), peer);
    }
    let endpoints: Vec<_> = up(&member_of(&service), &facts(1500)).peers.iter().map(|peer| peer.endpoint).collect();
    let address = |text: &str| Some(text.parse::<SocketAddr>().expect("address"));
    assert_eq!(endpoints, [address("10.0.2.1:8055"), address("203.0.113.2:1001")]);
}

#[test]
fn only_private_addresses_inside_our_vpc_are_trusted_whatever_a_peer_calls_its_own() {
    let located = |value: &str| Some(Located { value: value.into(), source: LocationSource::Metadata });
    let location = CloudLocation {
        provider: located("aws"),
        region: located("ap-northeast-2"),
        vpc: located("vpc-1"),
        ..CloudLocation::default()
    };
    let mut service = Service::new();
    service.membership.encryption_policy = "public".into();
    service.membership.location = Some(AgentLocation::from(&location));
    let mut peer = peer(1, 1);
    peer.location = Some(AgentLocation::from(&location));
    peer.endpoints = ["10.0.2.1:8055", "198.51.100.7:8055"]
        .map(|address| AgentEndpoint { address: address.into(), scope: "private".into(), source: "interface".into() })
        .into();
    service.peers.insert(peer.host_id.clone(), peer);
    let trusted = &up(&member_of(&service), &facts(1500)).peers[0].trusted_endpoints;
    assert_eq!(*trusted, ["10.0.2.1:8055".parse().expect("address")]);
}

#[test]
fn path_rules_override_the_network_for_the_pairs_that_they_mean_and_labels_say_which() {
    let rule = Rule {
        id: Some("inside".into()),
        kind: "path".into(),
        from: Some("cladnet/host=host-us".into()),
        to: Some("role=db".into()),
        forbid: vec!["public".into()],
        encryption: Some("public".into()),
        ..Rule::default()
    };
    let mut service = Service::new().with([1, 2]);
    let ours = [("cladnet/host".to_owned(), "host-us".to_owned())];
    service.membership.labels = ours.into();
    service.membership.rules = Some(RuleDocument { rules: vec![rule], ..RuleDocument::default() });
    let mut labelled = service.clone();
    labelled.peers.get_mut("host-2").expect("is there").labels = [("role".into(), "db".into())].into();
    labelled.revision += 1;

    let mut membership = member_of(&service);
    let ends = |membership: &Membership| {
        up(membership, &facts(1500)).peers.iter().map(|peer| peer.endpoint.is_some()).collect::<Vec<_>>()
    };
    assert_eq!(ends(&membership), [true, true]);
    membership.configuration.as_mut().expect("is there").apply(labelled.delta_from(&service)).expect("adds up");
    assert_eq!(ends(&membership), [true, false], "its only endpoint is public");

    let pairs = membership.pairs(&facts(1500));
    let limits = |host| &pairs[&PublicKey::from_bytes([host; 32])].policy.limits;
    assert_eq!((limits(1).forbid.len(), limits(2).forbid.len()), (0, 1));
    let configuration = membership.configuration.as_ref().expect("is there");
    let policies = configuration.remotes().values().map(|remote| configuration.policy_to(remote).encryption.policy);
    assert_eq!(policies.collect::<Vec<_>>(), [EncryptionPolicy::Always, EncryptionPolicy::Public]);
}

#[test]
fn a_membership_that_was_never_confirmed_outlives_an_answer_without_it() {
    assert!(!Membership::new(record(), None, Book::shipped()).is_confirmed());
    assert!(member_of(&Service::new()).is_confirmed());
}

#[test]
fn what_cannot_be_read_is_that_networks_problem_until_it_can_be() {
    let (_dir, state) = saved("machine-1");
    let mut core = Core::load(&state, "machine-1");
    let good = Service::new().with([1, 2]);
    let mut unreadable = good.clone();
    unreadable.membership.desired_state = "hibernating".into();
    unreadable.revision += 1;
    assert_eq!(core.take_snapshot(unreadable.snapshot()), Ok(Some(network())), "the stream goes on");
    let membership = &core.memberships[&network()];
    assert!(membership.resync && membership.configuration.is_some(), "the one before stays");
    assert!(core.problems.values().any(|p| p.contains("desired_state") && p.contains("prod")), "{:?}", core.problems);

    let mut later = unreadable.clone();
    later.put(3, 1);
    later.revision += 1;
    assert_eq!(core.take_delta(later.delta_from(&unreadable)), Ok(None), "no help, no reason to ask again");
    let mut mended = later.clone();
    mended.membership.desired_state = "down".into();
    assert_eq!(core.take_delta(mended.delta_from(&later)), Err(Refusal::NoBase), "worth a fresh snapshot");
    assert_eq!(core.take_snapshot(mended.snapshot()), Ok(Some(network())));
    assert!(core.problems.is_empty() && !core.memberships[&network()].resync);
}

#[test]
fn an_end_is_of_the_membership_with_its_key_only() {
    let (_dir, state) = saved("machine-1");
    let mut core = Core::load(&state, "machine-1");
    let end_of = |key: &[u8]| MembershipEnded {
        network_id: network().to_string(),
        public_key: key.to_vec(),
        ..MembershipEnded::default()
    };
    let ours = record().public_key().0;
    assert_eq!(core.ended_by(&end_of(&[7; 32])), None, "it was joined anew meanwhile");
    assert_eq!(core.ended_by(&end_of(&ours)), Some(network()));
    assert_eq!(core.ended_by(&end_of(&[])), Some(network()), "an older service");
    core.memberships.insert(network(), Membership::new(record(), None, Book::shipped()));
    assert_eq!(core.ended_by(&end_of(&[])), None, "an older service, and a membership made a moment ago");
    assert_eq!(core.ended_by(&end_of(&ours)), Some(network()));
}

#[test]
fn a_welcome_ends_what_it_leaves_out_only_if_it_tells_all() {
    let (_dir, state) = saved("machine-1");
    let core = Core::load(&state, "machine-1");
    let welcome = |complete, ids: &[&str]| Welcome {
        complete,
        network_ids: ids.iter().map(ToString::to_string).collect(),
        ..Welcome::default()
    };
    assert!(core.missing_in(&welcome(false, &[])).is_empty());
    assert!(core.missing_in(&welcome(true, &["prod"])).is_empty());
    assert_eq!(core.missing_in(&welcome(true, &["other"])), [network()]);
}

#[test]
fn a_snapshot_that_does_not_add_up_is_asked_for_again() {
    let (_dir, state) = saved("machine-1");
    let mut core = Core::load(&state, "machine-1");
    let mut snapshot = Service::new().with([1, 2]).snapshot();
    snapshot.digest[0] ^= 1;
    assert_eq!(core.take_snapshot(snapshot), Err(Refusal::Digest));
    assert!(core.memberships[&network()].resync);
}

fn saved(machine_id: &str) -> (tempfile::TempDir, StateDir) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let state = StateDir::open(dir.path()).expect("open");
    let identity = Identity {
        host: host(),
        machine_id: machine_id.into(),
        services: vec!["https://192.0.2.1:8053".into()],
        authority: String::new(),
        authority_hash: String::new(),
        certificate: String::new(),
        key: Zeroizing::new(String::new()),
    };
    state.save_identity(&identity).expect("save");
    let snapshot = Service::new().with([1, 2]).snapshot().encode_to_vec();
    state.save_membership(&MembershipRecord { snapshot, ..record() }).expect("save");
    (dir, state)
}

#[test]
fn the_last_configuration_is_there_after_a_restart() {
    let (_dir, state) = saved("machine-1");
    let core = Core::load(&state, "machine-1");
    assert_eq!(core.services().len(), 1);
    let configuration = core.memberships[&network()].configuration.as_ref().expect("is there");
    assert_eq!(configuration.remotes().len(), 2);
}

#[test]
fn the_last_prices_are_there_after_a_restart_and_the_shipped_ones_without_them() {
    let (_dir, state) = saved("machine-1");
    assert_eq!(*Core::load(&state, "machine-1").book, *Book::shipped());
    let (document, _) = Document::parse("suggested_defaults = true").expect("parses");
    let book = Book::effective(None, Some(&document));
    assert_ne!(book, *Book::shipped());
    state.save_tariff_book(&book).expect("save");
    assert_eq!(*Core::load(&state, "machine-1").book, book);
    fs::write(state.path().join("tariffs.json"), "{").expect("write");
    assert_eq!(*Core::load(&state, "machine-1").book, *Book::shipped(), "what cannot be read stops nothing");
}

#[test]
fn a_network_that_was_left_unheard_is_no_membership_after_a_restart() {
    let (_dir, state) = saved("machine-1");
    state.save_membership(&MembershipRecord { left: true, ..record() }).expect("save");
    let core = Core::load(&state, "machine-1");
    assert!(core.memberships.is_empty());
    assert!(core.leaving.contains_key(&network()));
}

#[test]
fn a_copied_disk_is_no_host_and_raises_nothing() {
    let (_dir, state) = saved("machine-1");
    let core = Core::load(&state, "machine-2");
    assert!(core.identity.is_none() && core.memberships.is_empty());
    let blocked = core.blocked.expect("says why");
    assert!(blocked.contains("this disk is a copy") && blocked.contains("leave --all"), "{blocked}");
}

#[test]
fn a_bad_identity_blocks_with_the_files_name_and_a_bad_membership_only_itself() {
    let (dir, state) = saved("machine-1");
    fs::write(dir.path().join("networks/prod.json"), "oops").expect("damage");
    let core = Core::load(&state, "machine-1");
    assert!(core.identity.is_some() && core.blocked.is_none());
    assert!(core.problems.values().any(|problem| problem.contains("prod.json")), "{:?}", core.problems);
    assert!(core.has_lost(&network()), "it can be left");

    fs::write(dir.path().join("identity.json"), "oops").expect("damage");
    let core = Core::load(&state, "machine-1");
    assert!(core.blocked.expect("says why").contains("identity.json"));
}

#[test]
fn a_configuration_that_does_not_add_up_is_asked_for_anew_and_the_key_kept() {
    let (_dir, state) = saved("machine-1");
    let mut snapshot = Service::new().with([1, 2]).snapshot();
    snapshot.digest[0] ^= 1;
    state.save_membership(&MembershipRecord { snapshot: snapshot.encode_to_vec(), ..record() }).expect("save");
    let core = Core::load(&state, "machine-1");
    let membership = &core.memberships[&network()];
    assert!(membership.configuration.is_none());
    assert_eq!(membership.record.public_key(), record().public_key());
}
