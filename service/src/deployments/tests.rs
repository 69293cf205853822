use std::collections::BTreeSet;

use cladnet_model::{
    Deployment, DeploymentHost, DeploymentId, DeploymentProgress, NetworkId,
    deployment::{DeploymentAction, DeploymentClaim, DeploymentState, SshTarget},
};
use cladnet_store::key;
use jiff::Timestamp;

use crate::{
    Service,
    agents::testing::{House, Replica, eventually},
};

const KEPT: i64 = 20;

/// A deployment of one machine, made in that second, with everything that belongs to it.
async fn made(house: &House, network: &str, second: i64, finished: bool) -> Deployment {
    let at = Timestamp::from_second(second).unwrap();
    let name = "a".parse().unwrap();
    let head = Deployment {
        id: DeploymentId::at(at, rand::random()),
        network: network.parse().unwrap(),
        action: DeploymentAction::Install,
        hosts: vec![name],
        concurrency: 1,
        accept_new_host_keys: false,
        keep_credentials: false,
        created_at: at,
        created_by: "key-a".parse().unwrap(),
        cancelled_at: None,
        finished_at: finished.then_some(at),
    };
    machine(house, &head).await;
    house.store.create(&key::deployment(&head.id), &head).await.unwrap();
    head
}

async fn machine(house: &House, of: &Deployment) {
    let ssh = SshTarget { address: "192.0.2.1".into(), port: 22, user: "debian".into(), host_key: None };
    let host = DeploymentHost {
        name: of.hosts[0].clone(),
        ssh,
        bastion: None,
        labels: Default::default(),
        overlay_address: None,
        location: Default::default(),
        confirmed: None,
        confirmed_by: None,
    };
    let progress = DeploymentProgress { state: DeploymentState::Done, ..Default::default() };
    let transaction = house.store.transaction();
    let transaction = transaction.put(&key::deployment_host(&of.id, &host.name), &host);
    let transaction = transaction.put(&key::deployment_transcript(&of.id, &host.name), &Default::default());
    let transaction = match of.finished_at {
        Some(_) => transaction.put(&key::deployment_progress(&of.id, &host.name), &progress),
        None => transaction,
    };
    transaction.put_sealed(&key::deployment_credential(&of.id, &host.name), b"a key").commit().await.unwrap();
}

/// How many records there are of a deployment, its head left out.
async fn records(house: &House, of: &Deployment) -> usize {
    let store = &house.store;
    store.list(&key::deployment_hosts(&of.id)).await.unwrap().items.len()
        + store.list(&key::deployment_progresses(&of.id)).await.unwrap().items.len()
        + store.list(&key::deployment_transcripts(&of.id)).await.unwrap().items.len()
        + credentials(house, of).await
}

async fn credentials(house: &House, of: &Deployment) -> usize {
    house.store.list(&key::deployment_credentials(&of.id)).await.unwrap().items.len()
}

async fn heads(service: &Service, network: &str) -> BTreeSet<DeploymentId> {
    let network: NetworkId = network.parse().unwrap();
    service.deployments(Some(&network)).await.unwrap().into_iter().map(|head| head.id).collect()
}

async fn house() -> (House, Replica) {
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    (house, replica)
}

#[tokio::test]
async fn the_last_finished_deployments_are_kept_and_older_ones_leave_nothing() {
    let (house, replica) = house().await;
    let running = made(&house, "n", 1, false).await;
    let mut finished = Vec::new();
    for second in 2..2 + KEPT + 2 {
        finished.push(made(&house, "n", second, true).await);
    }
    let of_none = made(&house, "gone", 1, true).await;
    replica.service.sweep(&mut BTreeSet::new()).await.unwrap();

    let (old, kept) = finished.split_at(2);
    for gone in old.iter().chain([&of_none]) {
        assert_eq!(records(&house, gone).await, 0, "{}", gone.id);
    }
    let expected = kept.iter().chain([&running]).map(|head| head.id.clone()).collect();
    assert_eq!(heads(&replica.service, "n").await, expected);
    assert_eq!(records(&house, &kept[0]).await, 3, "a machine, its progress and its transcript");
    assert_eq!(records(&house, &running).await, 3, "a machine, its transcript and its key");
}

#[tokio::test]
async fn keys_of_what_is_finished_are_forgotten_unless_they_shall_be_kept() {
    let (house, replica) = house().await;
    let (plain, kept) = (made(&house, "n", 1, true).await, made(&house, "n", 2, true).await);
    let keeping = Deployment { keep_credentials: true, ..kept.clone() };
    house.store.put(&key::deployment(&kept.id), &keeping).await.unwrap();
    replica.service.sweep(&mut BTreeSet::new()).await.unwrap();
    assert_eq!((credentials(&house, &plain).await, credentials(&house, &kept).await), (0, 1));
}

#[tokio::test]
async fn machines_without_a_deployment_go_at_the_second_look() {
    let (house, replica) = house().await;
    let orphan = made(&house, "n", 1, false).await;
    house.store.transaction().delete(&key::deployment(&orphan.id)).commit().await.unwrap();
    let mut suspects = BTreeSet::new();
    replica.service.sweep(&mut suspects).await.unwrap();
    assert_eq!(records(&house, &orphan).await, 3, "it may be one that is just being made");
    replica.service.sweep(&mut suspects).await.unwrap();
    assert_eq!(records(&house, &orphan).await, 0);
}

#[tokio::test]
async fn what_is_cancelled_ends_when_its_last_provisioner_is_gone() {
    let (house, replica) = house().await;
    let deployment = made(&house, "n", 1, false).await;
    let claim = key::deployment_claim(&deployment.id);
    house.store.put(&claim, &DeploymentClaim { replica: "p".to_owned() }).await.unwrap();
    replica.service.cancel_deployment(&deployment.id, "key-a").await.unwrap();
    assert!(!replica.service.deployment(&deployment.id).await.unwrap().is_finished(), "somebody is at it");
    house.store.transaction().delete(&claim).commit().await.unwrap();
    eventually("its end", async || {
        let shown = replica.service.deployment(&deployment.id).await.unwrap();
        let is_over = shown.is_finished() && credentials(&house, &deployment).await == 0;
        is_over.then(|| assert_eq!(shown.wire().hosts[0].state, "cancelled"))
    })
    .await;
}
