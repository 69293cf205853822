use cladnet_model::{CommandRecord, CommandState};
use cladnet_proto::cladnet::v1::{
    AgentEndpoint, CandidateMeasurement, ListPathsResponse, PathReport, PathsCommand, PingCommand, PingResult,
};
use cladnet_store::key;
use tokio::task::JoinHandle;
use tonic::Code;

use super::*;
use crate::agents::{RoundTrips, testing::*};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn ping() -> Command {
    Command::Ping(PingCommand { network_id: "n".into(), ..PingCommand::default() })
}

async fn two_agents(house: &House, replica: &Replica) -> (Agent, Agent) {
    let token = house.token("n", 2, replica.ca).await;
    (Machine::new().agent(replica, &token).await, Machine::new().agent(replica, &token).await)
}

async fn no_commands_left(house: &House) {
    eventually("no command left", async || {
        house.store.list(&key::all_commands()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_command_reaches_the_agent_on_this_and_on_another_replica() {
    let house = House::with_network("n").await;
    let (here, there) = (house.replica().await, house.replica().await);
    let (agent, _) = two_agents(&house, &here).await;
    let task = answering(&agent, &there, pong).await;
    present(&here, &agent.host).await;
    for replica in [&here, &there] {
        replica.agents.command(&agent.host, ping(), soon()).await.unwrap();
    }
    no_commands_left(&house).await;
    task.abort();
}

#[tokio::test]
async fn an_agent_that_is_away_silent_or_unable_is_told_apart() {
    let house = House::with_network("n").await;
    let (here, there) = (house.replica().await, house.replica().await);
    let (silent, unable) = two_agents(&house, &here).await;
    assert_eq!(here.agents.command(&silent.host, ping(), soon()).await, Err(CommandError::Offline));

    let tasks = [
        answering(&silent, &there, |_| None).await,
        answering(&unable, &there, |_| Some(CommandResult { error: "no interface".into(), ..Default::default() }))
            .await,
    ];
    for agent in [&silent, &unable] {
        present(&here, &agent.host).await;
    }
    for replica in [&here, &there] {
        let asked = Instant::now();
        let outcome = replica.agents.command(&silent.host, ping(), asked + Duration::from_millis(300)).await;
        assert_eq!(outcome, Err(CommandError::TimedOut));
        assert!(asked.elapsed() < ANSWER_TIME, "{:?}", asked.elapsed());
        let outcome = replica.agents.command(&unable.host, ping(), soon()).await;
        assert_eq!(outcome, Err(CommandError::Failed("no interface".into())));
    }
    no_commands_left(&house).await;
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn an_agent_that_goes_while_it_is_asked_is_offline_and_an_endless_answer_is_refused() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let (goes, talks) = two_agents(&house, &replica).await;
    let task = answering(&goes, &replica, |_| None).await;
    let asked = replica.agents.command(&goes.host, ping(), soon());
    let leaves = async {
        eventually("the question", async || {
            (replica.shared().streams.get(&goes.host)?.asked.waiting() == 1).then_some(())
        })
        .await;
        task.abort();
    };
    assert_eq!(tokio::join!(asked, leaves).0, Err(CommandError::Offline));

    let endless = || CommandResult {
        pings: vec![PingResult { rtts_us: vec![u32::MAX; 20_000], ..PingResult::default() }],
        ..CommandResult::default()
    };
    let task = answering(&talks, &replica, move |_| Some(endless())).await;
    let outcome = replica.agents.command(&talks.host, ping(), soon()).await;
    assert!(matches!(&outcome, Err(CommandError::Failed(reason)) if reason.contains("at most 65536")), "{outcome:?}");
    task.abort();
}

#[tokio::test]
async fn one_who_never_answers_keeps_nobody_else_from_being_asked() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let hosts: Vec<HostId> = (0..2 * AT_A_TIME).map(|number| host_id(&format!("host-{number}"))).collect();
    let others_answered = tokio::sync::Semaphore::new(0);
    let ask = |host: &HostId| {
        let (is_slow, others_answered) = (*host == hosts[0], &others_answered);
        async move {
            match is_slow {
                true => drop(others_answered.acquire_many(2 * AT_A_TIME as u32 - 1).await.unwrap()),
                false => others_answered.add_permits(1),
            }
        }
    };
    let answers = timeout_at(soon(), replica.agents.ask_all(&hosts, ask)).await.expect("the others are asked");
    assert!(answers.iter().map(|(host, ())| *host).eq(&hosts), "in the order of the hosts");
}

#[tokio::test]
async fn an_orphaned_command_is_cleared_away() {
    let house = House::with_network("n").await;
    let record = CommandRecord {
        id: CommandId::generate([1; 10]),
        host: host_id("host-gone"),
        payload: String::new(),
        requested_by: "replica-gone".into(),
        deadline: jiff::Timestamp::now() - Duration::from_secs(120),
        state: CommandState::Pending,
    };
    house.store.create(&key::command(&record.host, &record.id), &record).await.unwrap();
    let _replica = house.replica().await;
    no_commands_left(&house).await;
}

#[tokio::test]
async fn explain_ranks_by_the_prices_and_measurements_that_the_agent_told() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let (one, two) = two_agents(&house, &replica).await;
    let task = answering(&one, &replica, |command| {
        let Command::Paths(PathsCommand { host_ids, .. }) = command else { return None };
        let known = |address: &str, reach: &str, price| CandidateMeasurement {
            address: address.into(),
            reach: reach.into(),
            rtt_us: 9_000,
            loss_permille: 15,
            price_per_gb: Some(price),
        };
        let endpoint =
            |address: &str| AgentEndpoint { address: address.into(), scope: "public".into(), source: "stun".into() };
        let addresses = ["198.51.100.7:8055", "198.51.100.8:8055", "198.51.100.9:8055"];
        let report = |host_id| PathReport {
            host_id,
            scope: "public".into(),
            endpoint: addresses[2].into(),
            candidates: addresses.map(endpoint).to_vec(),
            measurements: vec![
                known(addresses[0], "silent", 0),
                known(addresses[1], "answers", 90_000_000),
                known(addresses[2], "answers", 10_000_000),
            ],
            tariff_version: "another".into(),
            ..PathReport::default()
        };
        Some(CommandResult { paths: host_ids.into_iter().map(report).collect(), ..CommandResult::default() })
    })
    .await;
    let network = network_id("n");
    eventually("both members", async || (replica.agents.members(&network).ok()?.all().count() == 2).then_some(()))
        .await;
    let explained = replica.agents.explain(&network, &one.host, &two.host, Duration::from_secs(5)).await.unwrap();
    let order: Vec<_> = explained.candidates.iter().map(|c| (c.endpoint.as_str(), c.state.as_str(), c.rank)).collect();
    let expected =
        [("198.51.100.9:8055", "in use", 1), ("198.51.100.8:8055", "usable", 2), ("198.51.100.7:8055", "silent", 3)];
    assert_eq!(order, expected);
    assert!(explained.candidates[0].reason.ends_with("0.01 USD/GB against 0.09"), "{}", explained.candidates[0].reason);
    assert!((explained.candidates[0].loss_percent - 1.5).abs() < 1e-9);
    assert!(explained.summary.contains("the agent goes by tariff book another"), "{}", explained.summary);
    let paths =
        replica.agents.paths(&network, |host| *host == one.host, RoundTrips::Known, Duration::from_secs(5)).await;
    assert_eq!(paths.unwrap().paths[0].usd_per_gb, "0.01");
    task.abort();
}

#[tokio::test]
async fn paths_are_reported_and_explained_from_what_the_agent_uses() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let (one, two) = two_agents(&house, &replica).await;
    let endpoint = AgentEndpoint { address: "198.51.100.9:8055".into(), scope: "public".into(), source: "stun".into() };
    let task = answering(&one, &replica, move |command| {
        let Command::Paths(PathsCommand { host_ids, measure, .. }) = command else { return None };
        let report = |host_id| PathReport {
            host_id,
            scope: "public".into(),
            endpoint: endpoint.address.clone(),
            rtt_us: if measure { 4_300 } else { 4_200 },
            candidates: vec![endpoint.clone()],
            ..PathReport::default()
        };
        Some(CommandResult { paths: host_ids.into_iter().map(report).collect(), ..CommandResult::default() })
    })
    .await;
    let network = network_id("n");
    eventually("both members", async || (replica.agents.members(&network).ok()?.all().count() == 2).then_some(()))
        .await;
    for (round_trips, told) in [(RoundTrips::Known, 4_200), (RoundTrips::Measured, 4_300)] {
        let paths = replica.agents.paths(&network, |_| true, round_trips, Duration::from_secs(5)).await.unwrap();
        assert_eq!(paths.paths.iter().map(|path| path.rtt_us).collect::<Vec<_>>(), [told]);
        assert_eq!(paths.unreachable, [two.host.to_string()]);
    }
    let only_two = |host: &HostId| *host == two.host;
    let paths = replica.agents.paths(&network, only_two, RoundTrips::Known, Duration::from_secs(5)).await.unwrap();
    assert_eq!(paths, ListPathsResponse { paths: Vec::new(), unreachable: vec![two.host.to_string()] });

    let explained = replica.agents.explain(&network, &one.host, &two.host, Duration::from_secs(5)).await.unwrap();
    let best = &explained.candidates[0];
    assert_eq!((best.endpoint.as_str(), best.state.as_str(), best.rtt_us), ("198.51.100.9:8055", "in use", 4_200));

    assert!(explained.summary.contains("knows no prices"), "{}", explained.summary);
    assert_eq!(explained.basic.unwrap().endpoint, best.endpoint);
    assert!(best.price.is_some() && best.return_price.is_some() && !explained.tariff_version.is_empty());

    let explained = replica.agents.explain(&network, &two.host, &one.host, Duration::from_secs(5)).await.unwrap();
    assert_eq!(explained.candidates[0].endpoint, "192.0.2.1:8055");
    assert!(explained.summary.contains("not connected"), "{}", explained.summary);

    let nobody = replica.agents.explain(&network, &one.host, &host_id("nobody"), Duration::from_secs(5)).await;
    assert_eq!(tonic::Status::from(nobody.unwrap_err()).code(), Code::NotFound);
    task.abort();
}

#[tokio::test]
async fn only_an_agent_that_is_there_answers() {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let (there, asleep) = two_agents(&house, &replica).await;
    let tasks = [
        answering(&there, &replica, |_| Some(CommandResult::default())).await,
        answering(&asleep, &replica, |_| None).await,
    ];
    assert!(replica.agents.answers(&network_id("n"), &there.host, soon()).await);
    let shortly = Instant::now() + Duration::from_millis(200);
    assert!(!replica.agents.answers(&network_id("n"), &asleep.host, shortly).await);
    tasks.iter().for_each(JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_silent_agent_is_not_waited_for_until_the_deadline_of_all() {
    let now = Instant::now();
    assert_eq!(turn(now + Duration::from_secs(60)), now + ANSWER_TIME);
    assert_eq!(turn(now + Duration::from_secs(1)), now + Duration::from_secs(1));
}
