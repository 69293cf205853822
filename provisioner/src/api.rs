//! What the provisioner asks of `cladnet.v1`: tokens, peers, hosts and their locations. A service that is being restarted
//! or replaced is waited for.

use std::{net::Ipv4Addr, time::Duration};

use cladnet_model::{CloudLocation, HostId, Labels, NetworkId, TokenId, location::Located};
use cladnet_proto::{
    cladnet::v1::{
        CreateTokenRequest, GetPeerRequest, InjectedLocation, ListPeersRequest, Peer, RemoveHostRequest,
        RemovePeerRequest, RevokeTokenRequest, UpdateHostLocationRequest, UpdatePeerRequest,
        host_service_client::HostServiceClient, peer_service_client::PeerServiceClient,
        system_service_client::SystemServiceClient, token_service_client::TokenServiceClient,
    },
    is_passing,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use zeroize::Zeroizing;

/// For one call.
const CALL: Duration = Duration::from_secs(10);
/// A service that is restarted or fails over is back by then.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
/// The longest page that the service gives.
const PAGE: u32 = 1000;

/// Where `cladnet.v1` is, and as whom to ask it.
#[derive(Clone)]
pub struct ServiceAccess {
    channel: Channel,
    bearer: Bearer,
}

/// An API key that cannot be one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the API key holds characters that no API key has")]
pub struct NoApiKey;

impl ServiceAccess {
    /// Over a channel that needs a key; with none, over one inside the process that needs none.
    pub fn new(channel: Channel, api_key: Option<&str>) -> Result<Self, NoApiKey> {
        let header = |key: &str| {
            let mut header: MetadataValue<Ascii> = format!("Bearer {key}").parse().map_err(|_| NoApiKey)?;
            header.set_sensitive(true);
            Ok(header)
        };
        Ok(Self { channel, bearer: Bearer(api_key.map(header).transpose()?) })
    }

    fn service(&self) -> InterceptedService<Channel, Bearer> {
        InterceptedService::new(self.channel.clone(), self.bearer.clone())
    }
}

#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// What the service answered instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("the service refuses to {what}: {}", .status.message())]
    Refused { what: &'static str, status: Box<Status> },
    #[error("the service does not answer ({what}: {reason}); repeat the deployment when it is back")]
    Unanswered { what: &'static str, reason: String },
    #[error("the service's answer is not as expected ({what})")]
    Answer { what: &'static str },
}

/// One call, with patience: `ask!(self, "do this", Client::method, request)`.
macro_rules! ask {
    ($access:expr, $what:expr, $client:ident :: $method:ident, $request:expr) => {{
        let (client, request) = ($client::new($access.service()), $request);
        patiently($what, || {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.$method(request).await }
        })
        .await
    }};
}

/// A join token as it was made.
pub(crate) struct NewToken {
    pub id: TokenId,
    pub secret: Zeroizing<String>,
}

impl ServiceAccess {
    /// SHA-256 of the installation's authority, hex.
    pub(crate) async fn authority(&self) -> Result<String, ApiError> {
        Ok(ask!(self, "tell who it is", SystemServiceClient::get_info, ())?.ca_fingerprint)
    }

    /// A token for one join, under an id that the caller has drawn.
    pub(crate) async fn create_token(
        &self,
        id: &TokenId,
        network: &NetworkId,
        labels: &Labels,
        ttl: Duration,
    ) -> Result<NewToken, ApiError> {
        const WHAT: &str = "make a join token";
        let ttl = prost_types::Duration::try_from(ttl).map_err(|_| ApiError::Answer { what: WHAT })?;
        let request = CreateTokenRequest {
            network_id: network.to_string(),
            uses: 1,
            ttl: Some(ttl),
            labels: labels.clone(),
            token_id: id.to_string(),
        };
        let made = ask!(self, WHAT, TokenServiceClient::create_token, request)?;
        Ok(NewToken { id: id.clone(), secret: Zeroizing::new(made.secret) })
    }

    /// Takes a token back; one that is used or gone is fine.
    pub(crate) async fn revoke_token(&self, token: &TokenId) -> Result<(), ApiError> {
        let request = RevokeTokenRequest { token_id: token.to_string() };
        gone_is_fine(ask!(self, "revoke a token", TokenServiceClient::revoke_token, request))
    }

    pub(crate) async fn peer(&self, network: &NetworkId, host: &HostId) -> Result<Peer, ApiError> {
        let request = GetPeerRequest { network_id: network.to_string(), host_id: host.to_string() };
        ask!(self, "show the peer", PeerServiceClient::get_peer, request)
    }

    /// Peers of a network: the first page is enough to find one to ping.
    pub(crate) async fn peers(&self, network: &NetworkId) -> Result<Vec<Peer>, ApiError> {
        let request = ListPeersRequest { network_id: network.to_string(), page_size: PAGE, page_token: String::new() };
        Ok(ask!(self, "list the peers", PeerServiceClient::list_peers, request)?.peers)
    }

    /// Whether this member of the network has shown the token. The service knows it from the host's own certificate.
    pub(crate) async fn has_shown(
        &self,
        network: &NetworkId,
        host: &HostId,
        token: &TokenId,
    ) -> Result<bool, ApiError> {
        match self.peer(network, host).await {
            Ok(peer) => Ok(peer.shown_token_id == token.as_str()),
            Err(ApiError::Refused { status, .. }) if status.code() == Code::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// More labels, and an address; what is absent stays.
    pub(crate) async fn update_peer(
        &self,
        network: &NetworkId,
        host: &HostId,
        labels: Option<&Labels>,
        address: Option<Ipv4Addr>,
    ) -> Result<(), ApiError> {
        let request = UpdatePeerRequest {
            network_id: network.to_string(),
            host_id: host.to_string(),
            labels: labels.cloned().unwrap_or_default(),
            add_labels: true,
            ipv4_address: address.map(|address| address.to_string()),
            ..UpdatePeerRequest::default()
        };
        ask!(self, "change the peer", PeerServiceClient::update_peer, request).map(drop)
    }

    /// What the inventory knows of the machine's cloud.
    pub(crate) async fn update_location(&self, host: &HostId, location: &CloudLocation) -> Result<(), ApiError> {
        let value = |field: &Option<Located>| field.as_ref().map(|field| field.value.clone()).unwrap_or_default();
        let location = InjectedLocation {
            provider: value(&location.provider),
            account: value(&location.account),
            region: value(&location.region),
            zone: value(&location.zone),
            vpc: value(&location.vpc),
            subnet: value(&location.subnet),
        };
        let request =
            UpdateHostLocationRequest { host_id: host.to_string(), location: Some(location), clear: Vec::new() };
        ask!(self, "take the location", HostServiceClient::update_host_location, request).map(drop)
    }

    /// Ends a membership; one that has ended is fine.
    pub(crate) async fn remove_peer(&self, network: &NetworkId, host: &HostId) -> Result<(), ApiError> {
        let request = RemovePeerRequest { network_id: network.to_string(), host_id: host.to_string() };
        gone_is_fine(ask!(self, "remove the peer", PeerServiceClient::remove_peer, request))
    }

    /// Ends a host; one that is gone is fine.
    pub(crate) async fn remove_host(&self, host: &HostId) -> Result<(), ApiError> {
        let request = RemoveHostRequest { host_id: host.to_string() };
        gone_is_fine(ask!(self, "remove the host", HostServiceClient::remove_host, request))
    }
}

fn gone_is_fine(done: Result<(), ApiError>) -> Result<(), ApiError> {
    match done {
        Err(ApiError::Refused { status, .. }) if status.code() == Code::NotFound => Ok(()),
        done => done,
    }
}

/// Asks until the service is there. Whoever repeats a call whose answer was lost does no harm here: a token too many
/// expires soon.
async fn patiently<T, F>(what: &'static str, call: impl Fn() -> F) -> Result<T, ApiError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        let reason = match timeout(CALL, call()).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) if !is_passing(&status) => {
                return Err(ApiError::Refused { what, status: Box::new(status) });
            }
            Ok(Err(status)) => format!("{}: {}", status.code(), status.message()),
            Err(_) => format!("nothing for {} s", CALL.as_secs()),
        };
        if Instant::now() >= until {
            return Err(ApiError::Unanswered { what, reason });
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn ask_when_it_answers(first: &[Code]) -> (Result<(), ApiError>, usize) {
        let asked = AtomicUsize::new(0);
        let call = || {
            let answer = first.get(asked.fetch_add(1, Ordering::Relaxed));
            async move { answer.map_or(Ok(Response::new(())), |code| Err(Status::new(*code, "not now"))) }
        };
        let outcome = patiently("do it", call).await;
        (outcome, asked.into_inner())
    }

    #[tokio::test]
    async fn a_service_that_is_replaced_in_the_middle_is_asked_again() {
        let broken = [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal];
        let (outcome, asked) =
            ask_when_it_answers(&[&broken[..], &[Code::Aborted, Code::ResourceExhausted]].concat()).await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(asked, 7);
    }

    #[tokio::test]
    async fn an_answer_is_an_answer() {
        for code in [Code::InvalidArgument, Code::NotFound, Code::PermissionDenied, Code::FailedPrecondition] {
            let (outcome, asked) = ask_when_it_answers(&[code]).await;
            assert!(matches!(outcome, Err(ApiError::Refused { .. })), "{outcome:?}");
            assert_eq!(asked, 1);
        }
    }
}
