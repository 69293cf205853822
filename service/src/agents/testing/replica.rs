//! Replicas over one store in this process, reached over real TLS, and agents that speak to them.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use cladnet_model::{HostId, JoinToken, Labels, NetworkId, Peer, Secret, Token, TokenId};
use cladnet_pki::{
    Credentials, HostKey,
    channel::{ServiceUrl, connect},
    client_config, client_config_pinned,
};
use cladnet_proto::cladnet::v1::{
    AgentMessage, CommandResult, EnrolRequest, EnrolResponse, Hello, HostFacts, PingResult, ServiceMessage,
    agent_command::Command, agent_message::Message as Said, agent_service_client::AgentServiceClient,
    service_message::Message as Told,
};
use cladnet_store::{EmbeddedOptions, Store, key};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, transport::Channel};

use super::{Copy, facts, network};
use crate::{
    Clock, Config, Server, Service,
    agents::{Agents, Shared},
};

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Polls until `check` gives something; `what` says what was waited for.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A store of its own in a directory of its own.
pub(crate) struct House {
    pub(crate) store: Store,
    _directory: Option<TempDir>,
}

impl House {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(EmbeddedOptions::new(directory.path())).await.unwrap();
        Self { store, _directory: Some(directory) }
    }

    /// Over a store of somebody else's.
    pub(crate) fn over(store: Store) -> Self {
        Self { store, _directory: None }
    }

    /// With network `id`.
    pub(crate) async fn with_network(id: &str) -> Self {
        let house = Self::new().await;
        house.create_network(id).await;
        house
    }

    pub(crate) async fn create_network(&self, id: &str) {
        let record = network(id);
        self.store.create(&key::network(&record.id), &record).await.unwrap();
    }

    pub(crate) async fn replica(&self) -> Replica {
        self.replica_with_clock(Clock::default()).await
    }

    pub(crate) async fn replica_with_clock(&self, clock: Clock) -> Replica {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = Config { listen_addr: loopback, stun_addr: None, ..Config::default() };
        let server = Server::bind_with_clock(config, self.store.clone(), clock).await.unwrap();
        let shutdown = CancellationToken::new();
        Replica {
            address: server.local_addr().unwrap(),
            ca_pem: server.ca_pem().to_owned(),
            ca: server.agents().shared.parts.authority.spki_sha256(),
            agents: server.agents().clone(),
            service: server.service().clone(),
            task: tokio::spawn(server.run(shutdown.clone()).map(|served| served.expect("nothing but a stop ends it"))),
            shutdown,
        }
    }

    /// A join token for a network, with its record in the store.
    pub(crate) async fn token(&self, network: &str, uses: u32, ca: [u8; 32]) -> JoinToken {
        self.token_until(network, uses, ca, Timestamp::now() + Duration::from_secs(3_600)).await
    }

    pub(crate) async fn token_until(&self, network: &str, uses: u32, ca: [u8; 32], expires_at: Timestamp) -> JoinToken {
        let token = JoinToken::new(rand::random(), Secret::new(rand::random()), ca);
        let record = Token {
            id: token.id().clone(),
            network: network.parse().unwrap(),
            secret_hash: token.secret_hash(),
            uses_left: uses,
            expires_at,
            labels: Labels::new(),
            revoked: false,
            created_at: Timestamp::now(),
            created_by: "key-test".to_owned(),
        };
        self.store.create(&key::token(token.id()), &record).await.unwrap();
        token
    }

    pub(crate) async fn uses_left(&self, token: &TokenId) -> u32 {
        self.store.get(&key::token(token)).await.unwrap().unwrap().value.uses_left
    }

    /// What the controller would do: every member gets the next address.
    pub(crate) async fn assign_addresses(&self, network: &NetworkId) {
        let members = self.store.list(&key::memberships(network)).await.unwrap().items;
        let done: BTreeSet<HostId> = self
            .store
            .list(&key::peers(network))
            .await
            .unwrap()
            .items
            .into_iter()
            .map(|peer| peer.value.host)
            .collect();
        for (host, number) in members.into_iter().map(|m| m.value.host).filter(|host| !done.contains(host)).zip(1u32..)
        {
            let number = u32::try_from(done.len()).unwrap() + number;
            let address = std::net::Ipv4Addr::from_bits(0x0a4d_0000 + number);
            let peer =
                Peer { network: network.clone(), host: host.clone(), address: Some(address), problem: String::new() };
            self.store.put(&key::peer(network, &host), &peer).await.unwrap();
        }
    }

    pub(crate) async fn hosts(&self) -> usize {
        self.store.list(&key::hosts()).await.unwrap().items.len()
    }
}

/// One running replica; stopped when dropped.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) ca: [u8; 32],
    pub(crate) agents: Agents,
    pub(crate) service: Arc<Service>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    pub(in crate::agents) fn shared(&self) -> &Shared {
        &self.agents.shared
    }

    fn url(&self) -> ServiceUrl {
        format!("https://{}", self.address).parse().unwrap()
    }

    /// First contact: no certificate, the authority pinned by the token.
    pub(crate) async fn stranger(&self, token: &JoinToken) -> AgentServiceClient<Channel> {
        let tls = client_config_pinned(*token.ca()).unwrap();
        AgentServiceClient::new(connect(&[self.url()], tls).await.unwrap())
    }

    /// As the host that has this certificate.
    pub(crate) async fn client(&self, certificate: &str, key: &HostKey) -> AgentServiceClient<Channel> {
        let credentials = Credentials::of_host(certificate, key).unwrap();
        let tls = client_config(&self.ca_pem, Some(&credentials)).unwrap();
        AgentServiceClient::new(connect(&[self.url()], tls).await.unwrap())
    }

    /// Stops it and waits until it has.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        timeout(DEADLINE, &mut self.task).await.expect("the replica does not stop").unwrap();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A machine that wants to become a host: its two keys.
