//! Random histories on both engines at once: every answer, every revision and every watch must be equal.
//!
//! `CLADNET_SEED=n` repeats the run that printed `n`; without it each run is a new one.

use std::{fmt::Debug, process::Command, time::Duration};

use cladnet_model::{Network, Token};
use cladnet_store::{AnyRecord, Batch, Key, Lease, Prefix, Revision, Store, StoreError, Watch, key};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::support::{EmbeddedFixture, EtcdFixture, id, network, soon, token};

const HISTORIES: usize = 1_000;
const STEPS: usize = 24;

/// The pools that keys are drawn from: few, so that histories collide; one id begins another.
const NETWORKS: [&str; 4] = ["a", "ab", "abc", "b"];
const TOKENS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Operation {
    Put(usize, u32),
    Create(usize, u32),
    Replace(usize, u32, Revision),
    Delete(usize, Revision),
    Transaction(Vec<Compare>, Vec<Part>),
    Get(usize),
    List,
    Grant,
    Revoke(usize),
    Watch(usize, Revision),
    Compact(Revision),
}

#[derive(Debug, Clone)]
enum Compare {
    Absent(usize),
    Exists(usize),
    Unchanged(usize, Revision),
}

#[derive(Debug, Clone)]
enum Part {
    Network(usize, u32),
    Token(usize, u32),
    /// A token that hangs on a lease.
    Leased(usize, u32, usize),
    DeleteNetwork(usize),
    DeleteToken(usize),
}

fn network_key(index: usize) -> Key<Network> {
    key::network(&id(NETWORKS[index]))
}

fn token_key(index: usize) -> Key<Token> {
    key::token(&TOKENS[index].parse().unwrap())
}

/// One engine, and what a history holds of it.
struct Side {
    store: Store,
    leases: Vec<Option<Lease>>,
    watches: Vec<Watch<AnyRecord>>,
    told: Vec<Vec<Batch<AnyRecord>>>,
}

impl Side {
    fn new(store: Store) -> Self {
        Self { store, leases: Vec::new(), watches: Vec::new(), told: Vec::new() }
    }

    /// Carries out one operation; the answer as text, so that both sides' can be compared.
    async fn carry_out(&mut self, operation: &Operation) -> String {
        let store = &self.store;
        match operation {
            Operation::Put(at, value) => say(store.put(&network_key(*at), &named(*at, *value)).await),
            Operation::Create(at, value) => say(store.create(&network_key(*at), &named(*at, *value)).await),
            Operation::Replace(at, value, revision) => {
                say(store.replace(&network_key(*at), &named(*at, *value), *revision).await)
            }
            Operation::Delete(at, revision) => say(store.delete(&network_key(*at), *revision).await),
            Operation::Transaction(compares, parts) => say(self.transact(compares, parts).await),
            Operation::Get(at) => say(store.get(&network_key(*at)).await),
            Operation::List => say(store.list(&key::everything()).await),
            Operation::Grant => {
                self.leases.push(Some(store.grant(Duration::from_secs(600)).await.unwrap()));
                String::new()
            }
            Operation::Revoke(lease) => match self.leases.get_mut(*lease).and_then(Option::take) {
                Some(lease) => say(lease.revoke().await),
                None => String::new(),
            },
            Operation::Watch(prefix, after) => self.watch(*prefix, *after).await,
            Operation::Compact(revision) => say(store.compact(*revision).await),
        }
    }

    async fn transact(&self, compares: &[Compare], parts: &[Part]) -> Result<Revision, StoreError> {
        let mut transaction = self.store.transaction();
        for compare in compares {
            transaction = match compare {
                Compare::Absent(at) => transaction.absent(&network_key(*at)),
                Compare::Exists(at) => transaction.exists(&network_key(*at)),
                Compare::Unchanged(at, revision) => transaction.unchanged(&network_key(*at), *revision),
            };
        }
        for part in parts {
            transaction = match part {
                Part::Network(at, value) => transaction.put(&network_key(*at), &named(*at, *value)),
                Part::Token(at, value) => transaction.put(&token_key(*at), &token(TOKENS[*at], *value)),
                Part::Leased(at, value, lease) => match self.leases.get(*lease).and_then(Option::as_ref) {
                    Some(lease) => transaction.put_leased(&token_key(*at), &token(TOKENS[*at], *value), lease),
                    None => transaction,
                },
                Part::DeleteNetwork(at) => transaction.delete(&network_key(*at)),
                Part::DeleteToken(at) => transaction.delete(&token_key(*at)),
            };
        }
        transaction.commit().await
    }

