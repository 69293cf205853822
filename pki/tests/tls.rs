//! Both ends of real TLS connections over loopback: who trusts whom, and what is told when they do not.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cladnet_model::HostId;
use cladnet_pki::{
    Authority, Credentials, Error, HostKey, PeerIdentity, PinMismatch, certificate_spki_sha256,
    channel::{ConnectError, DialError, ServiceUrl, connect, connect_lazy, connect_lazy_for_many},
    client_config, client_config_pinned, find_authority, request_spki_sha256, server_config,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower::{Service as _, ServiceExt as _};

const WEEK: Duration = Duration::from_secs(7 * 86_400);

#[tokio::test]
async fn a_pin_of_the_authority_is_enough_for_the_first_contact() {
    let authority = authority();
    let server = Server::start(config_of(&authority)).await;
    server.handshake(client_config_pinned(authority.spki_sha256()).unwrap()).await.expect("the pin fits");
}

#[tokio::test]
async fn a_pin_of_another_authority_is_a_pin_mismatch() {
    let url = Server::start(config_of(&authority())).await.serving();
    let error = connect(&[url], client_config_pinned(authority().spki_sha256()).unwrap()).await.unwrap_err();
    assert!(matches!(error.reason, DialError::PinMismatch(PinMismatch)), "{error}");
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let (ours, theirs) = (authority(), authority());
    let url = Server::start(config_of(&theirs)).await.serving();
    let error = connect(&[url], client_config(ours.certificate_pem(), None).unwrap()).await.unwrap_err();
    assert!(matches!(error.reason, DialError::Certificate(_)), "{error}");
}

#[tokio::test]
async fn a_pinned_authority_does_not_excuse_a_wrong_name() {
    let authority = authority();
    let (chain, key) = host(&authority, Timestamp::now());
    let masquerade = Credentials::of_host(&chain, &key).unwrap();
    let server = Server::start(server_config(&masquerade, None, authority.certificate()).unwrap()).await;
    assert!(server.handshake(client_config_pinned(authority.spki_sha256()).unwrap()).await.is_err());
}

#[tokio::test]
async fn whoever_merely_shows_the_pinned_authority_is_not_trusted() {
    let authority = authority();
    let (foreign_key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let foreign = CertifiedIssuer::self_signed(CertificateParams::new(Vec::new()).unwrap(), foreign_key).unwrap();
    let leaf = CertificateParams::new(vec![cladnet_pki::SERVICE_NAME.to_owned()]).unwrap();
    let chain = leaf.signed_by(&leaf_key, &foreign).unwrap().pem() + authority.certificate_pem();
    let masquerade = Credentials::from_pem(&chain, &leaf_key.serialize_pem()).unwrap();
    let url = Server::start(server_config(&masquerade, None, authority.certificate()).unwrap()).await.serving();
    let error = connect(&[url], client_config_pinned(authority.spki_sha256()).unwrap()).await.unwrap_err();
    assert!(matches!(error.reason, DialError::Certificate(_)), "{error}");
}

#[tokio::test]
async fn a_host_is_known_by_its_certificate() {
    let authority = authority();
    let server = Server::start(config_of(&authority)).await;
    let (chain, key) = host(&authority, Timestamp::now());
    let identity = server.handshake(config_of_host(&authority, &chain, &key)).await.unwrap().expect("a certificate");
    assert_eq!(identity.host_id.as_str(), "host-a");
    assert_eq!(identity.spki_sha256, key.spki_sha256().unwrap());
    assert!(!identity.expired);
}

#[tokio::test]
async fn a_client_without_a_certificate_has_no_identity() {
    let authority = authority();
    let server = Server::start(config_of(&authority)).await;
    let identity = server.handshake(client_config(authority.certificate_pem(), None).unwrap()).await.unwrap();
    assert_eq!(identity, None);
}

#[tokio::test]
async fn an_expired_host_gets_in_and_is_marked() {
    let authority = authority();
    let server = Server::start(config_of(&authority)).await;
    let (chain, key) = host(&authority, Timestamp::now() - SignedDuration::from_hours(24 * 30));
    let identity = server.handshake(config_of_host(&authority, &chain, &key)).await.unwrap().expect("a certificate");
    assert!(identity.expired);
}

#[tokio::test]
async fn a_host_of_another_authority_does_not_get_in_expired_or_not() {
    let (ours, theirs) = (authority(), authority());
    let server = Server::start(config_of(&ours)).await;
    for made in [Timestamp::now(), Timestamp::now() - SignedDuration::from_hours(24 * 30)] {
        let (chain, key) = host(&theirs, made);
        let credentials = Credentials::of_host(&chain, &key).unwrap();
        let client = client_config(ours.certificate_pem(), Some(&credentials)).unwrap();
        assert!(server.handshake(client).await.is_err());
    }
}

#[tokio::test]
async fn a_server_certificate_is_no_host_certificate() {
    let authority = authority();
    let server = Server::start(config_of(&authority)).await;
    let own = authority.issue_server(&[], &[], Timestamp::now(), WEEK).unwrap();
    assert!(server.handshake(client_config(authority.certificate_pem(), Some(&own)).unwrap()).await.is_err());
}

#[tokio::test]
async fn a_given_certificate_answers_other_names_and_ours_keeps_its_own() {
    let (ours, public) = (authority(), authority());
    let given = public.issue_server(&["cladnet.example".to_owned()], &[], Timestamp::now(), WEEK).unwrap();
    let own = ours.issue_server(&[], &[], Timestamp::now(), WEEK).unwrap();
    let server = Server::start(server_config(&own, Some(&given), ours.certificate()).unwrap()).await;
    let agent = client_config(ours.certificate_pem(), None).unwrap();
    let browser = client_config(public.certificate_pem(), None).unwrap();
    server.handshake(agent).await.expect("our name");
    server.handshake_as("cladnet.example", browser).await.expect("the public name");
}

#[tokio::test]
async fn a_server_is_known_by_every_name_and_address_given() {
    let authority = authority();
    let address = "203.0.113.9".parse().unwrap();
    let names = ["vm-1".to_owned(), "2001:db8::9".to_owned(), "localhost".to_owned()];
    let own = authority.issue_server(&names, &[address], Timestamp::now(), WEEK).unwrap();
    let server = Server::start(server_config(&own, None, authority.certificate()).unwrap()).await;
    for name in ["vm-1", "localhost", "203.0.113.9", "2001:db8::9", "127.0.0.1", "::1"] {
        let client = client_config(authority.certificate_pem(), None).unwrap();
        server.handshake_as(name, client).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(matches!(
        authority.issue_server(&["no name".to_owned()], &[], Timestamp::now(), WEEK),
        Err(Error::Name(name)) if name == "no name"
    ));
}

#[tokio::test]
async fn a_channel_finds_the_replica_that_lives() {
    let authority = authority();
    let server = Server::start(config_of(&authority)).await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let urls = [format!("https://{dead}").parse().unwrap(), server.serving()];
    let client = client_config(authority.certificate_pem(), None).unwrap();
    let mut channel = connect(&urls, client).await.unwrap();
    let request = http::Request::post("/x.Y/Z").body(tonic::body::Body::empty()).unwrap();
    assert_eq!(channel.ready().await.unwrap().call(request).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_unreachable_service_is_named_also_from_below_a_lazy_channel() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url: ServiceUrl = format!("https://{dead}").parse().unwrap();
    let client = client_config_pinned([0; 32]).unwrap();
    let error = connect(std::slice::from_ref(&url), client.clone()).await.unwrap_err();
    assert!(matches!(error.reason, DialError::Tcp(_)), "{error}");
    assert!(error.to_string().contains(&url.to_string()), "{error}");

    let mut channel = connect_lazy(&[url], client);
    let request = http::Request::post("/x.Y/Z").body(tonic::body::Body::empty()).unwrap();
    let below = channel.ready().await.unwrap().call(request).await.unwrap_err();
    assert!(ConnectError::find(&below).is_some(), "{below:?}");
}

#[tokio::test]
async fn answers_that_nobody_reads_keep_nobody_else_from_theirs() {
    const STREAMS: u32 = 64;
    const LONG: usize = 1024 * 1024;
    let authority = authority();
    let url = Server::start(config_of(&authority)).await.serving();
    let client = client_config(authority.certificate_pem(), None).unwrap();
    let channel = connect_lazy_for_many(&[url], client, STREAMS);
    let ask = async || {
        let request = http::Request::post(format!("/{LONG}")).body(tonic::body::Body::empty()).unwrap();
        channel.clone().oneshot(request).await.unwrap().into_body()
    };
    let mut unread = Vec::new();
    for _ in 1..STREAMS {
        unread.push(ask().await);
    }
    let read = timeout(Duration::from_secs(10), ask().await.collect()).await.expect("it flows");
    assert_eq!(read.unwrap().to_bytes().len(), LONG);
}

#[test]
fn an_authority_and_a_host_key_survive_being_written_down() {
    let authority = authority();
    let again = Authority::from_pem(authority.certificate_pem(), &authority.key_pem()).unwrap();
    assert_eq!(again.spki_sha256(), authority.spki_sha256());
    let key = HostKey::generate().unwrap();
    let key_again = HostKey::from_pem(&key.to_pem()).unwrap();
    let id: HostId = "host-a".parse().unwrap();
    let chain = again.sign_host_request(&key_again.request().unwrap(), &id, Timestamp::now(), WEEK).unwrap();
    let credentials = Credentials::of_host(&chain, &key).unwrap();
    assert_eq!(certificate_spki_sha256(&credentials.chain()[0]).unwrap(), key.spki_sha256().unwrap());
    assert_eq!(request_spki_sha256(&key_again.request().unwrap()).unwrap(), key.spki_sha256().unwrap());
    assert_eq!(find_authority(&chain, &authority.spki_sha256()).unwrap().trim(), authority.certificate_pem().trim());
    assert!(matches!(find_authority(&chain, &[7; 32]), Err(Error::PinMismatch(_))));
    let (from, until) = credentials.validity().unwrap();
    assert!(from < Timestamp::now() && Timestamp::now() < until);
}

#[test]
fn keys_and_requests_that_do_not_belong_are_refused() {
    let (ours, theirs) = (authority(), authority());
    assert!(matches!(Authority::from_pem(ours.certificate_pem(), &theirs.key_pem()), Err(Error::ForeignKey)));
    let (chain, _) = host(&ours, Timestamp::now());
    assert!(matches!(Credentials::of_host(&chain, &HostKey::generate().unwrap()), Err(Error::ForeignKey)));
    let id = "host-a".parse().unwrap();
    let mut tampered = HostKey::generate().unwrap().request().unwrap();
    *tampered.last_mut().unwrap() ^= 1;
    for request in [tampered.as_slice(), b"", b"\x30\x03junk"] {
        let refused = ours.sign_host_request(request, &id, Timestamp::now(), WEEK);
        assert!(matches!(refused, Err(Error::Request(_))), "{refused:?}");
    }
}

fn authority() -> Authority {
    Authority::create(Timestamp::now()).unwrap()
}

fn config_of(authority: &Authority) -> ServerConfig {
    let own = authority.issue_server(&[], &[], Timestamp::now(), WEEK).unwrap();
    server_config(&own, None, authority.certificate()).unwrap()
}

fn host(authority: &Authority, made: Timestamp) -> (String, HostKey) {
    let key = HostKey::generate().unwrap();
    let id = "host-a".parse().unwrap();
    (authority.sign_host_request(&key.request().unwrap(), &id, made, WEEK).unwrap(), key)
}

fn config_of_host(authority: &Authority, chain: &str, key: &HostKey) -> ClientConfig {
    client_config(authority.certificate_pem(), Some(&Credentials::of_host(chain, key).unwrap())).unwrap()
}

struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
}

impl Server {
    async fn start(config: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap(), listener, tls: TlsAcceptor::from(Arc::new(config)) }
    }

    /// Serves from now on.
    fn serving(self) -> ServiceUrl {
        let url = format!("https://{}", self.address).parse().unwrap();
        tokio::spawn(self.serve());
        url
    }

    async fn handshake(&self, client: ClientConfig) -> std::io::Result<Option<PeerIdentity>> {
        self.handshake_as(cladnet_pki::SERVICE_NAME, client).await
    }

    /// One connection, as both ends see it: the identity that the server read, or the first refusal.
    async fn handshake_as(&self, name: &str, client: ClientConfig) -> std::io::Result<Option<PeerIdentity>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let serve = async { self.tls.accept(self.listener.accept().await?.0).await };
        let dial =
            async { TlsConnector::from(Arc::new(client)).connect(name, TcpStream::connect(self.address).await?).await };
        let (served, dialled) = tokio::join!(serve, dial);
        dialled?;
        Ok(PeerIdentity::from_connection(served?.get_ref().1, Timestamp::now()))
    }

    /// Answers every request with 200 and as many bytes as its path says, none if it says none.
    async fn serve(self) {
        while let Ok((stream, _)) = self.listener.accept().await {
            let tls = self.tls.clone();
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let answer = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    let length = request.uri().path()[1..].parse().unwrap_or_default();
                    let answer = Full::new(Bytes::from(vec![0; length]));
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(answer))
                });
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    }
}
