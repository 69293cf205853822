use crate::agents::testing::*;
use cladnet_store::{EmbeddedOptions, Store, key};

/// What is told of hosts that came and went, oldest first.
async fn told(house: &House) -> Vec<String> {
    let events = house.store.list(&key::events()).await.unwrap().items.into_iter().map(|event| event.value);
    let kinds = events.filter(|event| matches!(&event.kind[..], "host.online" | "host.offline"));
    kinds.map(|event| event.kind).collect()
}

async fn agents(house: &House, replica: &Replica, count: u32) -> Vec<Agent> {
    let token = house.token("n", count, replica.ca).await;
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(Machine::new().agent(replica, &token).await);
    }
    agents
}

/// When every replica has looked at everything that happened up to now.
async fn all_have_looked(house: &House, replicas: [&Replica; 2]) {
    for replica in replicas {
        let agent = agents(house, replica, 1).await.remove(0);
        let wire = agent.sync(replica).await.unwrap();
        present(replica, &agent.host).await;
        drop(wire);
        eventually("it has gone", async || {
            house.store.get(&key::stream(&agent.host)).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_hosts_of_a_replica_that_crashed_are_told_offline_once_by_those_that_live() {
    let house = House::with_network("n").await;
    let (crashes, one, other) = (house.replica().await, house.replica().await, house.replica().await);
    let agents = agents(&house, &crashes, 3).await;
    let mut wires = Vec::new();
    for agent in &agents {
        wires.push(agent.sync(&crashes).await.unwrap());
        present(&one, &agent.host).await;
        present(&other, &agent.host).await;
    }
    drop(crashes);
    eventually("all are told offline", async || (told(&house).await.len() == 6).then_some(())).await;
    all_have_looked(&house, [&one, &other]).await;
    let told: Vec<String> = told(&house).await.drain(..6).collect();
    assert_eq!(told, [["host.online"; 3], ["host.offline"; 3]].concat());
    assert!(house.store.list(&key::streams()).await.unwrap().items.is_empty());

    let _wire = agents[0].sync(&one).await.unwrap();
    eventually("it is told online again", async || (self::told(&house).await.last()? == "host.online").then_some(()))
        .await;
}

#[tokio::test]
async fn the_hosts_of_the_only_replica_are_told_offline_when_it_starts_again() {
    let directory = tempfile::tempdir().unwrap();
    let open = async || House::over(Store::open_embedded(EmbeddedOptions::new(directory.path())).await.unwrap());
    let house = open().await;
    house.create_network("n").await;
    let replica = house.replica().await;
    let agent = agents(&house, &replica, 1).await.remove(0);
    let wire = agent.sync(&replica).await.unwrap();
    present(&replica, &agent.host).await;
    drop((wire, replica));
    house.store.close().await.unwrap();

    let house = open().await;
    assert_eq!(told(&house).await, ["host.online"]);
    let again = house.replica().await;
    eventually("it is told offline", async || (told(&house).await == ["host.online", "host.offline"]).then_some(()))
        .await;
    let _wire = agent.sync(&again).await.unwrap();
    present(&again, &agent.host).await;
    assert_eq!(told(&house).await, ["host.online", "host.offline", "host.online"]);
}

#[tokio::test]
async fn a_host_that_moves_to_another_replica_before_its_own_is_missed_was_never_offline() {
    let house = House::with_network("n").await;
    let (one, other) = (house.replica().await, house.replica().await);
    let agent = agents(&house, &one, 1).await.remove(0);
    let _old = agent.sync(&one).await.unwrap();
    present(&other, &agent.host).await;
    let _new = agent.sync(&other).await.unwrap();
    eventually("the other replica has it", async || {
        let presence = house.store.get(&key::presence(&agent.host)).await.unwrap()?;
        (presence.value.replica == other.shared().parts.replica).then_some(())
    })
    .await;
    drop(one);
    let third = house.replica().await;
    all_have_looked(&house, [&other, &third]).await;
    assert_eq!(told(&house).await[..1], ["host.online"]);
    assert!(house.store.get(&key::stream(&agent.host)).await.unwrap().is_some());
}
