use proptest::prelude::*;

use super::*;
use crate::{Exchanged, tariff::NanoUsd};

const GB: u64 = 1_000_000_000;
/// What AWS counts in.
const GIB: u64 = 1 << 30;

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn day(number: i8) -> Date {
    Date::new(2026, 11, number).unwrap()
}

fn period() -> Period {
    Period { from: day(1), to: day(30) }
}

/// What a host of one network sent and received.
fn usage(network: &str, host: &str, at: Date, own: &str, peer: &str, scope: Scope, bytes: (u64, u64)) -> HostUsage {
    let mut usage = HostUsage::new(network.parse().unwrap(), host.parse().unwrap(), at);
    usage.add(&place(own), &place(peer), scope, Exchanged { sent: bytes.0, received: bytes.1, ..Exchanged::default() });
    usage
}

/// Bytes from one host to another, as both count them.
fn pair(from: &str, to: &str, scope: Scope, bytes: u64) -> Vec<HostUsage> {
    vec![
        usage("prod", "host-a", day(2), from, to, scope, (bytes, 0)),
        usage("prod", "host-b", day(2), to, from, scope, (0, bytes)),
    ]
}

/// A host elsewhere.
fn host(id: &str, to: &str) -> Move {
    Move::Host(id.parse().unwrap(), place(to))
}

fn of(usages: &[HostUsage], by: By) -> Bill {
    bill(&Book::shipped(), usages, period(), None, by)
}

fn usd(amount: AttoUsd) -> String {
    amount.round().to_string()
}

#[test]
fn a_private_path_in_one_zone_costs_nothing_and_saves_what_public_addresses_cost() {
    let here = "aws/ap-northeast-2/apne2-az1/vpc-1";
    let total = of(&pair(here, here, Scope::Private, 100 * GIB), By::Network).total;
    assert_eq!((usd(total.spent), usd(total.saved)), ("0".into(), "2".into()));
    assert_eq!((total.sent, total.received, total.unpriced, total.estimated), (100 * GIB, 100 * GIB, 0, 0));
}

#[test]
fn peering_that_is_dearer_than_public_shows_a_negative_saving() {
    let (one, other) = ("azure/koreacentral/koreacentral-az1/vnet-1", "azure/koreacentral/koreacentral-az1/vnet-2");
    let total = of(&pair(one, other, Scope::Private, 100 * GB), By::Network).total;
    assert_eq!((usd(total.spent), usd(total.saved)), ("2".into(), "-2".into()));
}

#[test]
fn each_side_pays_by_its_own_counter() {
    let (one, other) = ("aws/us-east-1/use1-az1/vpc-1", "aws/us-east-1/use1-az2/vpc-1");
    let lost = [
        usage("prod", "host-a", day(2), one, other, Scope::Private, (100 * GIB, 0)),
        usage("prod", "host-b", day(2), other, one, Scope::Private, (0, 90 * GIB)),
    ];
    let bill = of(&lost, By::Host);
    assert_eq!(usd(bill.lines["host-a"].spent), "1");
    assert_eq!(usd(bill.lines["host-b"].spent), "0.9");
    assert_eq!(usd(bill.total.spent), "1.9");
}

#[test]
fn a_free_pool_is_used_up_by_the_month_and_over_all_networks() {
    let (seoul, azure) = ("aws/ap-northeast-2/apne2-az1", "azure/koreacentral/koreacentral-az1");
    let sent = |network: &str, at, bytes| usage(network, "host-a", at, seoul, azure, Scope::Public, (bytes, 0));
    let bill_of = |usages: &[HostUsage], from| {
        let prod = "prod".parse().unwrap();
        usd(bill(&Book::shipped(), usages, Period { from, to: day(30) }, Some(&prod), By::Day).total.spent)
    };
    assert_eq!(bill_of(&[sent("prod", day(2), 200 * GIB)], day(1)), "12.6", "100 GB are free");
    assert_eq!(bill_of(&[sent("dev", day(1), 100 * GIB), sent("prod", day(2), 200 * GIB)], day(1)), "25.2");
    let over_days = [sent("prod", day(1), 150 * GIB), sent("prod", day(2), 50 * GIB)];
    assert_eq!(bill_of(&over_days, day(2)), "6.3", "what came before the period counts for the tier");
    let last_month = sent("prod", Date::new(2026, 10, 31).unwrap(), 500 * GIB);
    let october = Period { from: Date::new(2026, 10, 1).unwrap(), to: day(30) };
    let both = bill(&Book::shipped(), &[last_month, sent("prod", day(2), 200 * GIB)], october, None, By::Day);
    assert_eq!(usd(both.lines["2026-11-02"].spent), "12.6", "a month begins anew");
}

