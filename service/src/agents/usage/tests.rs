use cladnet_model::{CloudLocation, Host, Membership, bill, location::injected};
use cladnet_proto::cladnet::v1::agent_message::Message as Said;
use futures_util::future::join_all;
use rand::RngExt as _;

use super::*;
use crate::agents::testing::*;

fn today() -> Date {
    day(Timestamp::now())
}

fn report(sequence: u64, day: Date, network: &str, peer: &HostId, bytes: u64) -> UsageReport {
    let usage = Usage {
        network_id: network.to_owned(),
        host_id: peer.to_string(),
        scope: "private".to_owned(),
        sent_bytes: bytes,
        received_bytes: 2 * bytes,
        ..Usage::default()
    };
    UsageReport { sequence, day: day.to_string(), usages: vec![usage] }
}

async fn kept(house: &House, day: Date, host: &HostId) -> Option<HostUsage> {
    Some(house.store.get(&key::usage(day, &network_id("n"), host)).await.unwrap()?.value)
}

/// Bytes that a host has sent, as they are kept.
async fn sent(house: &House, host: &HostId) -> u64 {
    let kept = kept(house, today(), host).await;
    kept.map_or(0, |usage| usage.rows.iter().map(|row| row.bytes.sent).sum())
}

async fn two(house: &House) -> (Replica, Agent, Agent) {
    let replica = house.replica().await;
    let token = house.token("n", 2, replica.ca).await;
    let one = Machine::new().agent(&replica, &token).await;
    let other = Machine::new().agent(&replica, &token).await;
    (replica, one, other)
}

#[tokio::test]
async fn an_agent_is_told_what_is_counted_and_a_repeated_report_counts_once() {
    let house = House::with_network("n").await;
    let (replica, one, other) = two(&house).await;
    let mut wire = one.sync(&replica).await.unwrap();
    assert_eq!(wire.usage_taken().await.unwrap(), 0);
    let first = report(1, today(), "n", &other.host, 100);
    wire.say(Said::Usage(first.clone())).await;
    assert_eq!(wire.usage_taken().await.unwrap(), 1);
    drop(wire);

    // The answer was lost; another replica is told the same again.
    let second = house.replica().await;
    let mut wire = one.sync(&second).await.unwrap();
    assert_eq!(wire.usage_taken().await.unwrap(), 1);
    wire.say(Said::Usage(first)).await;
    wire.say(Said::Usage(report(7, today(), "n", &other.host, 11))).await;
    assert_eq!(wire.usage_taken().await.unwrap(), 7);
    assert_eq!(sent(&house, &one.host).await, 111);
}

#[tokio::test]
async fn bytes_are_kept_by_the_places_that_hosts_have_then() {
    let house = House::with_network("n").await;
    let (replica, one, other) = two(&house).await;
    let located = |provider: &str| CloudLocation {
        provider: injected("provider", provider).unwrap(),
        ..CloudLocation::default()
    };
    for (agent, provider) in [(&one, "aws"), (&other, "gcp")] {
        let found = house.store.get(&key::host(&agent.host)).await.unwrap().unwrap();
        let changed = Host { injected: located(provider), ..found.value };
        let revision = house.store.put(&key::host(&agent.host), &changed).await.unwrap();
        replica.shared().reached(revision.get()).await.unwrap();
    }
    replica.shared().count_usage(&one.host, Some(&report(1, today(), "n", &other.host, 5))).await.unwrap();
    let stranger = report(2, today(), "n", &host_id("gone"), 3);
    replica.shared().count_usage(&one.host, Some(&stranger)).await.unwrap();
    let rows = kept(&house, today(), &one.host).await.unwrap().rows;
    let told = |place: &Place| place.provider.clone().unwrap_or_default();
    let rows: Vec<_> = rows.iter().map(|row| (told(&row.own), told(&row.peer), row.bytes.received)).collect();
    assert_eq!(rows, [("aws".into(), "gcp".into(), 10), ("aws".into(), String::new(), 6)]);
}

