//! The advisor against one that looks at every block there is, and the questions its ancestor answered wrongly.

use proptest::{collection::vec, prelude::*};

use super::{
    search::{Found, MAX_DOUBLINGS, Merit, Search, Seed},
    *,
};
use crate::{CloudLocation, HostFacts};

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn avoid(texts: &[&str]) -> Vec<Avoid> {
    texts.iter().map(|text| parse_avoid(text).unwrap().unwrap()).collect()
}

fn question(hosts: u32, avoid: &[Avoid]) -> Question<'_> {
    Question { hosts, avoid, limit: 5, ..Question::default() }
}

fn assert_clear(advice: &Advice, avoid: &[Avoid]) {
    for (index, proposal) in advice.proposals.iter().enumerate() {
        let space = proposal.space;
        assert_eq!(space::parse(&space.to_string()), Ok(space));
        assert!(avoid.iter().all(|avoid| !space::overlap(avoid.range, space)), "{space} overlaps");
        let others = &advice.proposals[index + 1..];
        assert!(others.iter().all(|other| !space::overlap(other.space, space)), "{space} is proposed twice");
    }
}

#[test]
fn without_anything_in_sight_the_best_are_clean_and_roomy() {
    let advice = advise(&question(250, &[]));
    assert_eq!(advice.proposals.len(), 5);
    assert_eq!(advice.message, "sized /23 for 500 hosts: 250 wanted, the rest to grow");
    for proposal in &advice.proposals {
        assert_eq!((proposal.space.prefix_len(), proposal.capacity), (23, 510));
        assert!(proposal.soft_conflicts.is_empty() && proposal.reason.contains("can double 4 times"), "{proposal:?}");
        assert!(!proposal.reason.contains("lies where many are"), "{proposal:?}");
    }
    assert_eq!(advice, advise(&question(250, &[])), "equal questions have equal answers");
    assert_eq!(advise(&Question::default()).proposals.len(), DEFAULT_LIMIT);
}

#[test]
fn subnets_behind_peers_are_clear_of_whatever_is_proposed() {
    let rules: RuleSet = serde_json::from_value(serde_json::json!({"rules": [
        {"id": "a", "kind": "advertise", "prefix": "10.0.0.0/8", "via": "role=gateway"},
        {"id": "b", "kind": "advertise", "prefix": "192.168.0.0/16", "mapped": "172.16.0.0/16", "via": "role=gateway"},
        {"id": "c", "kind": "advertise", "prefix": "172.17.0.0/16", "via": "role=gateway", "enabled": false},
    ]}))
    .unwrap();
    let avoid: Vec<Avoid> = Avoid::of_rules(&"prod".parse().unwrap(), &rules).collect();
    let ranges: Vec<String> = avoid.iter().map(|avoid| avoid.range.to_string()).collect();
    assert_eq!(ranges, ["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/16"]);
    assert_eq!(avoid[0].to_string(), "10.0.0.0/8 (subnet behind a peer of network prod)");
    assert_clear(&advise(&question(250, &avoid)), &avoid);

    for length in [13, 16, 24, 32] {
        let found = stand_in(length, &question(0, &avoid)).unwrap_or_else(|| panic!("no /{length}"));
        assert_eq!(found.prefix_len(), length);
        assert!(avoid.iter().all(|avoid| !space::overlap(avoid.range, found)), "{found}");
    }
    assert_eq!([8, 12].map(|length| stand_in(length, &question(0, &avoid))), [None, None]);
}

#[test]
fn two_installations_do_not_choose_the_same() {
    let of = |salt| advise(&Question { salt, ..question(250, &[]) }).proposals[0].space;
    assert_ne!(of("epoch-1"), of("epoch-2"));
}

