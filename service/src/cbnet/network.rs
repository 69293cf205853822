//! Networks and peers.

use cladnet_model::{
    HostId, NetworkDraft, NetworkId, NetworkUpdate, RuleType,
    advise::{DEFAULT_HOSTS, DEFAULT_LIMIT, parse_avoid},
    path::PathSettingsDraft,
};
use cladnet_proto::{
    cbnet::v1::{
        AvailableIPv4PrivateAddressSpaces, CladNetRequest, CladNetSpecification, CladNetSpecifications, DeletionResult,
        IPv4CidRs, NetworkingRule, Peer, PeerRequest, Peers, UpdateDetailsRequest,
        cloud_adaptive_network_service_server::CloudAdaptiveNetworkService,
    },
    cladnet::v1::InjectedLocation,
    convert::{FieldError, given, injected_location, required},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, async_trait};

use super::{Cbnet, renamed, wire};
use crate::{
    advice::Wish,
    agents::RoundTrips,
    auth::Caller,
    error::CallError,
    networks::Deletion,
    paths::{PATIENCE, likely},
    peers::{PeerRow, find},
    rules::pair_policy,
};

#[async_trait]
impl CloudAdaptiveNetworkService for Cbnet {
    async fn get_clad_net(&self, request: Request<CladNetRequest>) -> Result<Response<CladNetSpecification>, Status> {
        let id = network_id(&request.into_inner().cladnet_id)?;
        Ok(Response::new(wire::specification(&self.0.network(&id).await?.value)))
    }

    async fn get_clad_net_list(&self, _request: Request<()>) -> Result<Response<CladNetSpecifications>, Status> {
        let networks = self.0.networks().await?;
        if networks.is_empty() {
            return Err(CallError::NotFound("there is no network yet".to_owned()).into());
        }
        let cladnet_specifications = networks.iter().map(wire::specification).collect();
        Ok(Response::new(CladNetSpecifications { cladnet_specifications }))
    }

    async fn create_clad_net(
        &self,
        request: Request<CladNetSpecification>,
    ) -> Result<Response<CladNetSpecification>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let draft = NetworkDraft {
            id: given(&request.cladnet_id),
            name: given(&request.name),
            address_space: Some(&request.ipv4_address_space),
            description: &request.description,
            rule_type: Some(given(&request.rule_type).unwrap_or(RuleType::Basic.as_str())),
            encryption_policy: None,
            path_settings: PathSettingsDraft::default(),
        };
        let settings = draft.check().map_err(|input| renamed(input.into()))?;
        let network = self.0.create_network(settings, 0, caller.key.as_str()).await.map_err(renamed)?;
        Ok(Response::new(wire::specification(&network)))
    }

    /// Its peers go with the network: this interface has no other way to remove them.
    async fn delete_clad_net(&self, request: Request<CladNetRequest>) -> Result<Response<DeletionResult>, Status> {
        let caller = Caller::of(&request)?;
        let id = network_id(&request.into_inner().cladnet_id)?;
        let (network, removed) = self.0.delete_network(&id, Deletion::WithPeers, caller.key.as_str()).await?;
        Ok(Response::new(DeletionResult {
            is_succeeded: true,
            message: format!("network {id} deleted with {removed} peers"),
            cladnet_specification: Some(wire::specification(&network)),
        }))
    }

    /// An empty field leaves what is there.
    async fn update_clad_net(
        &self,
        request: Request<CladNetSpecification>,
    ) -> Result<Response<CladNetSpecification>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let id = network_id(&request.cladnet_id)?;
        let update = NetworkUpdate {
            name: given(&request.name),
            address_space: given(&request.ipv4_address_space),
            description: given(&request.description),
            rule_type: given(&request.rule_type),
            encryption_policy: None,
            path_settings: PathSettingsDraft::default(),
        };
        let network = self.0.update_network(&id, &update, None, caller.key.as_str()).await.map_err(renamed)?;
        Ok(Response::new(wire::specification(&network)))
    }

    async fn recommend_available_i_pv4_private_address_spaces(
        &self,
        request: Request<IPv4CidRs>,
    ) -> Result<Response<AvailableIPv4PrivateAddressSpaces>, Status> {
        let mut avoid = Vec::new();
        for (index, text) in request.into_inner().ipv4_cidrs.iter().enumerate() {
            let range = parse_avoid(text).map_err(|error| FieldError::new(format!("ipv4_cidrs[{index}]"), error))?;
            avoid.extend(range);
        }
        let wish = Wish { hosts: DEFAULT_HOSTS, avoid, limit: DEFAULT_LIMIT, ..Wish::default() };
        let best = self.0.advise(Wish { limit: 1, ..wish.clone() }).await?;
        let Some(recommended) = best.proposals.first() else {
            return Err(CallError::Precondition(format!("no address space is left: {}", best.message)).into());
        };
        let [tens, seventeens, nineteens] =
            self.0.advise_per_block(wish).await?.map(|advice| {
                advice.proposals.into_iter().map(|proposal| proposal.space.to_string()).collect::<Vec<_>>()
            });
        Ok(Response::new(AvailableIPv4PrivateAddressSpaces {
            recommended_ipv4_private_address_space: recommended.space.to_string(),
            address_space10s: tens,
            address_space172s: seventeens,
            address_space192s: nineteens,
        }))
    }

    async fn get_peer(&self, request: Request<PeerRequest>) -> Result<Response<Peer>, Status> {
        let PeerRequest { cladnet_id, host_id } = request.into_inner();
        Ok(Response::new(self.shown(&network_id(&cladnet_id)?, &required("host_id", &host_id)?).await?))
    }

    async fn get_peer_list(&self, request: Request<PeerRequest>) -> Result<Response<Peers>, Status> {
        let id = network_id(&request.into_inner().cladnet_id)?;
        let network = self.0.network(&id).await?.value;
        let peers = self.0.peers(&id).await?;
        let unreadable = peers.unreadable.iter().map(|peer| wire::unreadable_peer(peer, &id));
        let peers: Vec<Peer> = peers.rows.iter().map(|peer| wire::peer(peer, &network)).chain(unreadable).collect();
        if peers.is_empty() {
            return Err(CallError::NotFound(format!("network {id} has no peer yet")).into());
        }
        Ok(Response::new(Peers { peers }))
    }

    async fn update_details_of_peer(&self, request: Request<UpdateDetailsRequest>) -> Result<Response<Peer>, Status> {
        let caller = Caller::of(&request)?;
        let UpdateDetailsRequest { cladnet_id, host_id, cloud_information } = request.into_inner();
        let (network, host) = (network_id(&cladnet_id)?, required("host_id", &host_id)?);
        self.0.membership(&network, &host).await?;
        let details = cloud_information.unwrap_or_default();
        let location = injected_location(InjectedLocation {
            provider: details.provider_name,
            account: String::new(),
            region: details.region_id,
            zone: details.availability_zone_id,
            vpc: details.virtual_network_id,
            subnet: details.subnet_id,
        });
        let location = location.map_err(|error| error.within("cloud_information"))?;
        self.0.inject_location(&host, &location, &[], caller.key.as_str()).await?;
        Ok(Response::new(self.shown(&network, &host).await?))
    }

    async fn get_peer_networking_rule(
        &self,
        request: Request<PeerRequest>,
    ) -> Result<Response<NetworkingRule>, Status> {
        let PeerRequest { cladnet_id, host_id } = request.into_inner();
        let network = network_id(&cladnet_id)?;
        Ok(Response::new(self.rule(&network, &required("host_id", &host_id)?).await?))
    }
}

