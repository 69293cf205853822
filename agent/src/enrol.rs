//! Becoming a host with a join token, or a member of a further network. Talks to the service only; what comes of it is
//! for the caller to keep. Nothing is asked of a service that is not the token's.

mod persist;

use std::time::Duration;

use cladnet_model::{JoinToken, NetworkId};
use cladnet_pki::{
    Credentials, HostKey,
    channel::{ConnectError, DialError, ServiceUrl, connect},
    client_config, client_config_pinned, find_authority,
};
use cladnet_proto::cladnet::v1::{
    self as wire, EnrolRequest, JoinRequest, LeaveRequest, agent_service_client::AgentServiceClient,
};
use cladnet_tunnel::PrivateKey;
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use zeroize::Zeroizing;

use crate::{
    failure::{Failure, Kind, chain},
    state::{Identity, Pending, PendingEnrolment},
    sync::{SyncError, credentials},
};
pub(crate) use persist::until;

/// For one call, once connected.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why joining, or leaving, did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{}", .0.message())]
    Refused(Status),
    /// Nothing was done, and the same request may succeed later.
    #[error("{}; run the same command again", .0.message())]
    Busy(Status),
    /// The request was sent and no answer seen: repeating it is safe, and says how it went.
    #[error("the service did not answer ({}); run the same command again", .0.message())]
    Unanswered(Status),
    #[error("keys cannot be made or used")]
    Keys(#[from] cladnet_pki::Error),
    #[error("the service's answer is not as expected: {0}")]
    Answer(String),
    #[error("the identity of this host cannot be used")]
    Identity(#[from] SyncError),
}

impl EnrolError {
    /// Whether the service may have carried this request, or one before it, out all the same.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.may_pass() || matches!(self, Self::Answer(_))
    }

    /// Whether the same request may be answered otherwise in a moment.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Busy(_))
    }

    /// When the service wants to be asked again, if it said so.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unanswered(status) | Self::Busy(status) => status.get_details_retry_info()?.retry_delay,
            _ => None,
        }
    }

    /// Whether trying again later may help.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.kind() == Kind::Unreachable
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Connect(error) => match error.reason {
                DialError::PinMismatch(_) | DialError::Certificate(_) => Kind::Denied,
                _ => Kind::Unreachable,
            },
            Self::Refused(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => Kind::Denied,
                Code::NotFound => Kind::NotFound,
                Code::AlreadyExists | Code::FailedPrecondition => Kind::Conflict,
                _ => Kind::Failed,
            },
            Self::Unanswered(_) | Self::Busy(_) => Kind::Unreachable,
            Self::Keys(_) | Self::Answer(_) => Kind::Failed,
            Self::Identity(_) => Kind::Configuration,
        }
    }

    fn of_status(status: Status) -> Self {
        if let Some(error) = ConnectError::find(&status) {
            return Self::Connect(error);
        }
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => Self::Unanswered(status),
            Code::ResourceExhausted | Code::Aborted => Self::Busy(status),
            _ => Self::Refused(status),
        }
    }
}

impl From<EnrolError> for Failure {
    fn from(error: EnrolError) -> Self {
        Self::new(error.kind(), chain(&error))
    }
}

/// Fresh keys for a token; `enrolment` too, if the host has no identity yet.
pub(crate) fn prepare(token: &str, needs_identity: bool) -> Result<Pending, EnrolError> {
    let enrolment = match needs_identity {
        true => {
            let key = HostKey::generate()?;
            Some(PendingEnrolment { certificate_request: key.request()?, key: key.to_pem() })
        }
        false => None,
    };
    Ok(Pending { token_hash: token_hash(token), enrolment, private_key: PrivateKey::generate(&mut rand::rng()) })
}

/// Names a token without keeping it.
pub(crate) fn token_hash(token: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, token.trim().as_bytes()).as_ref())
}

/// First contact: the service must be of the authority in the token, or nothing is sent. `facts` are asked for when
/// they are sent.
pub(crate) async fn enrol(
    services: &[ServiceUrl],
    token: &JoinToken,
    pending: &Pending,
    machine_id: &str,
    facts: impl FnOnce() -> wire::HostFacts,
) -> Result<(Identity, NetworkId), EnrolError> {
    let enrolment = pending.enrolment.as_ref().ok_or_else(|| EnrolError::Answer("no key was made".into()))?;
    let channel = connect(services, client_config_pinned(*token.ca())?).await?;
    let request = EnrolRequest {
        token: token.to_string(),
        certificate_request: enrolment.certificate_request.clone(),
        public_key: pending.private_key.public_key().as_bytes().to_vec(),
        facts: Some(facts()),
    };
    let answer = call(async |mut client| client.enrol(request.clone()).await, channel).await?;
    let identity = Identity {
        host: id(&answer.host_id, "host_id")?,
        machine_id: machine_id.to_owned(),
        services: services.iter().map(ToString::to_string).collect(),
        authority: find_authority(&answer.certificate, token.ca())?,
        authority_hash: HEXLOWER.encode(token.ca()),
        certificate: answer.certificate,
        key: Zeroizing::new(enrolment.key.to_string()),
    };
    Credentials::of_host(&identity.certificate, &HostKey::from_pem(&identity.key)?)?;
    Ok((identity, id(&answer.network_id, "network_id")?))
}

/// A further membership of a host that has an identity.
pub(crate) async fn join(identity: &Identity, token: &JoinToken, pending: &Pending) -> Result<NetworkId, EnrolError> {
    let request =
        JoinRequest { token: token.to_string(), public_key: pending.private_key.public_key().as_bytes().to_vec() };
    let channel = connect_as(identity).await?;
    let answer = call(async |mut client| client.join(request.clone()).await, channel).await?;
    id(&answer.network_id, "network_id")
}

/// Ends a membership, or with `None` all of them and the host itself. What is gone already is no error: a service that
/// does not let the host in any more has removed it.
pub(crate) async fn leave(identity: &Identity, network: Option<&NetworkId>) -> Result<(), EnrolError> {
    let request = LeaveRequest { network_id: network.map(ToString::to_string).unwrap_or_default() };
    let channel = connect_as(identity).await?;
    match call(async |mut client| client.leave(request.clone()).await, channel).await {
        Err(EnrolError::Refused(status)) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => Ok(()),
        other => other,
    }
}

async fn connect_as(identity: &Identity) -> Result<Channel, EnrolError> {
    let (services, credentials) = credentials(identity)?;
    Ok(connect(&services, client_config(&identity.authority, Some(&credentials))?).await?)
}

async fn call<T>(
    act: impl AsyncFnOnce(AgentServiceClient<Channel>) -> Result<tonic::Response<T>, Status>,
    channel: Channel,
) -> Result<T, EnrolError> {
    match timeout(TIMEOUT, act(AgentServiceClient::new(channel))).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(EnrolError::of_status(status)),
        Err(_) => Err(EnrolError::Unanswered(Status::deadline_exceeded(format!("within {} s", TIMEOUT.as_secs())))),
    }
}

/// Whether the authority that a token names is this identity's.
pub(crate) fn belongs_to(identity: &Identity, token: &JoinToken) -> bool {
    identity.authority_hash == HEXLOWER.encode(token.ca())
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str, field: &str) -> Result<T, EnrolError> {
    text.parse().map_err(|error| EnrolError::Answer(format!("{field} {error}")))
}

#[cfg(test)]
mod tests;
