//! What a replica does when a part of it ends that it cannot live without.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use cladnet_model::{CommandId, CommandRecord, CommandState, HostId};
use cladnet_store::key;
use jiff::Timestamp;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::agents::testing::{DEADLINE, House, eventually};

/// A replica that runs, and hears of the store.
async fn running(store: &Store, clock: Clock) -> JoinHandle<Result<(), StartError>> {
    let listen_addr = "127.0.0.1:0".parse().expect("an address");
    let config = Config { listen_addr, stun_addr: None, ..Config::default() };
    let server = Server::bind_with_clock(config, store.clone(), clock).await.expect("a replica");
    let agents = server.agents().clone();
    let running = tokio::spawn(server.run(CancellationToken::new()));
    eventually("a view of the store", async || agents.has_view().then_some(())).await;
    running
}

async fn end(running: JoinHandle<Result<(), StartError>>) -> StartError {
    let ended = timeout(DEADLINE, running).await.expect("the replica goes on").expect("the panic was caught");
    ended.expect_err("nobody told it to end")
}

#[tokio::test]
async fn a_replica_ends_when_its_store_does() {
    let house = House::new().await;
    let running = running(&house.store, Clock::default()).await;
    house.store.clone().close().await.expect("closes");
    let error = end(running).await;
    assert!(matches!(error, StartError::Ended { part } if part.contains("view of the store")), "{error}");
}

#[tokio::test]
async fn a_replica_ends_with_a_word_when_a_vital_part_panics() {
    static BROKEN: AtomicBool = AtomicBool::new(false);
    let house = House::new().await;
    let clock = Clock::new(|| match BROKEN.load(Ordering::Relaxed) {
        true => panic!("no time like the present"),
        false => Timestamp::now(),
    });
    let running = running(&house.store, clock).await;
    BROKEN.store(true, Ordering::Relaxed);
    // The view's follower looks at the clock for every command.
    let command = CommandRecord {
        id: CommandId::generate([1; 10]),
        host: HostId::generate([2; 10]),
        payload: String::new(),
        requested_by: "test".to_owned(),
        deadline: Timestamp::now() + Duration::from_secs(60),
        state: CommandState::Pending,
    };
    house.store.create(&key::command(&command.host, &command.id), &command).await.expect("a command");
    let error = end(running).await;
    assert!(matches!(error, StartError::Panicked { .. }), "{error}");
    assert!(error.to_string().contains("no time like the present"), "{error}");
}