impl Cbnet {
    async fn shown(&self, network: &NetworkId, host: &HostId) -> Result<Peer, CallError> {
        let row = self.0.peer(network, host).await?;
        Ok(wire::peer(&row, &self.0.network(network).await?.value))
    }

    /// What the agent says of its paths; where it says nothing, what it would choose by what is known here.
    async fn rule(&self, network: &NetworkId, host: &HostId) -> Result<NetworkingRule, CallError> {
        let record = self.0.network(network).await?.value;
        let (policy, rules) = (record.pair_policy(), self.0.rule_set(network).await?);
        let peers = self.0.peers(network).await?;
        let of = find(&peers, network, "host_id", host.as_str())?;
        let peers = &peers.rows;
        let others: Vec<&HostId> = peers.iter().map(PeerRow::id).filter(|peer| *peer != host).collect();
        let deadline = Instant::now() + PATIENCE;
        let (reports, _) = self.0.agents.reports(network, host, &others, RoundTrips::Known, deadline).await;
        let mut rule = NetworkingRule { cladnet_id: network.to_string(), ..NetworkingRule::default() };
        for peer in peers.iter().filter(|peer| peer.id() != host) {
            let report = reports.iter().find(|report| report.host_id == peer.id().as_str());
            let used = report.and_then(|report| Some((report.endpoint.parse().ok()?, report.scope.parse().ok()?)));
            let (selected_ip, scope) =
                wire::selection(used.or_else(|| likely(&pair_policy(&rules, &policy, of, peer).paths, of, peer)));
            rule.host_id.push(peer.id().to_string());
            rule.host_name.push(peer.name().to_owned());
            rule.peer_ip.push(peer.address().map(|address| address.to_string()).unwrap_or_default());
            rule.selected_ip.push(selected_ip);
            rule.peer_scope.push(scope);
            rule.state.push(peer.wire().state);
        }
        Ok(rule)
    }
}

fn network_id(text: &str) -> Result<NetworkId, FieldError> {
    required("cladnet_id", text)
}
