//! Many agents on one replica: whoever changes something does it once, and everybody is told, within bounds. What is
//! asserted must hold on any machine; the figures are printed, and are worth something with `CLADNET_SWARM=1000`, an
//! optimised build and a machine that does nothing else: `cargo test --release -p cladnet-service swarm -- --nocapture`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cladnet_model::{HostId, SetDigest};
use cladnet_proto::cladnet::v1::{
    AgentMessage, Hello, MembershipConfig, ServiceMessage, agent_message::Message as Said,
    service_message::Message as Told,
};
use cladnet_store::key;
use futures_util::{Stream, StreamExt as _, future::join_all, stream};
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Duration, Instant, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{
    identity::Caller,
    stream::{Patience, start},
    testing::*,
};

/// Enough to show what is not proportional; more by `CLADNET_SWARM`.
fn swarm_size() -> usize {
    std::env::var("CLADNET_SWARM").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Machines that join at the same moment.
const WORKERS: usize = 50;

/// What all agents of a swarm have, for whoever waits for them.
#[derive(Default)]
struct Progress {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Agents, each on a task that applies and checks every message.
#[derive(Default)]
struct Swarm {
    peers: Vec<watch::Receiver<usize>>,
    progress: Arc<Progress>,
}

impl Swarm {
    /// Without TLS in between.
    async fn connect(replica: &Replica, hosts: &[HostId]) -> Self {
        let progress = Arc::<Progress>::default();
        let mut peers = Vec::new();
        for id in hosts {
            let found = replica.shared().parts.store.get(&key::host(id)).await.unwrap().unwrap();
            let caller = Caller { host: found.value, revision: found.modified, valid_for: Duration::from_secs(3_600) };
            let (said, heard) = mpsc::channel(4);
            let told =
                start(replica.agents.shared.clone(), caller, None, ReceiverStream::new(heard), Patience::default());
            let (sender, receiver) = watch::channel(0);
            said.try_send(Ok(hello())).unwrap();
            let say = move |message| drop(said.try_send(Ok(message)));
            tokio::spawn(live(id.clone(), say, told, sender, progress.clone()));
            peers.push(receiver);
        }
        Self { peers, progress }
    }
}

/// Waits until every agent has so many peers; gives the time each took, in order.
async fn reach(agents: &mut [watch::Receiver<usize>], count: usize, since: Instant) -> Vec<Duration> {
    let waits = agents.iter_mut().map(|peers| async move {
        let reached = tokio::time::timeout(DEADLINE * 4, peers.wait_for(|peers| *peers == count)).await;
        reached.unwrap_or_else(|_| panic!("not every agent has {count} peers")).unwrap();
        since.elapsed()
    });
    let mut times = join_all(waits).await;
    times.sort_unstable();
    times
}

async fn live(
    host: HostId,
    say: impl Fn(AgentMessage),
    mut told: impl Stream<Item = Result<ServiceMessage, Status>> + Unpin,
    peers: watch::Sender<usize>,
    progress: Arc<Progress>,
) {
    let mut copy = LightCopy::default();
    let mut pings = interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            message = told.next() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    ended => return println!("the stream of {host} ended: {ended:?}"),
                };
                let length = message.encoded_len() as u64;
                if copy.apply(&host, message.message.unwrap()) {
                    progress.messages.fetch_add(1, Ordering::Relaxed);
                    progress.bytes.fetch_add(length, Ordering::Relaxed);
                }
                let count = copy.peers.len();
                peers.send_if_modified(|known| std::mem::replace(known, count) != count);
            }
            _ = pings.tick() => say(AgentMessage { message: Some(Said::Ping(())) }),
        }
    }
}

fn hello() -> AgentMessage {
    let hello = Hello { facts: Some((&facts(8055)).into()), applied: Vec::new(), ..Hello::default() };
    AgentMessage { message: Some(Said::Hello(hello)) }
}

/// What an agent checks, without what it keeps: a thousand of them share this machine with the replica.
#[derive(Default)]
struct LightCopy {
    revision: i64,
    membership: Vec<u8>,
    peers: BTreeMap<String, Vec<u8>>,
    digest: SetDigest,
}