pub(crate) struct Machine {
    pub(crate) key: HostKey,
    pub(crate) public_key: [u8; 32],
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self { key: HostKey::generate().unwrap(), public_key: rand::random() }
    }

    pub(crate) fn request(&self, token: &JoinToken) -> EnrolRequest {
        EnrolRequest {
            token: token.to_string(),
            certificate_request: self.key.request().unwrap(),
            public_key: self.public_key.to_vec(),
            facts: Some(HostFacts::from(&facts(8055))),
        }
    }

    pub(crate) async fn enrol(&self, replica: &Replica, token: &JoinToken) -> Result<EnrolResponse, Status> {
        let response = replica.stranger(token).await.enrol(self.request(token)).await?;
        Ok(response.into_inner())
    }

    /// An enrolled agent.
    pub(crate) async fn agent(self, replica: &Replica, token: &JoinToken) -> Agent {
        let enrolled = self.enrol(replica, token).await.unwrap();
        Agent {
            host: enrolled.host_id.parse().unwrap(),
            certificate: enrolled.certificate,
            machine: self,
            facts: HostFacts::from(&facts(8055)),
            copy: Copy::default(),
        }
    }
}

/// An enrolled agent and what it knows.
pub(crate) struct Agent {
    pub(crate) host: HostId,
    pub(crate) certificate: String,
    pub(crate) machine: Machine,
    pub(crate) facts: HostFacts,
    pub(crate) copy: Copy,
}

impl Agent {
    pub(crate) async fn client(&self, replica: &Replica) -> AgentServiceClient<Channel> {
        replica.client(&self.certificate, &self.machine.key).await
    }

    /// Opens a stream and says hello.
    pub(crate) async fn sync(&self, replica: &Replica) -> Result<Wire, Status> {
        let (said, outbound) = mpsc::channel(8);
        let hello =
            Hello { facts: Some(self.facts.clone()), applied: self.copy.applied(&self.host), ..Hello::default() };
        said.try_send(AgentMessage { message: Some(Said::Hello(hello)) }).unwrap();
        let told = self.client(replica).await.sync(ReceiverStream::new(outbound)).await?.into_inner();
        Ok(Wire { said, told })
    }

    /// Takes messages until its copy is as `enough` wants it.
    pub(crate) async fn take_until(&mut self, wire: &mut Wire, what: &str, enough: impl Fn(&Copy) -> bool) -> usize {
        let mut messages = 0;
        while !enough(&self.copy) {
            let message = wire.next(what).await.unwrap();
            self.copy.apply(&self.host, message).unwrap();
            messages += 1;
        }
        messages
    }
}

/// A stream as its agent holds it.
pub(crate) struct Wire {
    pub(crate) said: mpsc::Sender<AgentMessage>,
    pub(crate) told: Streaming<ServiceMessage>,
}

impl Wire {
    pub(crate) async fn say(&self, message: Said) {
        self.said.send(AgentMessage { message: Some(message) }).await.unwrap();
    }

    /// The next message but for those about usage, or why the stream ended.
    pub(crate) async fn next(&mut self, what: &str) -> Result<Told, Status> {
        loop {
            match self.any(what).await? {
                Told::UsageTaken(_) => {}
                message => return Ok(message),
            }
        }
    }

    /// The next word of usage that is counted.
    pub(crate) async fn usage_taken(&mut self) -> Result<u64, Status> {
        loop {
            if let Told::UsageTaken(taken) = self.any("usage that is counted").await? {
                return Ok(taken.sequence);
            }
        }
    }

    async fn any(&mut self, what: &str) -> Result<Told, Status> {
        let message = timeout(DEADLINE, self.told.message()).await;
        let message = message.unwrap_or_else(|_| panic!("waited in vain: {what}"))?;
        Ok(message.ok_or_else(|| Status::cancelled("the stream ended"))?.message.expect("a message of this release"))
    }

    /// Reads until the stream ends, and says why it did.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.next("the end of the stream").await {
                return status;
            }
        }
    }
}

/// An agent on a stream that answers every command by `answer`; one that is none is never answered.
pub(crate) async fn answering(
    agent: &Agent,
    replica: &Replica,
    answer: impl Fn(Command) -> Option<CommandResult> + Send + 'static,
) -> JoinHandle<()> {
    let mut wire = agent.sync(replica).await.unwrap();
    let Told::Welcome(_) = wire.next("welcome").await.unwrap() else { panic!("no welcome") };
    tokio::spawn(async move {
        while let Ok(Some(message)) = wire.told.message().await {
            let Some(Told::Command(command)) = message.message else { continue };
            if let Some(result) = answer(command.command.unwrap()) {
                let result = CommandResult { command_id: command.command_id, ..result };
                if wire.said.send(AgentMessage { message: Some(Said::Result(result)) }).await.is_err() {
                    return;
                }
            }
        }
    })
}

/// Pings every host that it is asked to: the third reply is lost.
pub(crate) fn pong(command: Command) -> Option<CommandResult> {
    let Command::Ping(ping) = command else { return None };
    let result = |host_id| PingResult { host_id, sent: ping.count, rtts_us: vec![100, 300], error: String::new() };
    Some(CommandResult { pings: ping.host_ids.into_iter().map(result).collect(), ..CommandResult::default() })
}

/// Waits until a replica knows that somebody holds the host's stream.
pub(crate) async fn present(replica: &Replica, host: &HostId) {
    eventually("presence in the view", async || replica.shared().view().presence(host).map(drop)).await;
}
