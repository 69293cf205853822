//! The sync client against a service of a few lines, over real TLS.

use std::{
    pin::Pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cladnet_model::{HostFacts, PeerState};
use cladnet_pki::{Authority, Credentials, HostKey, server_config};
use cladnet_proto::cladnet::v1::{
    self as wire, AgentMessage, MembershipEnded, ServiceMessage, Welcome,
    agent_message::Message as Said,
    agent_service_server::{AgentService, AgentServiceServer},
};
use futures_util::Stream;
use jiff::{SignedDuration, Timestamp};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Streaming, transport::Server};
use zeroize::Zeroizing;

use super::*;
use crate::{facts::Observed, netlink::DefaultInterface};

const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// For anything that should happen at once.
const SOON: Duration = Duration::from_secs(10);

type Told = Result<ServiceMessage, Status>;

/// One stream as the service sees it.
struct Line {
    heard: Streaming<AgentMessage>,
    tell: mpsc::Sender<Told>,
}

impl Line {
    /// The next message that is no ping.
    async fn heard(&mut self) -> Said {
        loop {
            let message =
                timeout(SOON, self.heard.message()).await.expect("says something").expect("goes on").expect("goes on");
            match message.message.expect("a message") {
                Said::Ping(()) => self.tell(Message::Pong(())).await,
                message => return message,
            }
        }
    }

    async fn tell(&self, message: Message) {
        self.tell.send(Ok(ServiceMessage { message: Some(message) })).await.expect("the agent listens");
    }

    async fn hello(&mut self) -> wire::Hello {
        match self.heard().await {
            Said::Hello(hello) => hello,
            other => panic!("hello, not {other:?}"),
        }
    }
}

struct Fake {
    authority: Arc<Authority>,
    streams: mpsc::Sender<Line>,
    renewals: mpsc::Sender<()>,
    /// By its clock every certificate of a host has expired until it is renewed.
    is_ahead: AtomicBool,
}

#[tonic::async_trait]
impl AgentService for Fake {
    type SyncStream = Pin<Box<dyn Stream<Item = Told> + Send>>;