impl LightCopy {
    /// Whether the message was about the network.
    fn apply(&mut self, host: &HostId, message: Told) -> bool {
        let (count, digest) = match message {
            Told::Snapshot(snapshot) => {
                *self = Self { revision: snapshot.revision, ..Self::default() };
                self.configure(host, snapshot.membership);
                snapshot.peers.into_iter().for_each(|peer| self.set(peer.host_id, Some(peer.fingerprint)));
                (snapshot.count, snapshot.digest)
            }
            Told::Delta(delta) => {
                assert_eq!(delta.base_revision, self.revision);
                self.revision = delta.revision;
                self.configure(host, delta.membership);
                delta.removals.into_iter().for_each(|host| self.set(host, None));
                delta.upserts.into_iter().for_each(|peer| self.set(peer.host_id, Some(peer.fingerprint)));
                (delta.count, delta.digest)
            }
            _ => return false,
        };
        assert_eq!((self.peers.len(), &self.digest.as_bytes()[..]), (count as usize, &digest[..]));
        true
    }

    fn configure(&mut self, host: &HostId, membership: Option<MembershipConfig>) {
        let Some(membership) = membership else { return };
        if !self.membership.is_empty() {
            self.digest.toggle(host.as_str(), &self.membership);
        }
        self.membership = membership.fingerprint;
        self.digest.toggle(host.as_str(), &self.membership);
    }

    fn set(&mut self, host: String, fingerprint: Option<Vec<u8>>) {
        if let Some(old) = self.peers.remove(&host) {
            self.digest.toggle(&host, &old);
        }
        if let Some(new) = fingerprint {
            self.digest.toggle(&host, &new);
            self.peers.insert(host, new);
        }
    }
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent).div_ceil(100).max(1) - 1]
}

