//! What a machine, a bastion or a person that is slow may cost others: nothing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cladnet_store::{DecodeError, Listing, Revision, Undecodable, Versioned};

use super::{
    super::{has_open_machine, journal::Journal},
    *,
};

/// Takes connections and says nothing, or hangs up on them.
struct Mute {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Holds,
    HangsUp,
}

impl Mute {
    async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, taken) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = taken.clone();
        let server = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                if then == Then::Holds {
                    held.push(stream);
                }
            }
        });
        Self { address, taken, _server: AbortOnDropHandle::new(server) }
    }

    /// A machine there whose key is known, and some behind it.
    fn bastion_of(&self, behind: usize) -> Vec<(DeploymentHost, Zeroizing<Vec<u8>>)> {
        let pin = Fingerprint::of(b"a key").to_string().parse().unwrap();
        let (address, port) = (self.address.ip().to_string(), self.address.port());
        let target = SshTarget { address, port, user: "nobody".into(), host_key: Some(pin) };
        let inner = |n: usize| {
            let target = SshTarget { address: format!("10.0.0.{n}"), ..target.clone() };
            DeploymentHost { bastion: Some(name("bastion")), ..host(&format!("inner-{n}"), target) }
        };
        let all = std::iter::once(host("bastion", target.clone())).chain((1..=behind).map(inner));
        all.map(|host| (host, foreign_key())).collect()
    }
}

#[tokio::test]
async fn what_a_machine_says_too_much_of_does_not_keep_it_from_ending() {
    let bench = Bench::new().await;
    let deployment = bench.deploy(&[], 1).await;
    let claim = Arc::new(bench.claim(&deployment).await);
    let journal = Journal::open(claim, name("a"), CancellationToken::new()).await.unwrap();
    let endless = "\"".repeat(1_000_000);
    journal.change(|progress| (progress.system, progress.agent_version) = (endless.clone(), endless)).await.unwrap();
    tokio::time::timeout(SOON, journal.end(Ok(()))).await.expect("an end");
    assert_eq!(bench.progress(&deployment, "a").await.state, DeploymentState::Done);
}

#[tokio::test]
async fn deployments_that_wait_for_a_person_hold_up_nobody() {
    let (bench, sshd) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let machines = [(host("shows", sshd.target()), sshd.user_key("ed25519"))];
    let mut waiting = Vec::new();
    for _ in 0..12 {
        waiting.push(bench.deploy(&machines, 1).await);
    }
    let _replica = bench.replica();
    for deployment in &waiting {
        bench.wait_for(deployment, "shows", DeploymentState::ConfirmHostKey).await;
    }
}

#[tokio::test]
async fn a_dead_bastion_is_tried_once_for_all_behind_it() {
    let (bench, bastion) = (Bench::new().await, Mute::start(Then::HangsUp).await);
    let machines = bastion.bastion_of(20);
    let deployment = bench.deploy(&machines[1..], 5).await;
    bench.store.put(&key::deployment_host(&deployment.id, &name("bastion")), &machines[0].0).await.unwrap();
    let credential = key::deployment_credential(&deployment.id, &name("bastion"));
    bench.store.create_sealed(&credential, &foreign_key()).await.unwrap();
    let _replica = bench.replica();
    for (machine, _) in &machines[1..] {
        let failed = bench.wait_for(&deployment, machine.name.as_str(), DeploymentState::Failed).await.failure.unwrap();
        assert_eq!(failed.reason, FailureReason::BastionFailed, "{failed:?}");
    }
    assert_eq!(bastion.taken.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn who_waits_for_a_silent_bastion_is_cancelled_at_once() {
    let (bench, bastion) = (Bench::new().await, Mute::start(Then::Holds).await);
    let machines = bastion.bastion_of(5);
    let deployment = bench.deploy(&machines, 10).await;
    let _replica = bench.replica();
    for (machine, _) in &machines {
        bench.wait_for(&deployment, machine.name.as_str(), DeploymentState::Connecting).await;
    }
    let cancelled = Deployment { cancelled_at: Some(Timestamp::now()), ..deployment.clone() };
    bench.store.put(&key::deployment(&deployment.id), &cancelled).await.unwrap();
    for (machine, _) in &machines {
        bench.wait_for(&deployment, machine.name.as_str(), DeploymentState::Cancelled).await;
    }
    bench.wait_for_end(&deployment).await;
}

#[tokio::test]
async fn progress_that_nobody_can_read_is_nobodys_work() {
    let bench = Bench::new().await;
    let head = bench.deploy(&[], 1).await;
    let deployment = Deployment { hosts: ["done", "newer", "open"].map(name).into(), ..head };
    let place = |machine: &str| key::deployment_progress(&deployment.id, &name(machine));
    let revision = Revision::from(1);
    let value = DeploymentProgress { state: DeploymentState::Done, ..DeploymentProgress::default() };
    let error = DecodeError::Newer { found: 2 };
    let known = Listing {
        items: vec![Versioned { key: place("done"), value, created: revision, modified: revision }],
        undecodable: vec![Undecodable { key: place("newer").path().to_owned(), error }],
        revision,
    };
    assert!(has_open_machine(&deployment, &known));
    assert!(!has_open_machine(&Deployment { hosts: ["done", "newer"].map(name).into(), ..deployment }, &known));
}
