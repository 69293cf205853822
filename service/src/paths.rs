//! Paths between peers: whom a person means, and what is said where no agent can be asked. The asking is done by `agents`.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use cladnet_model::{
    Endpoint, NetworkId, Scope,
    path::{HostView, Measurements, Policy, candidates, rank},
};
use cladnet_proto::cladnet::v1::{ExplainPathResponse, ListPathsResponse};

use crate::{
    Service,
    agents::RoundTrips,
    error::CallError,
    peers::{PeerRow, find},
};

/// How long agents have to say which paths they use.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

impl Service {
    /// The path in use of every pair, or of those that begin at a named source, each by its id or its name; and the ids of
    /// the peers that did not answer.
    pub(crate) async fn paths(
        &self,
        network: &NetworkId,
        sources: &[String],
        round_trips: RoundTrips,
    ) -> Result<ListPathsResponse, CallError> {
        self.network(network).await?;
        if sources.is_empty() {
            return self.agents.paths(network, |_| true, round_trips, PATIENCE).await;
        }
        let peers = self.peers(network).await?;
        let mut wanted = BTreeSet::new();
        for (index, text) in sources.iter().enumerate() {
            wanted.insert(find(&peers, network, &format!("sources[{index}]"), text)?.id());
        }
        self.agents.paths(network, |host| wanted.contains(host), round_trips, PATIENCE).await
    }

    /// Every candidate from one peer to another, each by its id or its name, and why it won or lost.
    pub(crate) async fn explain(
        &self,
        network: &NetworkId,
        source: &str,
        destination: &str,
    ) -> Result<ExplainPathResponse, CallError> {
        let peers = self.peers(network).await?;
        let source = find(&peers, network, "source", source)?;
        let destination = find(&peers, network, "destination", destination)?;
        if source.id() == destination.id() {
            return Err(CallError::invalid("destination", "is the source itself; give another peer"));
        }
        if source.membership.plain {
            return Err(CallError::Precondition(format!(
                "{} runs plain WireGuard: where it sends is said by its own configuration, which we do not know",
                source.name()
            )));
        }
        self.agents.explain(network, source.id(), destination.id(), PATIENCE).await
    }
}

/// The endpoint of `destination` that ranks first at `source` without any measurement.
pub(crate) fn likely(policy: &Policy, source: &PeerRow, destination: &PeerRow) -> Option<(SocketAddr, Scope)> {
    let ranked = rank(policy, candidates(view(source), view(destination), |_| None), &Measurements::default());
    let Endpoint { address, scope, .. } = ranked.iter().find(|ranked| ranked.rank == Some(1))?.candidate.endpoint;
    Some((address, scope))
}

fn view(peer: &PeerRow) -> HostView<'_> {
    HostView { location: &peer.location, endpoints: &peer.host.facts.endpoints }
}