/// Hosts in network `n` with addresses, written directly.
async fn populate(house: &House, agents: usize) -> Vec<HostId> {
    let mut hosts = Vec::new();
    for chunk in (0..agents).collect::<Vec<_>>().chunks(30) {
        let mut transaction = house.store.transaction();
        for number in chunk {
            let id = format!("h-{number}");
            let mut membership = membership("n", &id, 1);
            membership.public_key = cladnet_model::PublicKey(rand::random());
            let address = std::net::Ipv4Addr::from_bits(0x0a4d_0001 + u32::try_from(*number).unwrap());
            let peer = cladnet_model::Peer { address: Some(address), ..peer("n", &id, 1) };
            transaction = transaction
                .put(&key::host(&membership.host), &host(&id))
                .put(&key::membership(&membership.network, &membership.host), &membership)
                .put(&key::peer(&membership.network, &membership.host), &peer);
            hosts.push(membership.host);
        }
        transaction.commit().await.unwrap();
    }
    hosts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_reaches_every_agent_in_one_small_message_each() {
    let agents = swarm_size();
    let house = House::with_network("n").await;
    let hosts = populate(&house, agents).await;
    let replica = house.replica().await;
    let connecting = Instant::now();
    let mut swarm = Swarm::connect(&replica, &hosts).await;
    let connected = reach(&mut swarm.peers, agents - 1, connecting).await;
    println!("{agents} agents connected and have every peer after {:?}", percentile(&connected, 100));
    let present = async || house.store.list(&key::presences()).await.unwrap().items.len();
    eventually("presence of all", async || (present().await == agents).then_some(())).await;

    let mut all = Vec::new();
    let moved = &hosts[7];
    let mut others: Vec<_> =
        swarm.peers.iter().zip(&hosts).filter(|(_, host)| *host != moved).map(|(p, _)| p.clone()).collect();
    for _ in 0..10 {
        let before = swarm.progress.messages.load(Ordering::Relaxed);
        let bytes = swarm.progress.bytes.load(Ordering::Relaxed);
        let key = key::peer(&network_id("n"), moved);
        let found = house.store.get(&key).await.unwrap().unwrap();
        // Gone and back: what each agent has can be counted.
        let started = Instant::now();
        house.store.delete(&key, found.modified).await.unwrap();
        all.extend(reach(&mut others, agents - 2, started).await);
        let started = Instant::now();
        house.store.create(&key, &found.value).await.unwrap();
        all.extend(reach(&mut others, agents - 1, started).await);
        let messages = swarm.progress.messages.load(Ordering::Relaxed) - before;
        let bytes = swarm.progress.bytes.load(Ordering::Relaxed) - bytes;
        assert!(messages <= 3 * agents as u64, "{messages} messages for two changes");
        assert!(bytes <= 3 * 400 * agents as u64, "{bytes} bytes for two changes");
    }
    all.sort_unstable();
    println!(
        "a change reaches {} agents: p50 {:?}, p99 {:?}, max {:?}",
        agents - 1,
        percentile(&all, 50),
        percentile(&all, 99),
        percentile(&all, 100)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_machines_join_with_one_token_and_a_storm_of_addresses_comes_in_pieces() {
    let agents = swarm_size().next_multiple_of(WORKERS);
    let house = Arc::new(House::with_network("n").await);
    let replica = Arc::new(house.replica().await);
    let token = Arc::new(house.token("n", u32::try_from(agents).unwrap(), replica.ca).await);
    let revision = || async { house.store.list(&key::networks()).await.unwrap().revision.get() };
    let (started, before) = (Instant::now(), revision().await);
    let workers = (0..WORKERS).map(|_| {
        let (replica, token) = (replica.clone(), token.clone());
        tokio::spawn(async move {
            let mut hosts = Vec::new();
            for _ in 0..agents.div_ceil(WORKERS) {
                let machine = Machine::new();
                let enrolled = replica.shared().enrol(machine.request(&token), None).await.unwrap();
                hosts.push(enrolled.host_id.parse().unwrap());
            }
            hosts
        })
    });
    let hosts: Vec<HostId> = join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
    let (joined, after) = (started.elapsed(), revision().await);
    println!("{agents} joins in {joined:?}, {} revisions", after - before);
    assert_eq!(house.hosts().await, agents);
    assert_eq!(house.uses_left(token.id()).await, 0);
    assert!(after - before <= agents as i64 + 1, "one transaction for each join");

    let connecting = Instant::now();
    let mut swarm = Swarm::connect(&replica, &hosts).await;
    // The controller comes late, and gives addresses one by one: a storm of changes.
    house.assign_addresses(&network_id("n")).await;
    let told = reach(&mut swarm.peers, agents - 1, connecting).await;
    println!(
        "{agents} addresses given one by one while {agents} agents connect: everybody has every peer after {:?}, {} messages",
        percentile(&told, 100),
        swarm.progress.messages.load(Ordering::Relaxed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_join_and_stay_in_sync_over_tls() {
    let agents = swarm_size() / 4;
    let house = House::with_network("n").await;
    let replica = house.replica().await;
    let token = house.token("n", u32::try_from(agents).unwrap(), replica.ca).await;
    let started = Instant::now();
    let joins = (0..agents).map(|_| async {
        let machine = Machine::new();
        let enrolled = eventually("a turn to enrol", async || match machine.enrol(&replica, &token).await {
            Ok(enrolled) => Some(enrolled),
            Err(status) if status.code() == Code::ResourceExhausted => None,
            Err(status) => panic!("{status:?}"),
        })
        .await;
        (machine, enrolled)
    });
    let joined: Vec<_> = stream::iter(joins).buffer_unordered(WORKERS).collect().await;
    println!("{agents} joins over TLS in {:?}", started.elapsed());

    let started = Instant::now();
    let mut swarm = Swarm::default();
    for (machine, enrolled) in joined {
        let (said, heard) = mpsc::channel(4);
        said.try_send(hello()).unwrap();
        let mut client = replica.client(&enrolled.certificate, &machine.key).await;
        let told = client.sync(ReceiverStream::new(heard)).await.unwrap().into_inner();
        let (sender, receiver) = watch::channel(0);
        let say = move |message| drop(said.try_send(message));
        let host = enrolled.host_id.parse().unwrap();
        tokio::spawn(live(host, say, told, sender, swarm.progress.clone()));
        swarm.peers.push(receiver);
    }
    house.assign_addresses(&network_id("n")).await;
    reach(&mut swarm.peers, agents - 1, started).await;
    println!("{agents} agents over TLS have every peer after {:?}", started.elapsed());
}