    /// Prefixes of several kinds are watched as records of any kind, so that all watches are of one type.
    async fn watch(&mut self, prefix: usize, after: Revision) -> String {
        match self.store.watch(&self.prefix(prefix), after).await {
            Ok(watch) => {
                self.watches.push(watch);
                self.told.push(Vec::new());
                "watching".to_owned()
            }
            refused => say(refused.map(drop)),
        }
    }

    fn prefix(&self, index: usize) -> Prefix<AnyRecord> {
        match index {
            0 => key::everything(),
            1 => key::networks().erased(),
            _ => key::tokens().erased(),
        }
    }

    /// Reads every watch up to a revision that touched all prefixes.
    async fn read_watches(&mut self, up_to: Revision) {
        for (watch, told) in self.watches.iter_mut().zip(&mut self.told) {
            while told.last().is_none_or(|batch| batch.revision < up_to) {
                told.push(soon("a watch to reach the marker", watch.next()).await.expect("nothing was compacted away"));
            }
        }
    }
}

fn named(at: usize, value: u32) -> Network {
    network(NETWORKS[at], &value.to_string())
}

/// An answer as text, without the words that each engine finds for its refusals.
fn say<T: Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error @ (StoreError::Conflict { .. } | StoreError::Compacted)) => error.to_string(),
        Err(StoreError::Refused { .. }) => "refused".to_owned(),
        Err(StoreError::LeaseEnded) => "lease ended".to_owned(),
        Err(error) => panic!("{error}"),
    }
}

/// What the generator has to know to hit interesting cases.
struct Generator {
    random: StdRng,
    now: Revision,
    floor: Revision,
}

impl Generator {
    fn revision(&mut self) -> Revision {
        // Mostly recent ones, which may be right.
        let back = if self.random.random_bool(0.7) { 4 } else { 30 };
        Revision::from((self.now.get() - self.random.random_range(0..=back)).max(0))
    }

    fn operation(&mut self) -> Operation {
        let (at, value) = (self.random.random_range(0..NETWORKS.len()), self.random.random_range(0..100));
        match self.random.random_range(0..100) {
            0..10 => Operation::Put(at, value),
            10..22 => Operation::Create(at, value),
            22..36 => Operation::Replace(at, value, self.revision()),
            36..46 => Operation::Delete(at, self.revision()),
            46..72 => self.transaction(),
            72..76 => Operation::Get(at),
            76..80 => Operation::List,
            80..83 => Operation::Grant,
            83..87 => Operation::Revoke(self.random.random_range(0..3)),
            87..95 => Operation::Watch(self.random.random_range(0..3), self.watch_start()),
            _ => Operation::Compact(self.compaction()),
        }
    }

    fn watch_start(&mut self) -> Revision {
        let from = (self.floor.get() - 2).max(0);
        Revision::from(self.random.random_range(from..=self.now.get()))
    }

    fn compaction(&mut self) -> Revision {
        let from = (self.floor.get() - 2).max(1);
        Revision::from(self.random.random_range(from..=self.now.get() + 1))
    }

    fn transaction(&mut self) -> Operation {
        let compares = (0..self.random.random_range(0..3)).map(|_| {
            let at = self.random.random_range(0..NETWORKS.len());
            match self.random.random_range(0..3) {
                0 => Compare::Absent(at),
                1 => Compare::Exists(at),
                _ => Compare::Unchanged(at, self.revision()),
            }
        });
        let compares = compares.collect();
        let parts = (0..self.random.random_range(0..4)).map(|_| self.part()).collect();
        Operation::Transaction(compares, parts)
    }

