//! One connection to one of several services: every address of every name, a little apart (RFC 8305 §5), and the first
//! finished TLS handshake wins.

use std::{future::pending, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::ServiceUrl;
use crate::{PinMismatch, service_name};

/// For one address: TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an address may keep the next one waiting (RFC 8305 §8: "Connection Attempt Delay").
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Why no service could be reached. Cheap to clone, because it has to travel inside boxed sources.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot reach the service at {}: {reason}", list(.services))]
pub struct ConnectError {
    pub services: Vec<ServiceUrl>,
    /// Of the attempt that came furthest.
    pub reason: DialError,
}

/// Why one address did not answer; the later variants came further.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    #[error("the name cannot be resolved ({0})")]
    Resolve(Arc<io::Error>),
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Tcp(Arc<io::Error>),
    #[error("the connection failed after it was made ({0})")]
    Transport(String),
    #[error("the TLS handshake failed ({0})")]
    Tls(Arc<io::Error>),
    #[error("its certificate is not trusted: {}", distrust(.0))]
    Certificate(rustls::Error),
    #[error(transparent)]
    PinMismatch(PinMismatch),
}

impl ConnectError {
    /// The failure to connect somewhere below another error, such as tonic's status or transport error.
    pub fn find(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|e| e.downcast_ref::<Self>()).cloned()
    }
}

impl DialError {
    fn depth(&self) -> u8 {
        match self {
            Self::Resolve(_) => 0,
            Self::Timeout => 1,
            Self::Tcp(_) => 2,
            Self::Transport(_) => 3,
            Self::Tls(_) => 4,
            Self::Certificate(_) => 5,
            Self::PinMismatch(_) => 6,
        }
    }

    fn of_handshake(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) if is_pin_mismatch(tls) => Self::PinMismatch(PinMismatch),
            Some(tls @ rustls::Error::InvalidCertificate(_)) => Self::Certificate(tls.clone()),
            _ => Self::Tls(Arc::new(error)),
        }
    }
}

/// Authorities of two installations have one name and different keys, so that a foreign one shows as a bad signature.
fn distrust(error: &rustls::Error) -> String {
    use rustls::{CertificateError, Error::InvalidCertificate};
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "it is of another authority than the one that was given".to_owned()
        }
        other => other.to_string(),
    }
}

fn is_pin_mismatch(error: &rustls::Error) -> bool {
    use rustls::{CertificateError::Other, Error::InvalidCertificate};
    matches!(error, InvalidCertificate(Other(other)) if other.0.downcast_ref::<PinMismatch>().is_some())
}

fn list(services: &[ServiceUrl]) -> String {
    services.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Makes connections; clones share everything.
#[derive(Clone)]
pub(super) struct Dialer {
    services: Arc<[ServiceUrl]>,
    tls: TlsConnector,
}

type Connection = TokioIo<TlsStream<TcpStream>>;

impl Dialer {
    pub(super) fn new(services: &[ServiceUrl], tls: ClientConfig) -> Self {
        Self { services: services.into(), tls: TlsConnector::from(Arc::new(tls)) }
    }

    /// What tonic could not do with a connection that we made.
    pub(super) fn refused(&self, error: tonic::transport::Error) -> ConnectError {
        self.error(DialError::Transport(error.to_string()))
    }

    pub(super) async fn dial(self) -> Result<Connection, ConnectError> {
        let (addresses, mut furthest) = self.resolve().await;
        let (mut waiting, mut attempts) = (addresses.into_iter(), FuturesUnordered::new());
        loop {
            match waiting.next() {
                Some(address) => attempts.push(self.attempt(address)),
                None if attempts.is_empty() => break,
                None => {}
            }
            let next_turn = async {
                match waiting.len() {
                    0 => pending().await,
                    _ => sleep(ATTEMPT_DELAY).await,
                }
            };
            tokio::select! {
                Some(outcome) = attempts.next() => match outcome {
                    Ok(connection) => return Ok(connection),
                    Err(error) if furthest.as_ref().is_none_or(|f| f.depth() < error.depth()) => furthest = Some(error),
                    Err(_) => {}
                },
                () = next_turn => {}
            }
        }
        let nowhere = || DialError::Resolve(Arc::new(io::Error::other("no address")));
        Err(self.error(furthest.unwrap_or_else(nowhere)))
    }

    async fn resolve(&self) -> (Vec<SocketAddr>, Option<DialError>) {
        let (mut addresses, mut unresolved) = (Vec::new(), None);
        for service in self.services.iter() {
            match timeout(CONNECT_TIMEOUT, lookup_host((service.host(), service.port()))).await {
                Ok(Ok(found)) => addresses.extend(found),
                Ok(Err(error)) => unresolved = Some(DialError::Resolve(Arc::new(error))),
                Err(_) => unresolved = Some(DialError::Timeout),
            }
        }
        (addresses, unresolved)
    }

    async fn attempt(&self, address: SocketAddr) -> Result<Connection, DialError> {
        timeout(CONNECT_TIMEOUT, self.handshake(address)).await.unwrap_or(Err(DialError::Timeout))
    }

    async fn handshake(&self, address: SocketAddr) -> Result<Connection, DialError> {
        let stream = TcpStream::connect(address).await.map_err(|error| DialError::Tcp(Arc::new(error)))?;
        stream.set_nodelay(true).map_err(|error| DialError::Tcp(Arc::new(error)))?;
        self.tls.connect(service_name(), stream).await.map(TokioIo::new).map_err(DialError::of_handshake)
    }

    fn error(&self, reason: DialError) -> ConnectError {
        ConnectError { services: self.services.to_vec(), reason }
    }
}