#[test]
fn bytes_without_a_price_stand_apart() {
    let total = of(&pair("nhn/kr1/a", "aws/ap-northeast-2/apne2-az1", Scope::Public, GB), By::Pair);
    let line = &total.lines["nhn > aws"];
    assert_eq!((line.unpriced, usd(line.spent)), (GB, "0".into()), "the sender's; AWS takes nothing for what comes in");
    let unknown = HostUsage {
        rows: vec![UsageRow { own: Place::default(), ..pair("aws/a", "aws/b", Scope::Public, GB)[0].rows[0].clone() }],
        ..pair("aws/a", "aws/b", Scope::Public, GB).remove(0)
    };
    assert_eq!(of(&[unknown], By::Pair).lines["unknown > aws"].unpriced, GB);
}

#[test]
fn surcharges_of_a_host_and_of_its_vpc_are_billed_to_the_side_that_bears_them() {
    let text = "
        [[surcharges]]
        name = 'NAT gateway'
        on = { host = 'host-a' }
        scopes = ['public']
        sends = 0.05
        [[surcharges]]
        name = 'transit gateway'
        on = { vpc = 'aws/us-east-1/vpc-2' }
        receives = 0.02
    ";
    let book = Book::effective(None, Some(&tariff::Document::parse(text).unwrap().0));
    let (one, other) = ("aws/us-east-1/use1-az1/vpc-1", "aws/us-east-1/use1-az1/vpc-2");
    let spent = |scope| {
        let bill = bill(&book, &pair(one, other, scope, 100 * GB), period(), None, By::Host);
        ["host-a", "host-b"].map(|host| bill.lines.get(host).map_or_else(String::new, |line| usd(line.spent)))
    };
    assert_eq!(spent(Scope::Private), ["0", "2"]);
    assert_eq!(spent(Scope::Public), ["5.931322575", "2.931322575"], "0.01 per GiB each, and what stands before it");
}

#[test]
fn a_zone_that_is_not_known_is_billed_as_another_and_marked() {
    let total = of(&pair("aws/us-east-1/use1-az1/vpc-1", "aws/us-east-1", Scope::Public, GB), By::Class);
    assert_eq!(total.lines["cross-zone-public"].estimated, 2 * GB);
}

#[test]
fn clear_frames_spare_the_time_of_sealing_and_opening() {
    let mut usages = pair("aws/us-east-1/use1-az1/vpc-1", "aws/us-east-1/use1-az1/vpc-1", Scope::Private, GB);
    usages[0].rows[0].bytes.clear_sent = GB;
    usages[1].rows[0].bytes.clear_received = GB;
    assert_eq!(of(&usages, By::Network).total.spared(), Duration::from_millis(750));
}

#[test]
fn a_matrix_costs_what_the_bill_says_and_less_or_more_under_other_rules() {
    let (one, other) = ("azure/koreacentral/koreacentral-az1/vnet-1", "azure/koreacentral/koreacentral-az1/vnet-2");
    let here = "aws/us-east-1/use1-az1/vpc-1";
    let usages = [pair(one, other, Scope::Private, 100 * GB), pair(here, here, Scope::Private, 100 * GIB)].concat();
    let matrix = Matrix::of(&usages);
    let cost = |rule| usd(priced(&Book::shipped(), &matrix, rule, day(1)).spent);
    assert_eq!(cost(None), "2");
    assert_eq!(cost(Some(WhatIfRule::Basic)), "2", "all public: AWS takes for it, Azure does not");
    assert_eq!(cost(Some(WhatIfRule::CostPrioritized)), "0");
    assert_eq!(cost(Some(WhatIfRule::LatencyPrioritized)), "0", "of two equal round trips the cheaper path is taken");
    assert_eq!(cost(Some(WhatIfRule::CbNetwork)), "0");
}

