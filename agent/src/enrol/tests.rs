//! Enrolment against a service of a few lines, over real TLS.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use cladnet_model::{CA_HASH_BYTES, SECRET_BYTES, Secret};
use cladnet_pki::{Authority, request_spki_sha256, server_config};
use cladnet_proto::cladnet::v1::agent_service_server::{AgentService, AgentServiceServer};
use futures_util::Stream;
use jiff::Timestamp;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::Instant};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Streaming, transport::Server};
use tonic_types::ErrorDetails;

use super::*;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// What the service answers to whoever calls.
#[derive(Clone)]
enum Answer {
    Welcome,
    Status(Code, &'static str),
    /// It has too much to do, and says when to come back.
    Busy(Duration),
}

/// In turn; the last one again and again.
type Answers = Arc<Mutex<VecDeque<Answer>>>;

struct Service {
    authority: Authority,
    answers: Answers,
    calls: Arc<AtomicUsize>,
    seen: mpsc::Sender<EnrolRequest>,
}

impl Service {
    fn refusal(&self) -> Result<(), Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut answers = self.answers.lock().expect("lock");
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        match answer.expect("an answer") {
            Answer::Welcome => Ok(()),
            Answer::Status(code, message) => Err(Status::new(code, message)),
            Answer::Busy(wait) => {
                let hint = ErrorDetails::with_retry_info(Some(wait));
                Err(Status::with_error_details(Code::ResourceExhausted, "too many enrolments", hint))
            }
        }
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<wire::ServiceMessage, Status>> + Send>>;

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<wire::EnrolResponse>, Status> {
        self.refusal()?;
        let request = request.into_inner();
        let host = "host-a".parse().expect("id");
        let certificate = self
            .authority
            .sign_host_request(&request.certificate_request, &host, Timestamp::now(), WEEK)
            .expect("signs");
        self.seen.send(request).await.expect("the test looks");
        let (host_id, network_id) = (host.to_string(), "prod".to_owned());
        Ok(Response::new(wire::EnrolResponse { host_id, certificate, network_id, epoch: "e".into() }))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<wire::JoinResponse>, Status> {
        self.refusal()?;
        Ok(Response::new(wire::JoinResponse { network_id: "lab".into() }))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<()>, Status> {
        self.refusal().map(Response::new)
    }

    async fn renew_certificate(
        &self,
        _: Request<wire::RenewCertificateRequest>,
    ) -> Result<Response<wire::RenewCertificateResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn sync(&self, _: Request<Streaming<wire::AgentMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

/// A running service, and a token of its authority.
struct World {
    url: ServiceUrl,
    token: JoinToken,
    answers: Answers,
    calls: Arc<AtomicUsize>,
    seen: mpsc::Receiver<EnrolRequest>,
    _tasks: JoinSet<()>,
}

impl World {
    async fn answering(answer: Answer) -> Self {
        Self::answering_in_turn([answer]).await
    }

    async fn answering_in_turn(answers: impl Into<VecDeque<Answer>>) -> Self {
        let authority = Authority::create(Timestamp::now()).expect("authority");
        let own = authority.issue_server(&[], &[], Timestamp::now(), WEEK).expect("issue");
        let tls = TlsAcceptor::from(Arc::new(server_config(&own, None, authority.certificate()).expect("config")));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let url = format!("https://{}", listener.local_addr().expect("address")).parse().expect("URL");
        let token = token(authority.spki_sha256());
        let (calls, (seen_in, seen)) = (Arc::new(AtomicUsize::new(0)), mpsc::channel(4));
        let answers = Arc::new(Mutex::new(answers.into()));
        let service = Service { authority, answers: answers.clone(), calls: calls.clone(), seen: seen_in };
        let (accepted, incoming) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = tls.accept(stream).await {
                    let _ = accepted.send(Ok::<_, std::io::Error>(stream)).await;
                }
            }
        });
        tasks.spawn(async move {
            let server = Server::builder().add_service(AgentServiceServer::new(service));
            let _ = server.serve_with_incoming(ReceiverStream::new(incoming)).await;
        });
        Self { url, token, answers, calls, seen, _tasks: tasks }
    }

    async fn enrol(&self, token: &JoinToken, pending: &Pending) -> Result<(Identity, NetworkId), EnrolError> {
        enrol(std::slice::from_ref(&self.url), token, pending, "machine-1", wire::HostFacts::default).await
    }

    fn answer(&mut self, answer: Answer) {
        *self.answers.lock().expect("lock") = [answer].into();
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn token(authority: [u8; CA_HASH_BYTES]) -> JoinToken {
    JoinToken::new([1; 10], Secret::new([2; SECRET_BYTES]), authority)
}

fn keys() -> Pending {
    prepare(&token([0; CA_HASH_BYTES]).to_string(), true).expect("keys")
}

#[tokio::test]
async fn an_identity_is_made_of_keys_that_stay_here() {
    let mut world = World::answering(Answer::Welcome).await;
    let pending = keys();
    let (identity, network) = world.enrol(&world.token, &pending).await.expect("enrols");
    assert_eq!((identity.host.as_str(), network.as_str()), ("host-a", "prod"));
    assert!(belongs_to(&identity, &world.token) && !belongs_to(&identity, &token([9; CA_HASH_BYTES])));

    let seen = world.seen.recv().await.expect("was asked");
    assert_eq!(seen.public_key, pending.private_key.public_key().as_bytes());
    let key = HostKey::from_pem(&identity.key).expect("key");
    assert_eq!(request_spki_sha256(&seen.certificate_request).expect("request"), key.spki_sha256().expect("hash"));

    assert_eq!(join(&identity, &world.token, &pending).await.expect("joins").as_str(), "lab");
    leave(&identity, None).await.expect("leaves");
    assert_eq!(world.calls(), 3);
}

#[tokio::test]
async fn a_service_of_another_authority_is_told_nothing() {
    let world = World::answering(Answer::Welcome).await;
    let error = world.enrol(&token([9; CA_HASH_BYTES]), &keys()).await.expect_err("a foreign token");
    assert!(!error.is_uncertain());
    assert_eq!(Failure::from(error).kind, Kind::Denied);
    assert_eq!(world.calls(), 0);
}

#[tokio::test]
async fn a_refusal_is_final_and_its_sentence_is_passed_on() {
    for (code, kind) in [
        (Code::PermissionDenied, Kind::Denied),
        (Code::Unauthenticated, Kind::Denied),
        (Code::AlreadyExists, Kind::Conflict),
        (Code::FailedPrecondition, Kind::Conflict),
        (Code::NotFound, Kind::NotFound),
        (Code::InvalidArgument, Kind::Failed),
    ] {
        let world = World::answering(Answer::Status(code, "the join token has been used up")).await;
        let error = world.enrol(&world.token, &keys()).await.expect_err("refused");
        assert!(!error.is_uncertain(), "{code}");
        let failure = Failure::from(error);
        assert_eq!((failure.kind, failure.message.as_str()), (kind, "the join token has been used up"), "{code}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_leaves_the_keys_for_another_try() {
    let world = World::answering(Answer::Status(Code::Unavailable, "going down")).await;
    let error = world.enrol(&world.token, &keys()).await.expect_err("no answer");
    assert!(error.is_uncertain());
    let failure = Failure::from(error);
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(failure.message.contains("run the same command again"), "{failure}");
}

#[tokio::test]
async fn a_membership_that_is_gone_already_is_left() {
    let mut world = World::answering(Answer::Welcome).await;
    let (identity, network) = world.enrol(&world.token, &keys()).await.expect("enrols");
    for code in [Code::NotFound, Code::PermissionDenied] {
        world.answer(Answer::Status(code, "no such host"));
        assert!(leave(&identity, Some(&network)).await.is_ok(), "{code}");
    }
    world.answer(Answer::Status(Code::Unavailable, "going down"));
    assert!(leave(&identity, Some(&network)).await.is_err_and(|error| error.is_unreachable()));
}

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_busy_service_is_asked_again_and_no_sooner_than_it_wants() {
    let hint = Duration::from_millis(300);
    let busy = [
        Answer::Status(Code::ResourceExhausted, "too many enrolments"),
        Answer::Busy(hint),
        Answer::Status(Code::Unavailable, "going down"),
        Answer::Status(Code::Aborted, "try again"),
        Answer::Welcome,
    ];
    let (world, pending, start) = (World::answering_in_turn(busy).await, keys(), Instant::now());
    let enrolled = until(start + LONG, || world.enrol(&world.token, &pending)).await;
    assert_eq!(enrolled.expect("enrols").1.as_str(), "prod");
    assert_eq!(world.calls(), 5);
    assert!(start.elapsed() >= hint);
}

#[tokio::test]
async fn a_service_that_stays_busy_is_given_up_at_the_deadline_and_the_keys_are_kept() {
    let world = World::answering(Answer::Status(Code::ResourceExhausted, "too many enrolments")).await;
    let (pending, deadline) = (keys(), Instant::now() + Duration::from_millis(400));
    let error = until(deadline, || world.enrol(&world.token, &pending)).await.expect_err("busy");
    assert!(error.is_uncertain() && world.calls() >= 1);
    let failure = Failure::from(error);
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(failure.message.contains("too many enrolments; run the same command again"), "{failure}");
}

#[tokio::test]
async fn a_refusal_and_an_address_where_nobody_is_are_told_at_once() {
    let world = World::answering(Answer::Status(Code::Unauthenticated, "the join token is not valid")).await;
    let (pending, deadline) = (keys(), Instant::now() + LONG);
    let refused = until(deadline, || world.enrol(&world.token, &pending)).await;
    assert!(matches!(refused, Err(EnrolError::Refused(_))) && world.calls() == 1);

    let nobody: ServiceUrl = "https://127.0.0.1:1".parse().expect("URL");
    let asked = AtomicUsize::new(0);
    let ask = || {
        asked.fetch_add(1, Ordering::Relaxed);
        let services = std::slice::from_ref(&nobody);
        enrol(services, &world.token, &pending, "machine-1", wire::HostFacts::default)
    };
    assert!(matches!(until(deadline, ask).await, Err(EnrolError::Connect(_))));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}
