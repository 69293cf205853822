//! One agent's sync stream: a task that hears the agent and tells it what the view has new for it. What waits to be told
//! is never a queue of messages: see [`super::session`]. A message is made when the network takes one, so a slow agent
//! costs what the network holds for it and nothing more.

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use cladnet_model::{NetworkId, Presence};
use cladnet_proto::{
    cladnet::v1::{
        AgentCommand, AgentMessage, Hello, HostFacts, ServiceMessage, UsageTaken, Welcome,
        agent_message::Message as Heard, service_message::Message as Told,
    },
    convert,
};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tonic::Status;
use tracing::{Instrument as _, debug, error, info, info_span, warn};

use super::{
    Shared,
    identity::{Caller, removed},
    rendezvous,
    reports::Reports,
    session::Session,
    streams::Handle,
    usage::Usages,
};
use crate::envelope;

/// How long an agent may keep a stream waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Without a word of it.
    pub(super) silence: Duration,
    /// Without taking a message.
    pub(super) stall: Duration,
}

impl Default for Patience {
    /// An agent sends something every 5 s; one that does not for three times as long is gone.
    fn default() -> Self {
        Self { silence: Duration::from_secs(15), stall: Duration::from_secs(30) }
    }
}

/// Between two messages about networks to one agent, and more the more agents there are: in a storm of changes each gets
/// them in pieces, so that the work stays bounded. A change in calm goes at once.
const COALESCE: Duration = Duration::from_millis(50);
const COALESCE_PER_STREAM: Duration = Duration::from_micros(200);
/// Pongs that are owed to an agent beyond this are forgotten: one says as much as many.
const MAX_PONGS: u8 = 1;

/// What an agent says beyond one message in this time waits in the network, after a burst of so many.
const BETWEEN_HEARD: Duration = Duration::from_millis(20);
const BURST: u32 = 64;

/// How long an agent has to take the reason why its stream ended; nothing is kept for it meanwhile.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where a stream's messages go.
type Outbound = rendezvous::Sender<Result<ServiceMessage, Status>>;
/// And where they come out.
pub(super) type Outgoing = rendezvous::Receiver<Result<ServiceMessage, Status>>;

/// Starts the task of a stream; what the agent is told comes out of the receiver.
pub(super) fn start(
    shared: Arc<Shared>,
    caller: Caller,
    from: Option<IpAddr>,
    heard: impl Stream<Item = Result<AgentMessage, Status>> + Send + Unpin + 'static,
    patience: Patience,
) -> Outgoing {
    let (outbound, outgoing) = rendezvous::channel();
    let span = info_span!("stream", host = %caller.host.id);
    let task = async move {
        let conversation = async {
            match Conversation::open(&shared, caller, from, heard, patience, &outbound).await {
                Ok(mut conversation) => {
                    info!(from = ?from, "agent connected");
                    let reason = conversation.run(&outbound).await;
                    info!(reason = reason.message(), "agent disconnected");
                    reason
                }
                Err(reason) => reason,
            }
        };
        let reason = AssertUnwindSafe(conversation).catch_unwind().await.unwrap_or_else(|panic| {
            error!(panic = envelope::message(&*panic), "a stream panicked");
            broken()
        });
        // An agent that does not read is not told.
        if let Ok(Some(wanted)) = timeout(FAREWELL, outbound.wanted()).await {
            wanted.send(Err(reason));
        }
    };
    tokio::spawn(task.instrument(span));
    outgoing
}

struct Conversation<'a, I> {
    shared: &'a Arc<Shared>,
    caller: Caller,
    heard: I,
    patience: Patience,
    handle: Arc<Handle>,
    session: Session,
    reports: Reports,
    usages: Usages,
    /// What of its usage is counted, and not told yet.
    usage_taken: Option<u64>,
    /// What the agent is asked.
    commands: mpsc::Receiver<AgentCommand>,
    /// Taken from `commands`, and next to go.
    command: Option<AgentCommand>,
    pongs: u8,
    /// There may be something new about a network.
    stale: bool,
    /// When the next message about a network may go.
    next_told: Instant,
    /// When the certificate by which the stream was opened expires.
    expires_at: Instant,
    heard_at: Instant,
    /// When all that was heard would have been said at the allowed rate.
    heard_until: Instant,
    /// Since when a message waits for the agent to take the one before.
    stalled_since: Option<Instant>,
}