#[test]
fn headroom_is_twice_the_hosts_and_sixteen_at_least() {
    assert_eq!([0, 1, 16, 17, 250].map(needed), [16, 17, 32, 34, 500]);
    let prefix = |hosts| advise(&question(hosts, &[])).proposals[0].space.prefix_len();
    assert_eq!([1, 7, 14, 15, 250, 0, 8_388_607].map(prefix), [27, 27, 27, 26, 23, 23, 8]);
}

#[test]
fn what_is_too_large_for_any_block_is_told() {
    let advice = advise(&question(8_388_608, &[]));
    assert_eq!(advice.proposals, []);
    assert_eq!(
        advice.message,
        "no private range has room for 16777216 hosts (8388608 wanted, the rest to grow); the largest, 10.0.0.0/8, has room \
         for 16777214"
    );
    assert!(advise(&question(u32::MAX, &[])).proposals.is_empty());
}

#[test]
fn when_only_defaults_of_software_are_left_they_are_proposed_with_a_warning() {
    let avoid = avoid(&["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/16"]);
    let advice = advise(&question(250, &avoid));
    assert_clear(&advice, &avoid);
    assert!(advice.proposals.iter().all(|proposal| !proposal.soft_conflicts.is_empty()));
    assert!(advice.proposals[0].reason.contains("may meet"), "{}", advice.proposals[0].reason);
}

#[test]
fn what_would_still_fit_is_told() {
    let avoid = avoid(&[
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/17",
        "192.168.128.0/18",
        "192.168.192.0/19",
        "192.168.240.0/20",
        "192.168.224.0/21",
        "192.168.232.0/22",
        "192.168.238.0/23",
        "192.168.237.0/24",
    ]);
    assert_eq!(
        advise(&question(250, &avoid)).message,
        "no /23 is left for 500 hosts (250 wanted, the rest to grow); the largest free range is 192.168.236.0/24, with room \
         for 254: the 250 wanted, with less to grow"
    );
    assert!(advise(&question(255, &avoid)).message.ends_with("with room for 254"));
}

#[test]
fn providers_keep_their_ranges() {
    let providers: BTreeSet<String> = ["aws", "alibaba", "elsewhere"].map(str::to_owned).into();
    let avoid =
        avoid(&["10.0.0.0/8", "172.16.0.0/16", "172.18.0.0/15", "172.20.0.0/14", "172.24.0.0/13", "192.168.0.0/16"]);
    assert_eq!(advise(&question(10, &avoid)).proposals.len(), 5, "172.17.0.0/16 is left");
    let question = Question { providers, ..question(10, &avoid) };
    assert_eq!(advise(&question).proposals, []);
    let reserved: Vec<String> = taken(&question).iter().map(ToString::to_string).filter(|a| a.contains('(')).collect();
    assert_eq!(
        reserved,
        [
            "100.64.0.0/10 (Alibaba's own services)",
            "169.254.0.0/16 (link-local addresses)",
            "172.17.0.0/16 (AWS Cloud9 and SageMaker)",
        ]
    );
}

