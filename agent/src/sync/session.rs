//! One stream, from connecting to its end.

use std::{sync::Arc, time::Duration};

use cladnet_model::{MembershipStatus, NetworkId};
use cladnet_pki::{Credentials, channel::connect, client_config};
use cladnet_proto::cladnet::v1::{
    self as wire, AgentMessage, Hello, agent_message, agent_service_client::AgentServiceClient,
    service_message::Message,
};
use futures_util::future::OptionFuture;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use tracing::{debug, info, warn};

use super::{Backoff, End, Inputs, Statuses, Subject, SyncError, credentials, renewal};
use crate::{control::protocol::ServiceStatus, facts::Facts, state::Identity};

/// Either side says something at least this often.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Whoever hears nothing for so long closes the stream.
const SILENCE: Duration = Duration::from_secs(15);
/// After a stand-still the connection may be dead; TCP would take minutes to notice.
const SILENCE_AFTER_MOVE: Duration = Duration::from_secs(2);
/// Messages waiting for the wire; more means that the connection does not carry anything.
const BACKLOG: usize = 64;
/// A stream that was good for so long ends the memory of attempts that failed.
const STEADY: Duration = Duration::from_secs(5);
/// A snapshot of 1,000 peers is a megabyte.
const MAX_MESSAGE: usize = 64 << 20;
/// How long hello waits for the first answer of a STUN server, which is asked meanwhile: a public address that comes at
/// once spares every peer an update.
const STUN_GRACE: Duration = Duration::from_millis(300);

/// A stream that is up.
pub(super) struct Session<'a, S> {
    subject: &'a S,
    outgoing: mpsc::Sender<AgentMessage>,
    /// Those that this host had when the stream was made.
    local_addresses: Vec<IpNet>,
    /// Facts and statuses as they were reported on this stream.
    told_facts: wire::HostFacts,
    told_statuses: Statuses,
    /// When the service has been silent for too long.
    deadline: Instant,
}

impl<'a, S: Subject> Session<'a, S> {
    pub(super) async fn run(
        inputs: &mut Inputs,
        subject: &'a S,
        identity: &Arc<Identity>,
        backoff: &mut Backoff,
    ) -> Result<End, SyncError> {
        let service = identity.services.join(", ");
        subject.link(ServiceStatus::Connecting { service: service.clone() }).await;
        let (services, credentials) = credentials(identity)?;
        let tls = client_config(&identity.authority, Some(&credentials))?;
        let mut client = client(connect(&services, tls).await?);
        let renew_in = renewal::due_in(&credentials, Timestamp::now());
        let (session, stream) = match Self::open(inputs, subject, &mut client).await {
            // Whether the certificate has expired is for the service's clock to say. An expired one opens this and nothing else;
            // the next stream shows the new one.
            Err(SyncError::Unauthenticated(_)) => {
                renew(&mut client, subject, identity).await?;
                return Ok(End::Renewed);
            }
            opened => opened?,
        };
        session
            .converse(
                inputs,
                stream,
                Renewal { client, identity, credentials, due: Instant::now() + renew_in },
                service,
                backoff,
            )
            .await
    }

    async fn open(
        inputs: &mut Inputs,
        subject: &'a S,
        client: &mut AgentServiceClient<Channel>,
    ) -> Result<(Self, Streaming<wire::ServiceMessage>), SyncError> {
        let grace = Instant::now() + STUN_GRACE;
        let seen = |facts: &Arc<Facts>| !facts.observed.addresses().is_empty();
        let _ = timeout_at(grace, inputs.facts.wait_for(seen)).await;
        let (facts, local_addresses) = {
            let facts = inputs.facts.borrow_and_update();
            (wire::HostFacts::from(&facts.host), local_addresses(&facts))
        };
        let hello = Hello {
            facts: Some(facts.clone()),
            applied: subject.applied().await,
            tariff_book_version: subject.tariff_book_version().await,
        };
        let (outgoing, queue) = mpsc::channel(BACKLOG);
        let mut session = Self {
            subject,
            outgoing,
            local_addresses,
            told_facts: facts,
            told_statuses: Statuses::new(),
            deadline: Instant::now() + SILENCE,
        };
        session.say(agent_message::Message::Hello(hello))?;
        session.tell_statuses(&mut inputs.statuses)?;
        let stream = timeout(SILENCE, client.sync(ReceiverStream::new(queue))).await;
        Ok((session, stream.map_err(|_| SyncError::Silent)??.into_inner()))
    }