impl<'a, I> Conversation<'a, I>
where
    I: Stream<Item = Result<AgentMessage, Status>> + Unpin,
{
    /// Hears the agent's hello, waits until the view knows at least what the host's record says, and welcomes it.
    async fn open(
        shared: &'a Arc<Shared>,
        caller: Caller,
        from: Option<IpAddr>,
        mut heard: I,
        patience: Patience,
        outbound: &Outbound,
    ) -> Result<Self, Status> {
        let hello = hello(&mut heard, patience.silence).await?;
        shared.reached(caller.revision.get()).await?;
        let now = shared.parts.clock.now();
        let presence = Presence { replica: shared.parts.replica.clone(), since: now, from };
        let host = &caller.host.id;
        let (session, welcome) = {
            let view = shared.view();
            let session = Session::new(host.clone(), view.epoch(), hello.applied);
            let welcome = Welcome {
                epoch: view.epoch().to_owned(),
                time: Some(convert::timestamp(now)),
                network_ids: view.networks_of(host).map(|(id, _)| id.to_string()).collect(),
                complete: view.knows_networks_of(host),
            };
            (session.with_tariff_book(hello.tariff_book_version), welcome)
        };
        let reports = Reports::start(shared.clone(), host.clone());
        let usages = Usages::start(shared.clone(), host.clone());
        let (handle, commands) = shared.streams.open(host, presence);
        let now = Instant::now();
        let conversation = Self {
            shared,
            handle,
            session,
            reports,
            usages,
            usage_taken: None,
            heard,
            patience,
            commands,
            command: None,
            pongs: 0,
            stale: true,
            next_told: now,
            expires_at: now + caller.valid_for,
            heard_at: now,
            heard_until: now,
            stalled_since: None,
            caller,
        };
        // Others reach the stream from here on; what they have to say comes after the welcome. A removal just before
        // found no stream to end.
        conversation.still_a_host()?;
        match timeout(patience.stall, outbound.wanted()).await {
            Ok(Some(wanted)) => wanted.send(Ok(ServiceMessage { message: Some(Told::Welcome(welcome)) })),
            _ => return Err(gone()),
        }
        if let Some(facts) = hello.facts {
            conversation.hear_facts(facts);
        }
        Ok(conversation)
    }

    /// Until one side ends it; says why.
    async fn run(&mut self, outbound: &Outbound) -> Status {
        match self.converse(outbound).await {
            Ok(never) => match never {},
            Err(reason) => reason,
        }
    }

    async fn converse(&mut self, outbound: &Outbound) -> Result<std::convert::Infallible, Status> {
        let handle = self.handle.clone();
        let mut revisions = self.shared.revision.subscribe();
        loop {
            let now = Instant::now();
            let ready = self.has_urgent() || (self.stale && now >= self.next_told);
            if ready {
                self.stalled_since.get_or_insert(now);
            }
            let waits_for = self.session.waits_for(&self.shared.view());
            tokio::select! {
                // What an agent did comes before what it did not do in time: it may be us who were slow.
                biased;
                reason = handle.ended() => return Err(reason),
                message = self.heard.next(), if self.heard_until <= now + BETWEEN_HEARD * BURST => {
                    self.heard_at = Instant::now();
                    self.heard_until = self.heard_until.max(self.heard_at) + BETWEEN_HEARD;
                    self.hear(message.ok_or_else(gone)??)?;
                }
                () = handle.wake.notified() => {
                    self.still_a_host()?;
                    self.reports.compare(&self.shared.view());
                    self.stale = true;
                }
                () = self.reports.ended() => return Err(broken()),
                sequence = self.usages.taken() => self.usage_taken = Some(sequence.ok_or_else(broken)?),
                Some(command) = self.commands.recv(), if self.command.is_none() => self.command = Some(command),
                wanted = outbound.wanted(), if ready => {
                    let wanted = wanted.ok_or_else(gone)?;
                    self.stalled_since = None;
                    if let Some(message) = self.next() {
                        wanted.send(Ok(ServiceMessage { message: Some(message) }));
                    }
                }
                Ok(_) = revisions.wait_for(|shown| waits_for.is_some_and(|revision| *shown >= revision)),
                    if waits_for.is_some() => self.stale = true,
                () = sleep_until(self.next_told), if self.stale && !ready => {}
                () = sleep_until(self.heard_until - BETWEEN_HEARD * BURST), if self.heard_until > now + BETWEEN_HEARD * BURST => {}
                () = sleep_until(self.stalled_since.unwrap_or(now) + self.patience.stall), if ready => {
                    return Err(Status::resource_exhausted("the agent took no message for too long"));
                }
                () = sleep_until(self.expires_at) => {
                    return Err(Status::unauthenticated("the host's certificate has expired; renew it first"));
                }
                () = sleep_until(self.heard_at + self.patience.silence) => {
                    return Err(Status::deadline_exceeded("nothing was heard of the agent for too long"));
                }
            }
        }
    }

    fn has_urgent(&self) -> bool {
        self.pongs > 0 || self.command.is_some() || self.usage_taken.is_some()
    }

    /// The next message, the urgent ones first.
    fn next(&mut self) -> Option<Told> {
        if self.pongs > 0 {
            self.pongs -= 1;
            return Some(Told::Pong(()));
        }
        if let Some(command) = self.command.take() {
            return Some(Told::Command(command));
        }
        if let Some(sequence) = self.usage_taken.take() {
            return Some(Told::UsageTaken(UsageTaken { sequence }));
        }
        let message = self.session.next(&self.shared.view());
        self.stale = message.is_some();
        if message.is_some() {
            let streams = u32::try_from(self.shared.streams.count()).unwrap_or(u32::MAX);
            self.next_told = Instant::now() + COALESCE.max(COALESCE_PER_STREAM * streams);
        }
        message
    }

    fn hear(&mut self, message: AgentMessage) -> Result<(), Status> {
        match message.message {
            Some(Heard::Ping(())) => self.pongs = (self.pongs + 1).min(MAX_PONGS),
            Some(Heard::Facts(facts)) => self.hear_facts(facts),
            Some(Heard::Status(status)) => match convert::membership_status(status) {
                Ok((network, status)) if self.is_member(&network) => self.reports.status(network, status),
                Ok((network, _)) => debug!(%network, "status of a network that the host is not in"),
                Err(error) => warn!(%error, "status of an agent makes no sense"),
            },
            Some(Heard::Result(result)) => self.handle.answered(result),
            Some(Heard::Usage(report)) => self.usages.report(report),
            Some(Heard::Hello(_)) => return Err(Status::failed_precondition("hello comes once, first")),
            None => debug!("message of a newer release left alone"),
        }
        Ok(())
    }

    fn hear_facts(&self, facts: HostFacts) {
        match convert::host_facts("facts", Some(facts)) {
            Ok(facts) => self.reports.facts(facts),
            Err(error) => warn!(%error, "facts of an agent make no sense; what was known stays"),
        }
    }

    fn is_member(&self, network: &NetworkId) -> bool {
        let view = self.shared.view();
        view.network(network).is_some_and(|state| state.membership(&self.caller.host.id).is_some())
    }

    /// A removed host is cut off at once.
    fn still_a_host(&self) -> Result<(), Status> {
        let view = self.shared.view();
        let host = &self.caller.host;
        match view.host(&host.id) {
            Some((known, _)) if known.identity == host.identity => Ok(()),
            None if view.revision() < Some(self.caller.revision.get()) => Ok(()),
            _ => Err(Status::permission_denied(removed(&host.id))),
        }
    }
}

impl<I> Drop for Conversation<'_, I> {
    fn drop(&mut self) {
        self.handle.end(gone()); // whoever waits for an answer of this agent
        self.shared.streams.close(&self.caller.host.id, self.handle.number);
    }
}

async fn hello<I>(heard: &mut I, patience: Duration) -> Result<Hello, Status>
where
    I: Stream<Item = Result<AgentMessage, Status>> + Unpin,
{
    match timeout(patience, heard.next()).await {
        Ok(Some(Ok(AgentMessage { message: Some(Heard::Hello(hello)) }))) => Ok(hello),
        Ok(Some(Ok(_))) => Err(Status::failed_precondition("the first message must be hello")),
        Ok(Some(Err(error))) => Err(error),
        Ok(None) => Err(gone()),
        Err(_) => Err(Status::deadline_exceeded("no hello came in time")),
    }
}

fn broken() -> Status {
    Status::internal("something went wrong inside the service; connect again")
}

fn gone() -> Status {
    Status::cancelled("the agent closed the stream")
}

#[cfg(test)]
mod tests;
