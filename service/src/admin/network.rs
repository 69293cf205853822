//! Networks, as `cladnet.v1` shows them.

use cladnet_model::{
    NetworkDraft, NetworkUpdate,
    advise::{Advice, DEFAULT_HOSTS, DEFAULT_LIMIT, MAX_LIMIT, Proposal, parse_avoid},
    path::PathSettingsDraft,
};
use cladnet_proto::{
    cladnet::v1::{
        AddressSpace, CreateNetworkRequest, DeleteNetworkRequest, DeleteNetworkResponse, GetNetworkRequest,
        ListNetworksRequest, ListNetworksResponse, Network, RecommendAddressSpacesRequest,
        RecommendAddressSpacesResponse, UpdateNetworkRequest, network_service_server::NetworkService,
    },
    convert::{self, FieldError, given, required},
};
use cladnet_store::key;
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::{
    advice::Wish,
    auth::Caller,
    error::CallError,
    networks::Deletion,
    page::{Order, Page},
};

#[async_trait]
impl NetworkService for Admin {
    async fn create_network(&self, request: Request<CreateNetworkRequest>) -> Result<Response<Network>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let draft = NetworkDraft {
            id: given(&request.network_id),
            name: given(&request.name),
            address_space: given(&request.ipv4_address_space),
            description: &request.description,
            rule_type: given(&request.rule_type),
            encryption_policy: given(&request.encryption_policy),
            path_settings: PathSettingsDraft {
                usd_per_ms: given(&request.usd_per_ms),
                usd_per_loss_percent: given(&request.usd_per_loss_percent),
                max_rtt_ms: Some(request.max_rtt_ms),
                max_usd_per_gb: given(&request.max_usd_per_gb),
                forbid: Some(&request.forbid),
            },
        };
        let settings = draft.check().map_err(CallError::from)?;
        let network = self.0.create_network(settings, request.expected_hosts, caller.key.as_str()).await?;
        Ok(Response::new(convert::network(&network, 0)))
    }

    async fn list_networks(
        &self,
        request: Request<ListNetworksRequest>,
    ) -> Result<Response<ListNetworksResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let networks = self.0.networks().await?;
        let (networks, next_page_token) = page.cut(networks, Order::Rising, |network| network.id.as_str())?;
        let counts = self.0.peer_counts().await?;
        let wire = |network: &cladnet_model::Network| {
            convert::network(network, counts.get(&network.id).copied().unwrap_or_default())
        };
        Ok(Response::new(ListNetworksResponse { networks: networks.iter().map(wire).collect(), next_page_token }))
    }

    async fn get_network(&self, request: Request<GetNetworkRequest>) -> Result<Response<Network>, Status> {
        let id = required("network_id", &request.into_inner().network_id)?;
        let network = self.0.network(&id).await?.value;
        Ok(Response::new(self.counted(&network).await?))
    }

    async fn update_network(&self, request: Request<UpdateNetworkRequest>) -> Result<Response<Network>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = required("network_id", &request.network_id)?;
        let update = NetworkUpdate {
            name: request.name.as_deref(),
            address_space: request.ipv4_address_space.as_deref(),
            description: request.description.as_deref(),
            rule_type: request.rule_type.as_deref(),
            encryption_policy: request.encryption_policy.as_deref(),
            path_settings: PathSettingsDraft {
                usd_per_ms: request.usd_per_ms.as_deref(),
                usd_per_loss_percent: request.usd_per_loss_percent.as_deref(),
                max_rtt_ms: request.max_rtt_ms,
                max_usd_per_gb: request.max_usd_per_gb.as_deref(),
                forbid: request.forbid.as_ref().map(|forbid| forbid.scopes.as_slice()),
            },
        };
        let network = self.0.update_network(&id, &update, request.expected_generation, caller.key.as_str()).await?;
        Ok(Response::new(self.counted(&network).await?))
    }

    async fn delete_network(
        &self,
        request: Request<DeleteNetworkRequest>,
    ) -> Result<Response<DeleteNetworkResponse>, Status> {
        let caller = Caller::of(&request)?;
        let DeleteNetworkRequest { network_id, force } = request.into_inner();
        let id = required("network_id", &network_id)?;
        let deletion = if force { Deletion::WithPeers } else { Deletion::OfEmpty };
        let (_, removed) = self.0.delete_network(&id, deletion, caller.key.as_str()).await?;
        Ok(Response::new(DeleteNetworkResponse { removed_peers: u32::try_from(removed).unwrap_or(u32::MAX) }))
    }

    async fn recommend_address_spaces(
        &self,
        request: Request<RecommendAddressSpacesRequest>,
    ) -> Result<Response<RecommendAddressSpacesResponse>, Status> {
        let request = request.into_inner();
        let mut avoid = Vec::new();
        for (index, text) in request.avoid.iter().enumerate() {
            let range = parse_avoid(text).map_err(|error| FieldError::new(format!("avoid[{index}]"), error))?;
            avoid.extend(range);
        }
        let wish = Wish {
            hosts: if request.hosts == 0 { DEFAULT_HOSTS } else { request.hosts },
            avoid,
            providers: request.providers.iter().map(|provider| provider.to_ascii_lowercase()).collect(),
            limit: if request.limit == 0 { DEFAULT_LIMIT } else { usize::try_from(request.limit).unwrap_or(MAX_LIMIT) },
        };
        let Advice { proposals, message } = self.0.advise(wish).await?;
        let wire = |proposal: Proposal| AddressSpace {
            cidr: proposal.space.to_string(),
            capacity: proposal.capacity,
            reason: proposal.reason,
            soft_conflicts: proposal.soft_conflicts,
        };
        let address_spaces = proposals.into_iter().map(wire).collect();
        Ok(Response::new(RecommendAddressSpacesResponse { address_spaces, message }))
    }
}

impl Admin {
    async fn counted(&self, network: &cladnet_model::Network) -> Result<Network, CallError> {
        let members = self.0.store.count(&key::memberships(&network.id)).await?;
        Ok(convert::network(network, members))
    }
}