#[test]
fn routes_are_avoided_but_not_default_routes() {
    let routes = ["0.0.0.0/0", "128.0.0.0/1", "10.0.0.0/9", "fd00::/8"].map(|text| text.parse().unwrap());
    let avoid: Vec<Avoid> = Avoid::host_routes("vm-1", &routes).collect();
    assert_eq!(avoid.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/9 (route of vm-1)"]);
    let advice = advise(&question(5000, &avoid));
    assert!(!advice.proposals.is_empty());
    assert_clear(&advice, &avoid);
}

#[test]
fn a_host_needs_its_subnet_and_its_routes() {
    let facts = HostFacts {
        name: "vm-1".to_owned(),
        private_address: Some("10.3.4.5/20".parse().unwrap()),
        routes: vec!["0.0.0.0/0".parse().unwrap(), "10.9.0.0/16".parse().unwrap()],
        ..HostFacts::default()
    };
    let host = Host {
        id: "host-1".parse().unwrap(),
        facts,
        injected: CloudLocation::default(),
        identity: String::new(),
        enrolled_at: jiff::Timestamp::UNIX_EPOCH,
    };
    let needed: Vec<String> = Avoid::of_host(&host).map(|avoid| avoid.to_string()).collect();
    assert_eq!(needed, ["10.9.0.0/16 (route of vm-1)", "10.3.0.0/20 (subnet of vm-1)"]);
}

#[test]
fn ranges_to_avoid_are_read_generously_and_nonsense_is_told() {
    let read = |text| parse_avoid(text).map(|avoid| avoid.map(|avoid| avoid.range.to_string()));
    assert_eq!(read("10.0.7.9/16"), Ok(Some("10.0.0.0/16".to_owned())));
    assert_eq!(read(" 10.0.7.9\n"), Ok(Some("10.0.7.9/32".to_owned())));
    assert_eq!(read("fd00::/8"), Ok(None));
    assert_eq!(
        read("10.0.0.0/33").unwrap_err().to_string(),
        "is \"10.0.0.0/33\", which is neither a CIDR nor an address; use one such as 10.0.0.0/16"
    );
}

#[test]
fn each_block_is_answered_by_itself() {
    let avoid = avoid(&["172.16.0.0/12"]);
    let [tens, seventeens, nineteens] = advise_per_block(&question(5, &avoid));
    assert!(tens.proposals.iter().all(|proposal| net("10.0.0.0/8").contains(&proposal.space)));
    assert!(nineteens.proposals.iter().all(|proposal| net("192.168.0.0/16").contains(&proposal.space)));
    assert_eq!((tens.proposals.len(), nineteens.proposals.len()), (5, 5));
    assert_eq!(seventeens.proposals, []);
    assert_eq!(seventeens.message, "nothing is left of 172.16.0.0/12: taken by 172.16.0.0/12");
}

// What the ancestor answered wrongly: it marked the prefix length of each input as used and looked at no address.

#[test]
fn ancestor_proposed_a_part_of_the_only_input() {
    for input in ["192.168.0.0/24", "192.168.0.0/16"] {
        let avoid = avoid(&[input]);
        for advice in advise_per_block(&question(4, &avoid)) {
            assert_clear(&advice, &avoid);
        }
        assert!(!advise(&question(4, &avoid)).proposals.is_empty());
    }
}

#[test]
fn ancestor_proposed_a_space_though_all_three_blocks_were_taken() {
    let avoid = avoid(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]);
    let advice = advise(&question(6, &avoid));
    assert_eq!(advice.proposals, []);
    assert_eq!(
        advice.message,
        "nothing is left of 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16: taken by 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16"
    );
}

#[test]
fn ancestor_overlapped_two_of_254_virtual_networks() {
    let inputs: Vec<String> = (1..=254).map(|third| format!("192.168.{third}.0/24")).collect();
    let avoid = avoid(&inputs.iter().map(String::as_str).collect::<Vec<_>>());
    let advice = advise(&question(257, &avoid));
    assert_eq!(advice.proposals.len(), 5);
    assert_clear(&advice, &avoid);
    let [.., nineteens] = advise_per_block(&question(257, &avoid));
    assert_eq!(nineteens.proposals, []);
    assert!(nineteens.message.contains("the largest free range is 192.168.0.0/24"), "{}", nineteens.message);
}

#[test]
fn ancestor_let_a_172_input_rule_out_its_prefix_length_in_192() {
    let [.., with] = advise_per_block(&question(1, &avoid(&["172.16.0.0/27"])));
    let [.., without] = advise_per_block(&question(1, &[]));
    let prefixes = |advice: &Advice| advice.proposals.iter().map(|p| p.space.prefix_len()).collect::<Vec<_>>();
    assert_eq!(prefixes(&with), [27; 5]);
    assert_eq!(prefixes(&with), prefixes(&without));
}

#[test]
fn ancestor_panicked_on_abc() {
    assert!(parse_avoid("abc").is_err());
}

