use cladnet_proto::cladnet::v1;
use cladnet_store::{Revision, key};
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::*;
use crate::{agents::testing::*, networks::Deletion};

fn terms(seconds: u64) -> TestTerms {
    TestTerms::check(3, Some(Duration::from_millis(10)), Some(Duration::from_secs(seconds))).unwrap()
}

/// So many members of network `n`, with addresses, that this replica knows of.
async fn members(house: &House, replica: &Replica, count: u32) -> Vec<Agent> {
    let token = house.token("n", count, replica.ca).await;
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(Machine::new().agent(replica, &token).await);
    }
    house.assign_addresses(&network_id("n")).await;
    agents
}

/// The run as a replica shows it.
async fn shown(replica: &Replica, id: &RunId) -> v1::ConnectivityRun {
    let (run, results) = replica.service.run(&network_id("n"), id).await.unwrap();
    cladnet_proto::convert::connectivity_run(&run, &results, Timestamp::now())
}

fn outcomes(missing: &[v1::ControlResult]) -> Vec<(&str, &str)> {
    let mut outcomes: Vec<_> = missing.iter().map(|one| (one.host_id.as_str(), one.outcome.as_str())).collect();
    outcomes.sort_unstable();
    outcomes
}

#[test]
fn terms_are_bounded_and_name_their_field() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let field = |terms: Result<TestTerms, CallError>| terms.expect_err("refused").to_string();
    assert!(field(TestTerms::check(101, None, None)).starts_with("count: is 101"));
    assert!(field(TestTerms::check(1, Some(Duration::from_millis(9)), None)).starts_with("interval: is 9 ms"));
    assert!(field(TestTerms::check(1, None, seconds(121))).starts_with("deadline: is 121 s"));
    let terms = TestTerms::check(0, None, None).expect("defaults");
    assert_eq!((terms.count, terms.wait(64, 64)), (3, Duration::from_millis(5_600)));
    assert_eq!(terms.wait(65, 66), Duration::from_millis(4 * 3_600 + 2_000), "all have their turn");
    assert_eq!(TestTerms::check(100, seconds(30), None).expect("is bounded").wait(2, 2), LONGEST);
}

