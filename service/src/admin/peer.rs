//! Peers, as `cladnet.v1` shows them.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use cladnet_model::{DesiredState, HostId, NetworkId, validate::check_name};
use cladnet_proto::{
    cladnet::v1::{
        Command, ControlPeersRequest, ControlPeersResponse, ControlResult, CreatePlainPeerRequest,
        CreatePlainPeerResponse, GetPeerRequest, ListPeersRequest, ListPeersResponse, Peer, RemovePeerRequest,
        UpdatePeerRequest, peer_service_server::PeerService,
    },
    convert::{FieldError, duration, optional, required},
};
use tonic::{Request, Response, Status, async_trait};

use super::{Admin, checked_labels};
use crate::{
    auth::Caller,
    error::CallError,
    page::{Order, Page},
    peers::{LabelUpdate, PeerRow, PeerUpdate, Peers, find},
    plain::PlainPeer,
};

/// How long a command waits for agents, and at most.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

#[async_trait]
impl PeerService for Admin {
    async fn list_peers(&self, request: Request<ListPeersRequest>) -> Result<Response<ListPeersResponse>, Status> {
        let request = request.into_inner();
        let network = required("network_id", &request.network_id)?;
        let page = Page { size: request.page_size, token: &request.page_token };
        let peers = self.0.peers(&network).await?.wire(&network);
        let (peers, next_page_token) = page.cut(peers, Order::Rising, |peer| &peer.host_id)?;
        Ok(Response::new(ListPeersResponse { peers, next_page_token }))
    }

    async fn get_peer(&self, request: Request<GetPeerRequest>) -> Result<Response<Peer>, Status> {
        let GetPeerRequest { network_id, host_id } = request.into_inner();
        let (network, host) = ids(&network_id, &host_id)?;
        Ok(Response::new(self.0.peer(&network, &host).await?.wire()))
    }

    async fn update_peer(&self, request: Request<UpdatePeerRequest>) -> Result<Response<Peer>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (network, host) = ids(&request.network_id, &request.host_id)?;
        let address = |text: &str| optional::<Ipv4Addr>("ipv4_address", text);
        let static_address = request.ipv4_address.as_deref().map(address).transpose()?;
        let update = PeerUpdate { labels: label_update(request)?, static_address };
        self.0.update_peer(&network, &host, &update, caller.key.as_str()).await?;
        Ok(Response::new(self.0.peer(&network, &host).await?.wire()))
    }

    async fn remove_peer(&self, request: Request<RemovePeerRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let RemovePeerRequest { network_id, host_id } = request.into_inner();
        let (network, host) = ids(&network_id, &host_id)?;
        self.0.remove_peer(&network, &host, caller.key.as_str()).await?;
        Ok(Response::new(()))
    }

    async fn create_plain_peer(
        &self,
        request: Request<CreatePlainPeerRequest>,
    ) -> Result<Response<CreatePlainPeerResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let network: NetworkId = required("network_id", &request.network_id)?;
        check_name(&request.name).map_err(|error| FieldError::new("name", error))?;
        let not_an_endpoint = |_| FieldError::new("endpoint", "is not ADDRESS:PORT, IPv6 in brackets");
        let endpoint = Some(request.endpoint.as_str()).filter(|text| !text.is_empty()).map(str::parse::<SocketAddr>);
        let peer = PlainPeer {
            name: request.name,
            public_key: required("public_key", &request.public_key)?,
            labels: checked_labels(request.labels)?,
            endpoint: endpoint.transpose().map_err(not_an_endpoint)?,
        };
        let (host, revision) = self.0.create_plain_peer(&network, peer, caller.key.as_str()).await?;
        Ok(Response::new(CreatePlainPeerResponse {
            peer: Some(self.0.peer(&network, &host).await?.wire()),
            remotes: self.0.agents.remotes(&network, &host, revision).await?,
            ipv4_address_space: self.0.network(&network).await?.value.address_space.to_string(),
        }))
    }

    async fn control_peers(
        &self,
        request: Request<ControlPeersRequest>,
    ) -> Result<Response<ControlPeersResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let network: NetworkId = required("network_id", &request.network_id)?;
        let desired = match request.command() {
            Command::Up => DesiredState::Up,
            Command::Down => DesiredState::Down,
            Command::Unspecified => {
                return Err(CallError::invalid("command", "is missing; use COMMAND_UP or COMMAND_DOWN").into());
            }
        };
        let wait = match duration("timeout", request.timeout)? {
            None => DEFAULT_WAIT,
            Some(wait) if wait <= LONGEST_WAIT => wait,
            Some(wait) => {
                let (given, most) = (wait.as_secs(), LONGEST_WAIT.as_secs());
                return Err(CallError::invalid("timeout", format!("is {given} s; at most {most} s are allowed")).into());
            }
        };
        let peers = self.0.peers(&network).await?;
        let unreadable = if request.host_ids.is_empty() { peers.unreadable_outcomes() } else { Vec::new() };
        let peers = select(peers, &network, &request.host_ids)?;
        let mut outcomes = self.0.control(&network, peers, desired, wait, caller.key.as_str()).await?;
        outcomes.extend(unreadable);
        let results = outcomes.into_iter().map(|peer| ControlResult {
            host_id: peer.host.to_string(),
            outcome: peer.outcome.as_str().to_owned(),
            detail: peer.detail,
        });
        Ok(Response::new(ControlPeersResponse { results: results.collect() }))
    }
}

/// What a request wants to become of a peer's labels.
fn label_update(request: UpdatePeerRequest) -> Result<Option<LabelUpdate>, CallError> {
    let UpdatePeerRequest { labels, clear_labels, add_labels, remove_labels, .. } = request;
    let remove: BTreeSet<String> = remove_labels.into_iter().collect();
    let wrong = |field, reason: &str| Err(CallError::invalid(field, reason));
    match (clear_labels, labels.is_empty(), remove.is_empty()) {
        (true, false, _) => wrong("clear_labels", "is set beside labels; send one of them"),
        (true, true, false) => wrong("remove_labels", "is set beside clear_labels; send one of them"),
        (true, true, true) => Ok(Some(LabelUpdate::Replace(labels))),
        (false, true, true) => Ok(None),
        (false, false, true) if !add_labels => Ok(Some(LabelUpdate::Replace(labels))),
        (false, false, false) if !add_labels => {
            wrong("remove_labels", "is set beside labels that replace all others; set add_labels too, or leave it out")
        }
        _ => match labels.keys().find(|name| remove.contains(*name)) {
            Some(both) => wrong("remove_labels", &format!("names {both:?}, which is among the labels to be added")),
            None => Ok(Some(LabelUpdate::Change { add: labels, remove })),
        },
    }
}

/// The peers that are named, or every one that can be steered.
fn select(mut peers: Peers, network: &NetworkId, named: &[String]) -> Result<Vec<PeerRow>, CallError> {
    if named.is_empty() {
        peers.rows.retain(|peer| !peer.membership.plain);
        return Ok(peers.rows);
    }
    let mut wanted = BTreeSet::new();
    for (index, text) in named.iter().enumerate() {
        wanted.insert(find(&peers, network, &format!("host_ids[{index}]"), text)?.id().clone());
    }
    peers.rows.retain(|peer| wanted.contains(peer.id()));
    Ok(peers.rows)
}

fn ids(network: &str, host: &str) -> Result<(NetworkId, HostId), FieldError> {
    Ok((required("network_id", network)?, required("host_id", host)?))
}