#[test]
fn ancestor_left_no_room_for_the_next_vm() {
    for hosts in [1, 3, 13, 14, 61, 253, 254] {
        let capacity = advise(&question(hosts, &[])).proposals[0].capacity;
        assert!(u64::from(capacity) >= u64::from(hosts) + 16, "{capacity} for {hosts}");
    }
}

const BLOCK: &str = "10.0.0.0/20";

fn range() -> impl Strategy<Value = Ipv4Net> {
    (0..4096u32, 21..=30u8)
        .prop_map(|(offset, prefix)| Ipv4Net::new((0x0a00_0000 + offset).into(), prefix).unwrap().trunc())
}

/// What speaks for a block, by looking at every range; none if it is not free.
fn merit_of(space: Ipv4Net, hard: &[Ipv4Net], soft: &[Ipv4Net], common: &[Ipv4Net]) -> Option<Merit> {
    let meets = |ranges: &[Ipv4Net], space: Ipv4Net| ranges.iter().any(|range| space::overlap(*range, space));
    let is_free = |space: Ipv4Net| net(BLOCK).contains(&space) && !meets(hard, space);
    let doubled = |times: u8| Ipv4Net::new(space.addr(), space.prefix_len() - times).unwrap().trunc();
    let doublings = (0..=MAX_DOUBLINGS).rev().find(|times| is_free(doubled(*times)))?;
    Some(Merit { soft: meets(soft, space), common: meets(common, space), cramped: MAX_DOUBLINGS - doublings })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_proposal_is_the_best_of_all_blocks_that_are_left(
        hard in vec(range(), 0..12),
        soft in vec(range(), 0..4),
        common in vec(range(), 0..4),
        prefix in 22..=28u8,
        limit in 1..8usize,
        salt in "[a-z]{0,3}",
    ) {
        let ranges = |nets: &[Ipv4Net]| -> Ranges { nets.iter().copied().collect() };
        let free = ranges(&[net(BLOCK)]).minus(&ranges(&hard));
        let search = Search { free, soft: ranges(&soft), common: ranges(&common), prefix };
        let found = search.take(limit, Seed::of(&Question { salt: &salt, ..Question::default() }));
        let mut taken = hard;
        for Found { space, merit } in &found {
            prop_assert_eq!(merit_of(*space, &taken, &soft, &common), Some(*merit), "{}", space);
            let best = net(BLOCK).subnets(prefix).unwrap().filter_map(|other| merit_of(other, &taken, &soft, &common)).min();
            prop_assert_eq!(best, Some(*merit), "{} is not the best", space);
            taken.push(*space);
        }
        if found.len() < limit {
            let left = net(BLOCK).subnets(prefix).unwrap().find(|space| merit_of(*space, &taken, &soft, &common).is_some());
            prop_assert_eq!(left, None, "a free block was not found");
        }
    }

    #[test]
    fn whatever_is_in_sight_no_proposal_overlaps_it(
        inputs in vec((any::<u32>(), 2..=32u8, 0..3usize), 0..60),
        hosts in 1..100_000u32,
    ) {
        let within = |(address, prefix, block): (u32, u8, usize)| {
            let block = PRIVATE_BLOCKS[block];
            let host_bits = u32::MAX >> block.prefix_len();
            let address = block.network().to_bits() | (address & host_bits);
            let range = Ipv4Net::new(address.into(), prefix.max(block.prefix_len() + 1)).unwrap().trunc();
            Avoid { range, origin: Origin::Given }
        };
        let avoid: Vec<Avoid> = inputs.into_iter().map(within).collect();
        let advice = advise(&question(hosts, &avoid));
        assert_clear(&advice, &avoid);
        prop_assert!(advice.proposals.iter().all(|proposal| u64::from(proposal.capacity) >= needed(hosts)));
        prop_assert!(!advice.message.is_empty());
    }
}