#[tokio::test]
async fn a_test_answers_in_time_with_what_is_there_and_every_replica_shows_it_later() {
    let house = House::with_network("n").await;
    let (here, there) = (house.replica().await, house.replica().await);
    let agents = members(&house, &here, 4).await;
    let [near, far, silent, offline] = &agents[..] else { unreachable!() };
    let tasks = [
        answering(near, &here, pong).await,
        answering(far, &there, pong).await,
        answering(silent, &there, |_| None).await,
    ];
    present(&here, &far.host).await;
    present(&here, &silent.host).await;

    let started = Instant::now();
    let test = here.service.test_connectivity(&network_id("n"), &[], terms(10)).await.unwrap();
    assert!(started.elapsed() < DEADLINE, "its time was 10 s: {:?}", started.elapsed());
    assert_eq!(test.results.len(), 2 * 3);
    let pair = test.results.iter().find(|pair| pair.source == far.host.as_str()).unwrap();
    assert_eq!((pair.sent, pair.received, pair.min_us, pair.avg_us, pair.max_us), (3, 2, 100, 200, 300));
    assert_eq!((pair.stddev_us, pair.p50_us, pair.p99_us), (100, 100, 300));
    assert!((pair.loss_percent - 100.0 / 3.0).abs() < 1e-9);
    assert_eq!((pair.source_name.as_str(), pair.destination_name.as_str()), ("vm", "vm"));
    let mut missing = vec![(silent.host.as_str(), "timed-out"), (offline.host.as_str(), "offline")];
    missing.sort_unstable();
    assert_eq!(outcomes(&test.missing), missing);

    let run = eventually("its end", async || {
        let (run, _) = there.service.last_runs(&network_id("n")).await.unwrap().remove(0);
        run.outcome.is_some().then_some(run)
    })
    .await;
    let kept = shown(&there, &run.id).await;
    assert_eq!((&kept.results, outcomes(&kept.missing)), (&test.results, missing), "the same for all");
    assert_eq!((kept.asked, kept.answered, kept.done, kept.p50_us, kept.left_out), (4, 2, true, 100, 0));
    assert!((kept.loss_percent - 100.0 / 3.0).abs() < 1e-9);
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_started_run_shows_its_progress_on_every_replica() {
    let house = House::with_network("n").await;
    let (here, there) = (house.replica().await, house.replica().await);
    let agents = members(&house, &here, 3).await;
    let [quick, slow, down] = &agents[..] else { unreachable!() };
    house.store.transaction().delete(&key::peer(&network_id("n"), &down.host)).commit().await.unwrap();
    let (answers, leaves) = (answering(quick, &here, pong).await, answering(slow, &here, |_| None).await);

    let run = here.service.start_connectivity_test(&network_id("n"), &[], terms(100)).await.unwrap();
    let halfway = eventually("the first answer", async || {
        let now = shown(&there, &run.id).await;
        (now.answered == 1).then_some(now)
    })
    .await;
    assert_eq!((halfway.asked, halfway.done, halfway.results.len()), (2, false, 1));
    assert_eq!(outcomes(&halfway.missing), [(down.host.as_str(), "failed")], "it has no address");
    leaves.abort();
    let done = eventually("its end", async || Some(shown(&there, &run.id).await).filter(|now| now.done)).await;
    assert_eq!((done.answered, done.missing.len()), (1, 2));
    assert!(outcomes(&done.missing).contains(&(slow.host.as_str(), "offline")), "{done:?}");
    answers.abort();
}

#[tokio::test]
async fn a_run_of_a_replica_that_dies_is_done_at_its_deadline_and_names_who_is_missing() {
    let house = House::with_network("n").await;
    let (dies, lives) = (house.replica().await, house.replica().await);
    let agents = members(&house, &dies, 2).await;
    let tasks = [answering(&agents[0], &lives, pong).await, answering(&agents[1], &lives, |_| None).await];
    for agent in &agents {
        present(&dies, &agent.host).await;
    }
    let run = dies.service.start_connectivity_test(&network_id("n"), &[], terms(10)).await.unwrap();
    eventually("the first answer", async || (shown(&lives, &run.id).await.answered == 1).then_some(())).await;
    dies.stop().await;
    let done = eventually("its deadline", async || Some(shown(&lives, &run.id).await).filter(|now| now.done)).await;
    assert_eq!(outcomes(&done.missing), [(agents[1].host.as_str(), "timed-out")]);
    assert_eq!((done.asked, done.answered, done.results.len()), (2, 1, 1));
    let (listed, _) = lives.service.last_runs(&network_id("n")).await.unwrap().remove(0);
    assert_eq!((listed.id, listed.outcome), (run.id, None));
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn the_last_ten_runs_are_kept_and_go_with_their_network() {
    let house = House::with_network("n").await;
    let (replica, network) = (house.replica().await, network_id("n"));
    members(&house, &replica, 2).await;
    for _ in 0..KEPT + 3 {
        replica.service.test_connectivity(&network, &[], terms(60)).await.unwrap();
    }
    let kept = async || house.store.list(&key::connectivity_runs(&network)).await.unwrap().items;
    let last = eventually("the older ones are gone", async || {
        let kept = kept().await;
        (kept.len() == KEPT && kept.iter().all(|run| run.value.outcome.is_some())).then_some(kept)
    })
    .await;
    let listed = replica.service.last_runs(&network).await.unwrap();
    assert!(listed.iter().map(|(run, _)| &run.id).eq(last.iter().rev().map(|run| &run.value.id)), "newest first");

    replica.service.delete_network(&network, Deletion::WithPeers, "test").await.unwrap();
    assert!(kept().await.is_empty());
    for run in last {
        let results = key::connectivity_results(&network, &run.value.id);
        assert!(house.store.list(&results).await.unwrap().items.is_empty());
    }
}

#[tokio::test]
async fn what_ends_after_its_run_was_deleted_leaves_nothing() {
    let house = House::with_network("n").await;
    let (replica, network) = (house.replica().await, network_id("n"));
    let agents = members(&house, &replica, 2).await;
    let answers = answering(&agents[0], &replica, pong).await;
    let leaves = answering(&agents[1], &replica, |_| None).await;
    let (service, waited) = (replica.service.clone(), network.clone());
    let test = tokio::spawn(async move { service.test_connectivity(&waited, &[], terms(100)).await });
    let run = eventually("the first answer", async || {
        let (run, results) = replica.service.last_runs(&network).await.unwrap().pop()?;
        (results.len() == 1).then_some(run)
    })
    .await;
    replica.service.delete_runs(&network, Revision::from(i64::MAX)).await.unwrap();
    leaves.abort(); // which ends it
    assert_eq!(test.await.unwrap().unwrap().results.len(), 1, "whoever waits is answered");
    replica.stop().await;
    assert!(house.store.list(&key::connectivity_runs(&network)).await.unwrap().items.is_empty());
    assert!(house.store.list(&key::connectivity_results(&network, &run.id)).await.unwrap().items.is_empty());
    answers.abort();
}

#[tokio::test]
async fn only_so_many_runs_of_a_network_are_started_at_a_time() {
    let house = House::with_network("n").await;
    let (replica, network) = (house.replica().await, network_id("n"));
    members(&house, &replica, 2).await;
    for _ in 0..KEPT {
        let (run, _) = replica.service.plan_run(&network, &[], terms(100)).await.unwrap();
        replica.service.open_run(&run).await.unwrap();
    }
    let refused = replica.service.start_connectivity_test(&network, &[], terms(1)).await.unwrap_err();
    assert!(matches!(&refused, CallError::TooMany(reason) if reason.contains("10 connectivity tests")), "{refused}");
    replica.service.test_connectivity(&network, &[], terms(1)).await.expect("who waits is not refused");
    let (run, _) = replica.service.last_runs(&network).await.unwrap().remove(0);
    assert_eq!(run.hosts.len(), 2);
}