#[tokio::test]
async fn a_plain_peer_is_billed_what_its_peers_counted() {
    let house = House::with_network("n").await;
    let (replica, one, other) = two(&house).await;
    let plain = Membership { plain: true, ..membership("n", "phone", 1) };
    house.store.put(&key::host(&plain.host), &host("phone")).await.unwrap();
    let there = house.store.put(&key::membership(&plain.network, &plain.host), &plain).await.unwrap();
    replica.shared().reached(there.get()).await.unwrap();
    for (agent, sequence, bytes) in [(&one, 1, 5), (&one, 2, 6), (&other, 1, 100)] {
        let report = report(sequence, today(), "n", &plain.host, bytes);
        replica.shared().count_usage(&agent.host, Some(&report)).await.unwrap();
    }
    let period = bill::Period { from: today(), to: today() };
    let bill = replica.service.bill(period, None, bill::By::Host).await.unwrap().bill;
    let told: Vec<_> = [&one.host, &other.host, &plain.host]
        .map(|host| &bill.lines[host.as_str()])
        .map(|figures| (figures.sent, figures.received))
        .into();
    assert_eq!(told, [(11, 22), (100, 200), (222, 111)]);
}

#[tokio::test]
async fn what_makes_no_sense_is_answered_and_not_counted() {
    let house = House::with_network("n").await;
    house.create_network("foreign").await;
    let (replica, one, other) = two(&house).await;
    let old = oldest_kept(today()).yesterday().unwrap();
    let mut broken = report(4, today(), "n", &other.host, 9);
    broken.usages[0].scope = "sideways".into();
    for nonsense in [
        report(1, today(), "foreign", &other.host, 9),
        report(2, old, "n", &other.host, 9),
        report(3, today() + 2.days(), "n", &other.host, 9),
        broken,
        UsageReport { sequence: 5, day: "yesterday".into(), ..report(5, old, "n", &other.host, 9) },
    ] {
        let taken = replica.shared().count_usage(&one.host, Some(&nonsense)).await.unwrap();
        // A day that cannot be read makes the whole report nonsense.
        assert_eq!(taken, nonsense.sequence);
    }
    assert_eq!(sent(&house, &one.host).await, 0);
    for day in [today(), old] {
        assert!(house.store.list(&key::usages(day)).await.unwrap().items.is_empty());
    }
}

/// Reports are repeated, overtaken and counted on two replicas at once, and answers are lost; each counts once all the same.
#[tokio::test]
async fn every_report_counts_exactly_once_whatever_is_repeated_or_lost() {
    let house = House::with_network("n").await;
    let (first, one, other) = two(&house).await;
    let second = house.replica().await;
    second.shared().reached(house.store.list(&key::hosts()).await.unwrap().revision.get()).await.unwrap();
    let replicas = [&first, &second];
    let (mut taken, mut expected) = (0, 0);
    for _ in 0..60 {
        let sequence = taken + rand::rng().random_range(1..3);
        let bytes = rand::rng().random_range(1..1000);
        let report = report(sequence, today(), "n", &other.host, bytes);
        let tries = rand::rng().random_range(1..4);
        let counting = (0..tries).map(|number| {
            let counted = replicas[number % 2].shared().count_usage(&one.host, Some(&report));
            // Some are cut off in the middle, as by a crash.
            tokio::time::timeout(Duration::from_micros(rand::rng().random_range(1..3_000)), counted)
        });
        join_all(counting).await;
        // The agent comes back with the same report until it hears that it is counted.
        taken = replicas[tries % 2].shared().count_usage(&one.host, Some(&report)).await.unwrap();
        assert_eq!(taken, sequence);
        expected += bytes;
    }
    assert_eq!(sent(&house, &one.host).await, expected);
}

#[tokio::test]
async fn months_that_are_not_kept_are_forgotten_whole() {
    let house = House::with_network("n").await;
    let (host, today) = (host_id("a"), today());
    let oldest = oldest_kept(today);
    let days = [today, oldest, oldest - 1.day(), oldest - TRIMMED_DAYS.days()];
    for day in days {
        let usage = HostUsage::new(network_id("n"), host.clone(), day);
        house.store.put(&key::usage(day, &network_id("n"), &host), &usage).await.unwrap();
    }
    trim(&house.store, today).await.unwrap();
    let mut left = Vec::new();
    for day in days {
        left.extend(house.store.list(&key::usages(day)).await.unwrap().items.into_iter().map(|usage| usage.value.day));
    }
    assert_eq!(left, [today, oldest]);
}
