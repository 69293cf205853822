//! Deployments of an embedded store, and a real `sshd`. The service of these tests refuses everything, so that no machine
//! gets further than being looked at: what comes after that needs machines that may be changed.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use cladnet_model::{
    Deployment, DeploymentHost, DeploymentId, DeploymentProgress, MachineName,
    deployment::{
        DeploymentAction, DeploymentState, FailureReason, Fingerprint, LINE_CHARACTERS, PinnedHostKey, SshTarget,
        Transcript, Via,
    },
};
use cladnet_proto::cladnet::v1::{
    Info,
    system_service_server::{SystemService, SystemServiceServer},
};
use cladnet_store::{EmbeddedOptions, Store, key};
use futures_util::future::{BoxFuture, ready};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::{
    Request, Response, Status,
    transport::{Endpoint, Server},
};
use zeroize::Zeroizing;

use super::claim::{Claim, WriteError};
use crate::{
    AddressError, AddressRule, Config, ServiceAccess,
    remote::testing::{Anywhere, Sshd, foreign_key},
};

mod limits;
mod reconnecting;

const SOON: Duration = Duration::from_secs(30);

struct Refusing;

#[tonic::async_trait]
impl SystemService for Refusing {
    async fn get_info(&self, _: Request<()>) -> Result<Response<Info>, Status> {
        Err(Status::failed_precondition("this service is for tests"))
    }
}

/// A store, and a service that refuses.
struct Bench {
    store: Store,
    service: ServiceAccess,
    _server: AbortOnDropHandle<()>,
    _directory: TempDir,
}

/// A running provisioner; it dies when it is dropped.
type Replica = AbortOnDropHandle<()>;

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path().join("store"))).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = Server::builder()
            .add_service(SystemServiceServer::new(Refusing))
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = AbortOnDropHandle::new(tokio::spawn(async move { serving.await.unwrap() }));
        let channel = Endpoint::from_shared(url).unwrap().connect_lazy();
        let service = ServiceAccess::new(channel, Some("cladnet_key_test")).unwrap();
        Self { store, service, _server: server, _directory: directory }
    }

    fn replica(&self) -> Replica {
        self.replica_that_asks(Anywhere)
    }

    fn replica_that_asks(&self, addresses: impl AddressRule + 'static) -> Replica {
        let config = Config {
            store: self.store.clone(),
            service: self.service.clone(),
            service_urls: vec!["https://192.0.2.1:8053".into()],
            addresses: Arc::new(addresses),
            agent_dir: Some("/nonexistent".into()),
            lease: crate::LEASE,
            fail_point: None,
        };
        let run = crate::run(config, CancellationToken::new());
        AbortOnDropHandle::new(tokio::spawn(async move { run.await.unwrap() }))
    }

    async fn deploy(&self, hosts: &[(DeploymentHost, Zeroizing<Vec<u8>>)], concurrency: u32) -> Deployment {
        let id = DeploymentId::generate(rand::random());
        for (host, private_key) in hosts {
            self.store.put(&key::deployment_host(&id, &host.name), host).await.unwrap();
            let credential = key::deployment_credential(&id, &host.name);
            self.store.create_sealed(&credential, private_key).await.unwrap();
        }
        let deployment = Deployment {
            id: id.clone(),
            network: "prod".parse().unwrap(),
            action: DeploymentAction::Install,
            hosts: hosts.iter().map(|(host, _)| host.name.clone()).collect(),
            concurrency,
            accept_new_host_keys: false,
            keep_credentials: false,
            created_at: Timestamp::now(),
            created_by: "key-a".parse().unwrap(),
            cancelled_at: None,
            finished_at: None,
        };
        self.store.create(&key::deployment(&id), &deployment).await.unwrap();
        deployment
    }

    async fn claim(&self, deployment: &Deployment) -> Claim {
        let lease = Arc::new(self.store.grant(SOON).await.unwrap());
        let head = self.store.get(&key::deployment(&deployment.id)).await.unwrap().unwrap();
        Claim::take(&self.store, &lease, head, "first").await.unwrap().unwrap()
    }

    async fn progress(&self, of: &Deployment, machine: &str) -> DeploymentProgress {
        let found = self.store.get(&key::deployment_progress(&of.id, &name(machine))).await.unwrap();
        found.map(|found| found.value).unwrap_or_default()
    }

    async fn transcript(&self, of: &Deployment, machine: &str) -> Transcript {
        let found = self.store.get(&key::deployment_transcript(&of.id, &name(machine))).await.unwrap();
        found.map(|found| found.value).unwrap_or_default()
    }

    async fn wait_for(&self, of: &Deployment, machine: &str, state: DeploymentState) -> DeploymentProgress {
        eventually(&format!("{machine} to be {state}"), async || {
            let progress = self.progress(of, machine).await;
            if progress.state == state { Ok(progress) } else { Err(format!("{progress:?}")) }
        })
        .await
    }

    async fn replica_at_work(&self, of: &Deployment) -> Option<String> {
        let claim = self.store.get(&key::deployment_claim(&of.id)).await.unwrap();
        claim.map(|claim| claim.value.replica)
    }

    async fn confirm(&self, of: &Deployment, host: &DeploymentHost, shown: Fingerprint) {
        let confirmed_by = Some("key-b".parse().unwrap());
        let confirmed = DeploymentHost { confirmed: Some(shown), confirmed_by, ..host.clone() };
        self.store.put(&key::deployment_host(&of.id, &host.name), &confirmed).await.unwrap();
    }

    /// Nothing of the work is left but its progress.
    async fn wait_for_end(&self, of: &Deployment) {
        eventually("claim and private keys to go", async || {
            let keys = self.store.list(&key::deployment_credentials(&of.id)).await.unwrap().items.len();
            match self.replica_at_work(of).await {
                None if keys == 0 => Ok(()),
                claim => Err(format!("{claim:?}, {keys} keys")),
            }
        })
        .await;
    }
}

