use proptest::prelude::*;

use super::*;
use crate::{Exchanged, RuleType, tariff::NanoUsd};

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
    let matrix = Matrix::of(&usages, &[]);
    let cost = |rule| usd(priced(&Book::shipped(), &matrix, rule, day(1)).spent);
    assert_eq!(cost(None), "2");
    assert_eq!(cost(Some(RuleType::Basic)), "2", "all public: AWS takes for it, Azure does not");
    assert_eq!(cost(Some(RuleType::CostPrioritized)), "0");
}

#[test]
fn a_moved_host_takes_its_traffic_along_both_ways() {
    let (seoul, tokyo) = ("aws/ap-northeast-2/apne2-az1/vpc-1", "aws/ap-northeast-1/apne1-az1/vpc-2");
    let usages = [
        usage("prod", "host-a", day(2), seoul, seoul, Scope::Private, (100 * GIB, 50 * GIB)),
        usage("prod", "host-b", day(2), seoul, seoul, Scope::Private, (50 * GIB, 100 * GIB)),
    ];
    let moved = Matrix::of(&usages, &[Move::Host("host-b".parse().unwrap(), place(tokyo))]);
    let priced = priced(&Book::shipped(), &moved, None, day(1));
    assert_eq!(usd(priced.spent), "12.5", "100 GB at 0.08 and 50 GB at 0.09");
    let all = Matrix::of(&usages, &[Move::Region(place("aws/ap-northeast-2"), place("aws/us-east-1"))]);
    assert_eq!(usd(super::priced(&Book::shipped(), &all, None, day(1)).spent), "0");
}

#[test]
fn what_does_not_move_keeps_its_way() {
    let (here, there) = ("azure/eastus/eastus-az1/vnet-1", "azure/westeurope/westeurope-az1/vnet-2");
    let usages = pair(here, there, Scope::Private, 100 * GB);
    let peered = priced(&Book::shipped(), &Matrix::of(&usages, &[]), None, day(1));
    assert_eq!(usd(peered.spent), "7", "global peering");
    let elsewhere = [Move::Region(place("aws/us-east-1"), place("gcp/us-east4"))];
    assert_eq!(priced(&Book::shipped(), &Matrix::of(&usages, &elsewhere), None, day(1)), peered);
    let moved = [Move::Region(place("azure/eastus"), place("azure/westus2"))];
    let public = priced(&Book::shipped(), &Matrix::of(&usages, &moved), None, day(1));
    assert_eq!(usd(public.spent), "5", "from a new place no peering is known");
}

#[test]
fn places_are_written_as_they_are_read_and_wrong_ones_are_refused() {
    for text in ["aws/us-east-1", "aws/us-east-1/use1-az1", "gcp/asia-northeast3/a/default"] {
        assert_eq!(place(text).to_string(), text);
    }
    for text in ["", "aws", "aws/", "/us-east-1", "a/b/c/d/e"] {
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
    fn moving_a_host_loses_no_byte(usages in proptest::collection::vec(any_usage(), 0..20)) {
        let bytes = |matrix: &Matrix| matrix.flows().map(|(_, bytes)| bytes).sum::<u64>();
        let moved = Matrix::of(&usages, &[Move::Host("a".parse().unwrap(), place("gcp/europe-west1"))]);
        prop_assert_eq!(bytes(&moved), bytes(&Matrix::of(&usages, &[])));
    }
}

#[test]
fn money_is_rounded_once() {
    let here = ("aws/us-east-1/use1-az1/vpc-1", "aws/us-east-1/use1-az2/vpc-1");
    let usages: Vec<_> =
        (0..10).map(|_| usage("prod", "host-a", day(2), here.0, here.1, Scope::Private, (40, 0))).collect();
    assert_eq!(of(&usages, By::Network).total.spent.round(), NanoUsd(4), "ten times 0.4 is 4, not ten times nothing");
}