    async fn sync(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        if self.is_ahead.load(Ordering::Relaxed) {
            return Err(Status::unauthenticated("the host's certificate has expired; renew it first"));
        }
        let (tell, told) = mpsc::channel(16);
        let stream = Line { heard: request.into_inner(), tell };
        self.streams.send(stream).await.map_err(|_| Status::unavailable("going down"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn renew_certificate(
        &self,
        request: Request<wire::RenewCertificateRequest>,
    ) -> Result<Response<wire::RenewCertificateResponse>, Status> {
        let _ = self.renewals.send(()).await;
        self.is_ahead.store(false, Ordering::Relaxed);
        let certificate = sign(&self.authority, &request.get_ref().certificate_request, Timestamp::now());
        Ok(Response::new(wire::RenewCertificateResponse { certificate }))
    }

    async fn enrol(&self, _: Request<wire::EnrolRequest>) -> Result<Response<wire::EnrolResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn join(&self, _: Request<wire::JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn leave(&self, _: Request<wire::LeaveRequest>) -> Result<Response<()>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

fn sign(authority: &Authority, request: &[u8], made: Timestamp) -> String {
    let host = "host-a".parse().expect("id");
    authority.sign_host_request(request, &host, made, WEEK).expect("signs")
}

/// What the subject was told, and what it answers.
#[derive(Default)]
struct Recorder {
    taken: Mutex<Vec<Message>>,
    links: Mutex<Vec<ServiceStatus>>,
    renewed: Mutex<Option<watch::Sender<Option<Arc<Identity>>>>>,
    refuses_deltas: Mutex<bool>,
    applied: Mutex<Vec<Applied>>,
}

impl Subject for Arc<Recorder> {
    async fn applied(&self) -> Vec<Applied> {
        self.applied.lock().expect("lock").clone()
    }

    async fn tariff_book_version(&self) -> String {
        "v1".to_owned()
    }

    async fn take(&self, message: Message) -> Result<(), Refusal> {
        let refuse = matches!(message, Message::Delta(_)) && *self.refuses_deltas.lock().expect("lock");
        self.taken.lock().expect("lock").push(message);
        if refuse {
            self.applied.lock().expect("lock").clear();
            return Err(Refusal::Digest);
        }
        Ok(())
    }

    async fn link(&self, status: ServiceStatus) {
        self.links.lock().expect("lock").push(status);
    }

    async fn renewed(&self, certificate: String) {
        let sender = self.renewed.lock().expect("lock");
        sender.as_ref().expect("set up").send_modify(|identity| {
            let old = identity.as_deref().expect("is there").clone();
            *identity = Some(Arc::new(Identity { certificate, ..old }));
        });
    }
}

/// An agent and its service.
struct Pair {
    recorder: Arc<Recorder>,
    identity: watch::Sender<Option<Arc<Identity>>>,
    facts: watch::Sender<Arc<Facts>>,
    moved: watch::Sender<Trigger>,
    statuses: watch::Sender<Statuses>,
    results: mpsc::Sender<CommandResult>,
    usage: watch::Sender<Option<UsageReport>>,
    streams: mpsc::Receiver<Line>,
    renewals: mpsc::Receiver<()>,
    _tasks: JoinSet<()>,
}

impl Pair {
    async fn start() -> Self {
        Self::with_certificate_of(Timestamp::now(), false).await
    }

    async fn with_certificate_of(made: Timestamp, is_ahead: bool) -> Self {
        let authority = Arc::new(Authority::create(Timestamp::now()).expect("authority"));
        let (streams_in, streams) = mpsc::channel(4);
        let (renewals_in, renewals) = mpsc::channel(4);
        let fake = Fake {
            authority: authority.clone(),
            streams: streams_in,
            renewals: renewals_in,
            is_ahead: AtomicBool::new(is_ahead),
        };
        let mut tasks = JoinSet::new();
        let url = serve(&authority, fake, &mut tasks).await;
        let key = HostKey::generate().expect("key");
        let identity = Identity {
            host: "host-a".parse().expect("id"),
            machine_id: String::new(),
            services: vec![url],
            authority: authority.certificate_pem().to_owned(),
            authority_hash: String::new(),
            certificate: sign(&authority, &key.request().expect("request"), made),
            key: Zeroizing::new(key.to_pem().to_string()),
        };
        let recorder = Arc::new(Recorder::default());
        let (identity, identity_seen) = watch::channel(Some(Arc::new(identity)));
        let (facts, facts_seen) = watch::channel(Arc::new(Facts::default()));
        let (moved, moved_seen) = watch::channel(0);
        let (statuses, statuses_seen) = watch::channel(Statuses::new());
        let (results, results_seen) = mpsc::channel(4);
        let (usage, usage_seen) = watch::channel(None);
        *recorder.renewed.lock().expect("lock") = Some(identity.clone());
        let inputs = Inputs {
            identity: identity_seen,
            facts: facts_seen,
            moved: moved_seen,
            statuses: statuses_seen,
            results: results_seen,
            usage: usage_seen,
        };
        tasks.spawn(run(inputs, recorder.clone()));
        Self { recorder, identity, facts, moved, statuses, results, usage, streams, renewals, _tasks: tasks }
    }

    async fn stream(&mut self) -> Line {
        timeout(SOON, self.streams.recv()).await.expect("connects").expect("the service runs")
    }

    async fn welcomed(&mut self) -> Line {
        let mut stream = self.stream().await;
        stream.hello().await;
        stream.tell(Message::Welcome(Welcome::default())).await;
        self.eventually("is linked", |recorder| {
            matches!(recorder.links.lock().expect("lock").last(), Some(ServiceStatus::Connected { .. }))
        })
        .await;
        stream
    }

    async fn eventually(&self, what: &str, mut holds: impl FnMut(&Recorder) -> bool) {
        let wait = async {
            while !holds(&self.recorder) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, wait).await.unwrap_or_else(|_| panic!("waited for: {what}"));
    }
}

async fn serve(authority: &Authority, fake: Fake, tasks: &mut JoinSet<()>) -> String {
    let own = authority.issue_server(&[], &[], Timestamp::now(), WEEK).expect("issue");
    let tls = TlsAcceptor::from(Arc::new(server_config(&own, None, authority.certificate()).expect("config")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("https://{}", listener.local_addr().expect("address"));
    let (accepted, incoming) = mpsc::channel(4);
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = tls.accept(stream).await {
                let _ = accepted.send(Ok::<_, std::io::Error>(stream)).await;
            }
        }
    });
    tasks.spawn(async move {
        let server = Server::builder().add_service(AgentServiceServer::new(fake));
        let _ = server.serve_with_incoming(ReceiverStream::new(incoming)).await;
    });
    url
}

fn applied(revision: i64) -> Applied {
    Applied { network_id: "prod".into(), epoch: "e".into(), revision, digest: vec![0; 32], ..Applied::default() }
}

fn status(state: PeerState) -> MembershipStatus {
    MembershipStatus { state, reason: String::new(), interface: "cbnet0".into(), revision: 7 }
}

fn named(name: &str) -> Arc<Facts> {
    Arc::new(Facts { host: HostFacts { name: name.into(), ..HostFacts::default() }, ..Facts::default() })
}

#[tokio::test]
async fn a_stream_begins_with_hello_and_carries_what_changes() {
    let mut pair = Pair::start().await;
    pair.facts.send_replace(named("vm-1"));
    pair.recorder.applied.lock().expect("lock").push(applied(7));
    let mut stream = pair.stream().await;
    let hello = stream.hello().await;
    assert_eq!(hello.applied, [applied(7)]);
    stream.tell(Message::Welcome(Welcome { network_ids: vec!["prod".into()], ..Welcome::default() })).await;

    pair.statuses.send_replace(Statuses::from([("prod".parse().expect("id"), status(PeerState::Tunneling))]));
    assert!(matches!(stream.heard().await, Said::Status(s) if s.state == "tunneling" && s.network_id == "prod"));
    pair.facts.send_replace(named("vm-2"));
    assert!(matches!(stream.heard().await, Said::Facts(facts) if facts.host_name == "vm-2"));
    pair.results
        .send(CommandResult { command_id: "command-1".into(), ..CommandResult::default() })
        .await
        .expect("runs");
    assert!(matches!(stream.heard().await, Said::Result(result) if result.command_id == "command-1"));

    let ended = MembershipEnded { network_id: "prod".into(), reason: "removed".into(), ..MembershipEnded::default() };
    stream.tell(Message::Ended(ended.clone())).await;
    pair.eventually("the end is taken", |r| r.taken.lock().expect("lock").contains(&Message::Ended(ended.clone())))
        .await;
}

#[tokio::test]
async fn what_is_to_be_counted_is_reported_once() {
    let mut pair = Pair::start().await;
    let mut stream = pair.welcomed().await;
    let report = |sequence| Some(UsageReport { sequence, ..UsageReport::default() });
    pair.usage.send_replace(report(4));
    assert!(matches!(stream.heard().await, Said::Usage(usage) if usage.sequence == 4));
    pair.usage.send_replace(None);
    pair.usage.send_replace(report(5));
    assert!(matches!(stream.heard().await, Said::Usage(usage) if usage.sequence == 5));
    let taken = Message::UsageTaken(wire::UsageTaken { sequence: 5 });
    stream.tell(taken.clone()).await;
    pair.eventually("the word of it is taken", |r| r.taken.lock().expect("lock").contains(&taken)).await;
}

#[tokio::test]
async fn unchanged_facts_and_statuses_are_not_told_again() {
    let mut pair = Pair::start().await;
    pair.statuses.send_replace(Statuses::from([("prod".parse().expect("id"), status(PeerState::Configuring))]));
    let mut stream = pair.welcomed().await;
    assert!(matches!(stream.heard().await, Said::Status(s) if s.state == "configuring"));
    pair.statuses.send_modify(|_| ());
    pair.facts.send_modify(|_| ());
    pair.statuses.send_modify(|s| s.values_mut().for_each(|s| s.state = PeerState::Tunneling));
    assert!(matches!(stream.heard().await, Said::Status(s) if s.state == "tunneling"));
}

#[tokio::test]
async fn after_a_refused_delta_comes_a_new_stream_whose_hello_leaves_that_network_out() {
    let mut pair = Pair::start().await;
    pair.recorder.applied.lock().expect("lock").push(applied(7));
    *pair.recorder.refuses_deltas.lock().expect("lock") = true;
    let stream = pair.welcomed().await;
    stream.tell(Message::Delta(wire::Delta { network_id: "prod".into(), ..wire::Delta::default() })).await;
    let mut again = pair.stream().await;
    assert_eq!(again.hello().await.applied, []);
}

#[tokio::test]
async fn a_refusal_keeps_no_other_network_waiting_and_is_asked_about_ever_later() {
    let mut pair = Pair::start().await;
    *pair.recorder.refuses_deltas.lock().expect("lock") = true;
    // No stream waits for STUN.
    let observed = Observed::only("203.0.113.9:8055".parse().expect("address"));
    pair.facts.send_replace(Arc::new(Facts { observed, ..Facts::default() }));
    let delta = |id: &str| Message::Delta(wire::Delta { network_id: id.into(), ..wire::Delta::default() });
    let ended = Message::Ended(MembershipEnded { network_id: "other".into(), ..MembershipEnded::default() });
    let started = tokio::time::Instant::now();
    let mut streams = 0;
    while started.elapsed() < Duration::from_secs(2) {
        let Ok(Some(mut stream)) = timeout(Duration::from_secs(2), pair.streams.recv()).await else { break };
        stream.hello().await;
        stream.tell(Message::Welcome(Welcome::default())).await;
        stream.tell(delta("prod")).await;
        stream.tell(ended.clone()).await;
        streams += 1;
    }
    assert!(pair.recorder.taken.lock().expect("lock").contains(&ended), "what came after the refusal is taken");
    assert!(streams < 10, "{streams} streams in two seconds are a storm");
}

#[tokio::test]
async fn a_stream_that_ends_is_made_anew_and_everything_is_told_again() {
    let mut pair = Pair::start().await;
    pair.statuses.send_replace(Statuses::from([("prod".parse().expect("id"), status(PeerState::Tunneling))]));
    drop(pair.welcomed().await);
    let mut again = pair.welcomed().await;
    assert!(matches!(again.heard().await, Said::Status(s) if s.state == "tunneling"));
    let away = |r: &Recorder| r.links.lock().expect("lock").iter().any(|l| matches!(l, ServiceStatus::Away { .. }));
    assert!(away(&pair.recorder), "and it was told that the service was away");
}

#[tokio::test]
async fn after_a_move_a_silent_service_is_left_in_seconds() {
    let mut pair = Pair::start().await;
    let _silent = pair.welcomed().await;
    pair.moved.send_modify(|count| *count += 1);
    pair.stream().await.hello().await;
}

#[tokio::test]
async fn a_changed_address_ends_the_stream_at_once() {
    let mut pair = Pair::start().await;
    let _old = pair.welcomed().await;
    let underlay = DefaultInterface {
        name: "eth0".into(),
        index: 2,
        mtu: 1500,
        gateway: None,
        addresses: vec!["192.0.2.20/24".parse().expect("address")],
    };
    pair.facts.send_replace(Arc::new(Facts { underlay: Some(underlay), ..Facts::default() }));
    pair.moved.send_modify(|count| *count += 1);
    pair.stream().await.hello().await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_by_the_services_clock_is_renewed_before_anything_else() {
    let mut pair = Pair::with_certificate_of(Timestamp::now(), true).await;
    let expired = pair.identity.borrow().as_ref().expect("is there").certificate.clone();
    pair.welcomed().await;
    assert!(pair.renewals.try_recv().is_ok());
    let identity = pair.identity.borrow().clone().expect("is there");
    assert_ne!(identity.certificate, expired);
    let key = HostKey::from_pem(&identity.key).expect("key");
    let (_, until) = Credentials::of_host(&identity.certificate, &key).and_then(|c| c.validity()).expect("valid");
    assert!(until > Timestamp::now());
}

#[tokio::test]
async fn a_certificate_past_half_its_life_is_renewed_on_the_way() {
    let days_ago = Timestamp::now() - SignedDuration::from_hours(24 * 5);
    let mut pair = Pair::with_certificate_of(days_ago, false).await;
    let mut stream = pair.welcomed().await;
    timeout(SOON, pair.renewals.recv()).await.expect("renews").expect("runs");
    pair.facts.send_replace(named("vm-2"));
    assert!(matches!(stream.heard().await, Said::Facts(_)), "and the stream stays");
}

#[tokio::test]
async fn without_an_identity_the_stream_ends_and_the_agent_is_idle() {
    let mut pair = Pair::start().await;
    let mut stream = pair.welcomed().await;
    pair.identity.send_replace(None);
    pair.eventually("is idle", |r| r.links.lock().expect("lock").last() == Some(&ServiceStatus::Idle)).await;
    let ended = timeout(SOON, async { while let Ok(Some(_)) = stream.heard.message().await {} }).await;
    assert!(ended.is_ok());
}