    fn part(&mut self) -> Part {
        let (network, token) = (self.random.random_range(0..NETWORKS.len()), self.random.random_range(0..TOKENS.len()));
        let value = self.random.random_range(0..100);
        match self.random.random_range(0..5) {
            0 => Part::Network(network, value),
            1 => Part::Token(token, value),
            2 => Part::Leased(token, value, self.random.random_range(0..3)),
            3 => Part::DeleteNetwork(network),
            _ => Part::DeleteToken(token),
        }
    }
}

/// Both engines, and what the generator has to know of them.
struct Pair {
    embedded: Side,
    etcd: Side,
    compactions: usize,
}

impl Pair {
    /// Runs one history and checks that nobody can tell the engines apart.
    async fn run(&mut self, seed: u64) {
        let now = self.mark(seed).await;
        let mut generator = Generator { random: StdRng::seed_from_u64(seed), now, floor: Revision::ZERO };
        let mut steps = Vec::new();
        for _ in 0..STEPS {
            let operation = generator.operation();
            steps.push(operation.clone());
            if matches!(operation, Operation::Compact(_)) {
                // What a watch has not read yet may be compacted away on either engine, sooner or later.
                generator.now = self.mark(seed).await;
            }
            let (ours, theirs) = (self.embedded.carry_out(&operation).await, self.etcd.carry_out(&operation).await);
            assert_eq!(ours, theirs, "CLADNET_SEED={seed}: embedded and etcd differ at the end of {steps:#?}");
            generator.now = self.embedded.store.list(&key::networks()).await.unwrap().revision;
            if let (Operation::Compact(revision), "()") = (&operation, ours.as_str()) {
                generator.floor = generator.floor.max(*revision);
                self.compactions += 1;
            }
        }
        self.mark(seed).await;
        assert_eq!(self.embedded.told, self.etcd.told, "CLADNET_SEED={seed}: watches differ after {steps:#?}");
        for side in [&mut self.embedded, &mut self.etcd] {
            side.watches.clear();
            side.told.clear();
            for lease in side.leases.drain(..).flatten() {
                lease.revoke().await.unwrap();
            }
        }
    }

    /// Writes under every prefix on both sides and lets every watch see it.
    async fn mark(&mut self, seed: u64) -> Revision {
        let mut revisions = Vec::new();
        for side in [&mut self.embedded, &mut self.etcd] {
            let mark = side
                .store
                .transaction()
                .put(&key::network(&id("zz")), &network("zz", "mark"))
                .put(&key::token(&"zz".parse().unwrap()), &token("zz", 0));
            let revision = mark.commit().await.unwrap();
            side.read_watches(revision).await;
            revisions.push(revision);
        }
        assert_eq!(revisions[0], revisions[1], "CLADNET_SEED={seed}: the engines are at different revisions");
        revisions[0]
    }
}

async fn run_histories(seeds: Vec<u64>) {
    let (embedded, etcd) = (EmbeddedFixture::start().await, EtcdFixture::start().await);
    let mut pair =
        Pair { embedded: Side::new(embedded.store.clone()), etcd: Side::new(etcd.store.clone()), compactions: 0 };
    for seed in seeds {
        pair.run(seed).await;
    }
    assert!(pair.compactions > 0 && compacted_keys(&etcd.cluster.endpoints()[0]) > 0, "nothing was really compacted");
}

/// How many old values etcd has really removed from its disk.
fn compacted_keys(url: &str) -> u64 {
    let output = Command::new("curl").args(["-s", &format!("{url}/metrics")]).output().expect("curl");
    let metrics = String::from_utf8(output.stdout).expect("text");
    let line = metrics.lines().find(|line| line.starts_with("etcd_debugging_mvcc_db_compaction_keys_total "));
    line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok()).expect("the metric") as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_random_histories_give_equal_answers() {
    let seeds: Vec<u64> = match std::env::var("CLADNET_SEED") {
        Ok(seed) => vec![seed.parse().expect("CLADNET_SEED is a number")],
        Err(_) => (0..HISTORIES).map(|_| rand::random()).collect(),
    };
    let workers: Vec<_> =
        seeds.chunks(HISTORIES.div_ceil(4)).map(|seeds| tokio::spawn(run_histories(seeds.to_vec()))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
}