#[test]
fn a_moved_host_takes_its_traffic_along_both_ways() {
    let (seoul, tokyo) = ("aws/ap-northeast-2/apne2-az1/vpc-1", "aws/ap-northeast-1/apne1-az1/vpc-2");
    let usages = [
        usage("prod", "host-a", day(2), seoul, seoul, Scope::Private, (100 * GIB, 50 * GIB)),
        usage("prod", "host-b", day(2), seoul, seoul, Scope::Private, (50 * GIB, 100 * GIB)),
    ];
    let cost = |moves: &[Move]| {
        let moved = Matrix::of(&usages).moved(&usages, moves);
        assert_eq!((moved.idle.len(), moved.unsure), (0, 0));
        usd(priced(&Book::shipped(), &moved.matrix, None, day(1)).spent)
    };
    let (one, other) = (host("host-a", seoul), host("host-b", tokyo));
    assert_eq!(cost(std::slice::from_ref(&other)), "12.5", "100 GB at 0.08 and 50 GB at 0.09");
    assert_eq!(cost(&[Move::Region(place("aws/ap-northeast-2"), place("aws/us-east-1"))]), "0");
    assert_eq!(cost(&[one, other]), "12.5", "where it stood before");
    assert_eq!(
        cost(&[host("host-a", tokyo), host("host-b", tokyo)]),
        "0",
        "what they say to each other moves with both"
    );
}

#[test]
fn two_moved_hosts_keep_their_traffic_with_each_other_and_with_the_rest() {
    let (seoul, virginia, tokyo) =
        ("aws/ap-northeast-2/a/vpc-1", "aws/us-east-1/a/vpc-2", "aws/ap-northeast-1/a/vpc-3");
    // a and b talk to each other alone; another pair does between the same places.
    let alone = pair(seoul, virginia, Scope::Public, 100 * GIB);
    let moves = [host("host-a", tokyo), host("host-b", tokyo)];
    let bytes = |usages: &[HostUsage]| {
        let moved = Matrix::of(usages).moved(usages, &moves);
        let of = |from: &str, to: &str| {
            let flows = moved.matrix.flows().filter(|(flow, _)| (&flow.from, &flow.to) == (&place(from), &place(to)));
            flows.map(|(_, bytes)| bytes / GIB).sum::<u64>()
        };
        ([of(tokyo, tokyo), of(tokyo, virginia), of(seoul, tokyo), of(seoul, virginia)], moved.unsure / GIB)
    };
    assert_eq!(bytes(&alone), ([100, 0, 0, 0], 0));
    let others = [
        usage("prod", "host-c", day(2), seoul, virginia, Scope::Public, (300 * GIB, 0)),
        usage("prod", "host-d", day(2), virginia, seoul, Scope::Public, (0, 300 * GIB)),
    ];
    let all = [alone, others.into()].concat();
    assert_eq!(bytes(&all), ([25, 75, 75, 225], 100), "by pair it is not known, so it is spread evenly");
}