async fn eventually<T>(what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
    let end = Instant::now() + SOON;
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(why) if Instant::now() > end => panic!("waited {SOON:?} for {what}: {why}"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

fn name(text: &str) -> MachineName {
    text.parse().unwrap()
}

fn host(machine: &str, ssh: SshTarget) -> DeploymentHost {
    DeploymentHost {
        name: name(machine),
        ssh,
        bastion: None,
        labels: Default::default(),
        overlay_address: None,
        location: Default::default(),
        confirmed: None,
        confirmed_by: None,
    }
}

/// A machine that shows a key of its own, and one where nobody listens.
async fn two_machines(sshd: &Sshd) -> [(DeploymentHost, Zeroizing<Vec<u8>>); 2] {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = SshTarget { port: closed.port(), ..sshd.target() };
    [(host("shows", sshd.target()), sshd.user_key("ed25519")), (host("nobody", nobody), foreign_key())]
}

#[tokio::test]
async fn a_key_is_offered_confirmed_and_pinned_while_others_go_on() {
    let (bench, sshd) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let machines = two_machines(&sshd).await;
    let deployment = bench.deploy(&machines, 1).await;
    let _replica = bench.replica();

    let waiting = bench.wait_for(&deployment, "shows", DeploymentState::ConfirmHostKey).await;
    let failed = bench.wait_for(&deployment, "nobody", DeploymentState::Failed).await;
    assert_eq!(failed.failure.unwrap().reason, FailureReason::Unreachable);
    let shown = waiting.offered_key.expect("the key is offered with the state");
    assert_eq!(shown, sshd.host_key("ed25519"));
    assert!(!sshd.log().contains("userauth"), "{}", sshd.log());

    bench.confirm(&deployment, &machines[0].0, shown).await;
    let ended = bench.wait_for(&deployment, "shows", DeploymentState::Failed).await;
    let failure = ended.failure.unwrap();
    assert_eq!((failure.reason, failure.during), (FailureReason::Internal, DeploymentState::Inspecting), "{failure:?}");
    assert!(failure.detail.contains("this service is for tests"), "{failure:?}");
    assert_eq!(ended.offered_key, None);
    let pinned = bench.store.get(&key::host_key(&sshd.target().place())).await.unwrap().unwrap();
    assert_eq!((pinned.value.fingerprint, pinned.value.pinned_by.as_str()), (shown, "key-b"), "by whose word");
    bench.wait_for_end(&deployment).await;

    let told = bench.transcript(&deployment, "shows").await;
    assert!(told.as_str().contains("confirm-host-key") && told.as_str().contains("inspecting"), "{}", told.as_str());
    assert!(!told.as_str().contains("PRIVATE KEY"), "{}", told.as_str());
}

#[tokio::test]
async fn a_pinned_key_that_changed_ends_the_machine() {
    let (bench, sshd) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let record = PinnedHostKey {
        fingerprint: Fingerprint::of(b"another key"),
        algorithm: "ssh-ed25519".into(),
        pinned_at: Timestamp::now(),
        pinned_by: "key-a".into(),
        host: None,
    };
    bench.store.create(&key::host_key(&sshd.target().place()), &record).await.unwrap();
    let (shown, pin) = (sshd.host_key("ed25519"), sshd.host_key("ed25519").to_string().parse().unwrap());
    let given = SshTarget { host_key: Some(pin), ..sshd.target() };
    let confirmed = DeploymentHost { confirmed: Some(shown), ..host("confirmed", sshd.target()) };
    let key = sshd.user_key("ed25519");
    let machines =
        [(host("pinned", sshd.target()), key.clone()), (host("given", given), key.clone()), (confirmed, key)];
    let deployment = bench.deploy(&machines, 10).await;
    let _replica = bench.replica();
    for machine in ["pinned", "given", "confirmed"] {
        let failure = bench.wait_for(&deployment, machine, DeploymentState::Failed).await.failure.unwrap();
        assert_eq!(failure.reason, FailureReason::HostKeyChanged, "{machine}: {failure:?}");
    }
    assert!(!sshd.log().contains("userauth"), "{}", sshd.log());
}

#[tokio::test]
async fn what_waits_is_cancelled_and_keys_are_forgotten() {
    let (bench, sshd) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let deployment = bench.deploy(&two_machines(&sshd).await, 10).await;
    let _replica = bench.replica();
    bench.wait_for(&deployment, "shows", DeploymentState::ConfirmHostKey).await;
    let cancelled = Deployment { cancelled_at: Some(Timestamp::now()), ..deployment.clone() };
    bench.store.put(&key::deployment(&deployment.id), &cancelled).await.unwrap();
    bench.wait_for(&deployment, "shows", DeploymentState::Cancelled).await;
    bench.wait_for_end(&deployment).await;
}

#[tokio::test]
async fn one_replica_works_and_another_goes_on_after_it() {
    let (bench, sshd) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let machines = two_machines(&sshd).await;
    let deployment = bench.deploy(&machines, 10).await;
    let first = bench.replica();
    bench.wait_for(&deployment, "shows", DeploymentState::ConfirmHostKey).await;
    let holder = bench.replica_at_work(&deployment).await.unwrap();
    let _second = bench.replica();
    drop(first);
    eventually("the other replica to take over", async || match bench.replica_at_work(&deployment).await {
        Some(other) if other != holder => Ok(()),
        claim => Err(format!("{claim:?}")),
    })
    .await;
    bench.confirm(&deployment, &machines[0].0, sshd.host_key("ed25519")).await;
    bench.wait_for(&deployment, "shows", DeploymentState::Failed).await;
    bench.wait_for_end(&deployment).await;
}

#[tokio::test]
async fn a_replica_that_lost_its_claim_writes_nothing() {
    let bench = Bench::new().await;
    let deployment = bench.deploy(&[], 1).await;
    let lease = Arc::new(bench.store.grant(SOON).await.unwrap());
    let head = bench.store.get(&key::deployment(&deployment.id)).await.unwrap().unwrap();
    let take = async |replica| Claim::take(&bench.store, &lease, head.clone(), replica).await.unwrap();
    let claim = take("first").await.unwrap();
    assert!(take("second").await.is_none(), "it is taken");
    bench.store.transaction().delete(&key::deployment_claim(&deployment.id)).commit().await.unwrap();
    let _second = take("second").await.unwrap();
    let progress = key::deployment_progress(&deployment.id, &name("a"));
    let late = claim.commit(claim.transaction().put(&progress, &DeploymentProgress::default())).await;
    assert!(matches!(late, Err(WriteError::Lost)));
    assert_eq!(bench.store.get(&progress).await.unwrap(), None);
    assert!(matches!(claim.release().await, Err(WriteError::Lost)), "nor does it take the other's claim away");
}

/// A mistake of ours, in whatever is done with one address.
struct PanicsAt(Ipv4Addr);

impl AddressRule for PanicsAt {
    fn check(&self, address: IpAddr, _: Via) -> BoxFuture<'_, Result<(), AddressError>> {
        assert_ne!(address, self.0, "a mistake that this test makes");
        Box::pin(ready(Ok(())))
    }
}

#[tokio::test]
async fn a_panic_at_one_machine_fails_that_machine_only() {
    let (bench, sshd) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let elsewhere = Ipv4Addr::new(127, 0, 0, 9);
    let odd = SshTarget { address: elsewhere.to_string(), ..sshd.target() };
    let machines = [(host("odd", odd), foreign_key()), (host("shows", sshd.target()), sshd.user_key("ed25519"))];
    let _replica = bench.replica_that_asks(PanicsAt(elsewhere));
    for _ in 0..2 {
        let deployment = bench.deploy(&machines, 1).await;
        let failure = bench.wait_for(&deployment, "odd", DeploymentState::Failed).await.failure.unwrap();
        assert_eq!((failure.reason, failure.during), (FailureReason::Internal, DeploymentState::Connecting));
        assert!(failure.detail.contains("mistake of its own"), "{failure:?}");
        bench.wait_for(&deployment, "shows", DeploymentState::ConfirmHostKey).await;
        let cancelled = Deployment { cancelled_at: Some(Timestamp::now()), ..deployment.clone() };
        bench.store.put(&key::deployment(&deployment.id), &cancelled).await.unwrap();
        bench.wait_for_end(&deployment).await;
    }
}

#[tokio::test]
async fn what_a_machine_says_of_itself_is_shown_short_and_harmless() {
    let bench = Bench::new().await;
    let endless = "head -c 900000 /dev/zero | tr '\\0' x";
    let refuses = Sshd::that_runs(&format!("printf 'error=odd\\ndetail=\\033[2J\\342\\200\\256'; {endless}")).await;
    let boasts =
        Sshd::that_runs(&format!("printf 'os=\\033[2J\\342\\200\\256'; {endless}; printf '\\nend=yes\\n'")).await;
    let trusting = |machine: &str, sshd: &Sshd| {
        let pin = sshd.host_key("ed25519").to_string().parse().unwrap();
        (host(machine, SshTarget { host_key: Some(pin), ..sshd.target() }), sshd.user_key("ed25519"))
    };
    let deployment = bench.deploy(&[trusting("refuses", &refuses), trusting("boasts", &boasts)], 10).await;
    let _replica = bench.replica();
    let refused = bench.wait_for(&deployment, "refuses", DeploymentState::Failed).await.failure.unwrap();
    assert_eq!(refused.reason, FailureReason::UnsupportedSystem, "{refused:?}");
    let boasted = bench.wait_for(&deployment, "boasts", DeploymentState::Failed).await.system;
    for said in [refused.detail, boasted] {
        assert!(said.contains("[2J") && said.contains("xxx"), "{said}");
        assert!(said.chars().count() <= LINE_CHARACTERS + 1 && !said.contains(['\u{1b}', '\u{202e}']), "{said}");
    }
    for machine in ["refuses", "boasts"] {
        let told = bench.transcript(&deployment, machine).await;
        assert!(told.as_str().lines().all(|line| line.len() < 2 * LINE_CHARACTERS), "{}", told.as_str());
        assert!(told.as_str().contains("connecting"), "the beginning is still there: {}", told.as_str());
        assert!(!told.as_str().contains(['\u{1b}', '\u{202e}']));
    }
}

#[tokio::test]
async fn keys_that_shall_be_kept_are_kept() {
    let (bench, sshd) = (Bench::new().await, Sshd::start(&["ed25519"]).await);
    let deployment = bench.deploy(&two_machines(&sshd).await[1..], 1).await;
    let keeping = Deployment { keep_credentials: true, ..deployment.clone() };
    bench.store.put(&key::deployment(&deployment.id), &keeping).await.unwrap();
    let _replica = bench.replica();
    bench.wait_for(&deployment, "nobody", DeploymentState::Failed).await;
    eventually("the claim to go", async || bench.replica_at_work(&deployment).await.map_or(Ok(()), Err)).await;
    assert_eq!(bench.store.list(&key::deployment_credentials(&deployment.id)).await.unwrap().items.len(), 1);
}