    async fn converse(
        mut self,
        inputs: &mut Inputs,
        mut stream: Streaming<wire::ServiceMessage>,
        mut renewal: Renewal<'_>,
        service: String,
        backoff: &mut Backoff,
    ) -> Result<End, SyncError> {
        let mut ping = interval(PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut steady_at, mut anew_at) = (None, None);
        loop {
            tokio::select! {
                message = stream.message() => {
                    let message = message?.ok_or(SyncError::Closed)?;
                    self.deadline = Instant::now() + SILENCE;
                    match message.message {
                        Some(Message::Pong(())) => {}
                        Some(Message::Welcome(welcome)) => {
                            steady_at = Some(Instant::now() + STEADY);
                            info!(service, "linked to the service");
                            let since = Timestamp::now();
                            self.subject.link(ServiceStatus::Connected { service: service.clone(), since }).await;
                            self.told(Message::Welcome(welcome), &mut anew_at, backoff).await;
                        }
                        Some(message) => self.told(message, &mut anew_at, backoff).await,
                        None => debug!("a message of a kind that this release does not know"),
                    }
                }
                Ok(()) = inputs.facts.changed() => {
                    let facts = wire::HostFacts::from(&inputs.facts.borrow_and_update().host);
                    if facts != self.told_facts {
                        self.told_facts = facts.clone();
                        self.say(agent_message::Message::Facts(facts))?;
                    }
                }
                Ok(()) = inputs.statuses.changed() => self.tell_statuses(&mut inputs.statuses)?,
                Some(()) = OptionFuture::from(steady_at.map(sleep_until)) => {
                    steady_at = None;
                    if anew_at.is_none() {
                        backoff.reset();
                    }
                }
                Some(()) = OptionFuture::from(anew_at.map(sleep_until)) => return Ok(End::Refused),
                Ok(()) = inputs.usage.changed() => {
                    let report = inputs.usage.borrow_and_update().clone();
                    if let Some(report) = report {
                        self.say(agent_message::Message::Usage(report))?;
                    }
                }
                Some(result) = inputs.results.recv() => self.say(agent_message::Message::Result(result))?,
                _ = ping.tick() => self.say(agent_message::Message::Ping(()))?,
                Ok(()) = inputs.moved.changed() => {
                    if local_addresses(&inputs.facts.borrow()) != self.local_addresses {
                        return Err(SyncError::Moved);
                    }
                    self.deadline = self.deadline.min(Instant::now() + SILENCE_AFTER_MOVE);
                    self.say(agent_message::Message::Ping(()))?;
                }
                () = sleep_until(self.deadline) => return Err(SyncError::Silent),
                () = sleep_until(renewal.due) => renewal.renew(self.subject).await,
                Ok(()) = inputs.identity.changed() => {
                    if !is_same_host(inputs.identity.borrow().as_deref(), renewal.identity) {
                        inputs.identity.mark_changed();
                        return Ok(End::Identity);
                    }
                }
            }
        }
    }

    /// Hands a message on. A refusal keeps the other networks' stream up until it is time for a new one, later each time it is in vain.
    async fn told(&self, message: Message, anew_at: &mut Option<Instant>, backoff: &mut Backoff) {
        if let Err(refusal) = self.subject.take(message).await
            && anew_at.is_none()
        {
            warn!(error = crate::failure::chain(&refusal), "what the service sent is not taken on; asking again soon");
            *anew_at = Some(Instant::now() + backoff.next(rand::random()));
        }
    }

    /// Reports the memberships whose state is not what was reported last.
    fn tell_statuses(&mut self, statuses: &mut watch::Receiver<Statuses>) -> Result<(), SyncError> {
        let now = statuses.borrow_and_update().clone();
        for (network, status) in &now {
            if self.told_statuses.get(network) != Some(status) {
                self.say(agent_message::Message::Status(to_wire(network, status)))?;
            }
        }
        self.told_statuses = now;
        Ok(())
    }

    /// Never waits: what the connection does not carry off ends it.
    fn say(&self, message: agent_message::Message) -> Result<(), SyncError> {
        self.outgoing.try_send(AgentMessage { message: Some(message) }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SyncError::Silent,
            mpsc::error::TrySendError::Closed(_) => SyncError::Closed,
        })
    }
}

/// What renewing takes.
struct Renewal<'a> {
    client: AgentServiceClient<Channel>,
    identity: &'a Arc<Identity>,
    credentials: Credentials,
    due: Instant,
}

impl Renewal<'_> {
    async fn renew(&mut self, subject: &impl Subject) {
        if !renewal::due_in(&self.credentials, Timestamp::now()).is_zero() {
            self.due = Instant::now() + renewal::due_in(&self.credentials, Timestamp::now());
            return;
        }
        self.due = Instant::now() + renewal::RETRY;
        match renew(&mut self.client, subject, self.identity).await {
            Ok(credentials) => {
                // By a clock that is wrong the new one is old already.
                self.due = Instant::now() + renewal::due_in(&credentials, Timestamp::now()).max(renewal::RETRY);
                self.credentials = credentials;
            }
            Err(error) => warn!(error = crate::failure::chain(&error), "certificate not renewed; trying again later"),
        }
    }
}

async fn renew(
    client: &mut AgentServiceClient<Channel>,
    subject: &impl Subject,
    identity: &Identity,
) -> Result<Credentials, SyncError> {
    let certificate = timeout(SILENCE, renewal::renew(client, identity)).await.map_err(|_| SyncError::Silent)??;
    let key = cladnet_pki::HostKey::from_pem(&identity.key)?;
    let credentials = Credentials::of_host(&certificate, &key)?;
    subject.renewed(certificate).await;
    info!("certificate renewed");
    Ok(credentials)
}

fn client(channel: Channel) -> AgentServiceClient<Channel> {
    AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// A renewed certificate changes nothing for a stream that is up.
fn is_same_host(now: Option<&Identity>, then: &Identity) -> bool {
    now.is_some_and(|now| now.host == then.host && now.services == then.services)
}

fn local_addresses(facts: &Facts) -> Vec<IpNet> {
    facts.underlay.as_ref().map(|underlay| underlay.addresses.clone()).unwrap_or_default()
}

fn to_wire(network: &NetworkId, status: &MembershipStatus) -> wire::MembershipStatus {
    wire::MembershipStatus {
        network_id: network.to_string(),
        state: status.state.to_string(),
        reason: status.reason.clone(),
        interface: status.interface.clone(),
        revision: status.revision,
    }
}