#[test]
fn regions_change_places_and_a_move_of_nothing_is_told() {
    let (seoul, tokyo) = ("aws/ap-northeast-2", "aws/ap-northeast-1");
    let usages = pair(seoul, tokyo, Scope::Public, 100 * GIB);
    let region = |from: &str, to: &str| Move::Region(place(from), place(to));
    let there_and_back =
        [region(seoul, tokyo), region(tokyo, seoul), region("gcp/us-east4", seoul), host("host-x", seoul)];
    let moved = Matrix::of(&usages).moved(&usages, &there_and_back);
    let flows: Vec<_> = moved.matrix.flows().map(|(flow, _)| (flow.from.to_string(), flow.to.to_string())).collect();
    assert_eq!(flows, [(tokyo.to_owned(), seoul.to_owned())]);
    assert_eq!(moved.idle.into_iter().collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn what_does_not_move_keeps_its_way() {
    let (here, there) = ("azure/eastus/eastus-az1/vnet-1", "azure/westeurope/westeurope-az1/vnet-2");
    let usages = pair(here, there, Scope::Private, 100 * GB);
    let peered = priced(&Book::shipped(), &Matrix::of(&usages), None, day(1));
    assert_eq!(usd(peered.spent), "7", "global peering");
    let elsewhere = [Move::Region(place("aws/us-east-1"), place("gcp/us-east4"))];
    let after =
        |moves: &[Move]| priced(&Book::shipped(), &Matrix::of(&usages).moved(&usages, moves).matrix, None, day(1));
    assert_eq!(after(&elsewhere), peered);
    let moved = [Move::Region(place("azure/eastus"), place("azure/westus2"))];
    assert_eq!(usd(after(&moved).spent), "5", "from a new place no peering is known");
}

#[test]
fn places_are_written_as_they_are_read_and_wrong_ones_are_refused() {
    for text in ["aws/us-east-1", "aws/us-east-1/use1-az1", "gcp/asia-northeast3/a/projects/p/global/networks/n"] {
        assert_eq!(place(text).to_string(), text);
    }
    for text in ["", "aws", "aws/", "/us-east-1", "a/b//d"] {
        assert!(text.parse::<Place>().is_err(), "{text}");
    }
    assert_eq!(Place::default().to_string(), "?");
}

const PLACES: &[&str] = &[
    "aws/us-east-1/use1-az1/vpc-1",
    "aws/us-east-1/use1-az2/vpc-1",
    "gcp/us-central1/a",
    "azure/koreacentral/1",
    "nhn/kr1",
];

fn any_usage() -> impl Strategy<Value = HostUsage> {
    let place = || proptest::sample::select(PLACES);
    let scope = proptest::sample::select(&[Scope::Private, Scope::Public, Scope::PublicV6][..]);
    (
        proptest::sample::select(&["a", "b", "c"][..]),
        proptest::sample::select(&["prod", "dev"][..]),
        1..29i8,
        place(),
        place(),
        scope,
        (0..200 * GB, 0..200 * GB),
    )
        .prop_map(|(host, network, at, own, peer, scope, bytes)| usage(network, host, day(at), own, peer, scope, bytes))
}

proptest! {
    #[test]
    fn every_grouping_adds_up_to_the_same(usages in proptest::collection::vec(any_usage(), 0..20)) {
        let whole = of(&usages, By::Network).total;
        for by in [By::Network, By::Pair, By::Host, By::Class, By::Day] {
            let bill = of(&usages, by);
            prop_assert_eq!(bill.total, whole);
            let mut sum = Figures::default();
            bill.lines.values().for_each(|line| sum += *line);
            prop_assert_eq!(sum, whole);
            prop_assert_eq!(bill.by_network.values().copied().sum::<AttoUsd>(), whole.spent);
        }
        let bytes: u64 = usages.iter().flat_map(|usage| &usage.rows).map(|row| row.bytes.sent).sum();
        prop_assert_eq!(whole.sent, bytes);
    }

    #[test]
    fn what_is_spent_and_saved_is_what_public_addresses_cost(usages in proptest::collection::vec(any_usage(), 0..20)) {
        let mut public = usages.clone();
        public.iter_mut().flat_map(|usage| &mut usage.rows).for_each(|row| row.scope = Scope::Public);
        let (used, all_public) = (of(&usages, By::Network).total, of(&public, By::Network).total);
        prop_assert_eq!(all_public.saved, AttoUsd(0));
        if used.unpriced == 0 && used.uncompared == 0 {
            prop_assert_eq!(used.spent + used.saved, all_public.spent);
        }
    }

    #[test]
    fn moving_hosts_and_regions_loses_no_byte(usages in proptest::collection::vec(any_usage(), 0..20)) {
        let bytes = |matrix: &Matrix| matrix.flows().map(|(_, bytes)| bytes).sum::<u64>();
        let matrix = Matrix::of(&usages);
        let moves = [host("a", "gcp/europe-west1"), host("b", "nhn/kr1"), Move::Region(place("nhn/kr1"), place("azure/eastus"))];
        prop_assert_eq!(bytes(&matrix.moved(&usages, &moves).matrix), bytes(&matrix));
        prop_assert_eq!(matrix.moved(&usages, &[]).matrix, matrix);
    }
}

#[test]
fn money_is_rounded_once() {
    let here = ("aws/us-east-1/use1-az1/vpc-1", "aws/us-east-1/use1-az2/vpc-1");
    let usages: Vec<_> =
        (0..10).map(|_| usage("prod", "host-a", day(2), here.0, here.1, Scope::Private, (40, 0))).collect();
    assert_eq!(of(&usages, By::Network).total.spent.round(), NanoUsd(4), "ten times 0.4 is 4, not ten times nothing");
}
