//! After the join: labels, overlay address and cloud location as they were asked for. What is so already is left alone, and
//! so are labels that others have set.

use cladnet_model::{CloudLocation, DeploymentHost, HostId, NetworkId, deployment::FailureReason};

use crate::{
    api::{ApiError, ServiceAccess},
    failed::Failed,
};

/// Tells the service what is wanted of a peer; says what was changed.
pub(crate) async fn settle(
    service: &ServiceAccess,
    network: &NetworkId,
    id: &HostId,
    wish: &DeploymentHost,
) -> Result<Vec<String>, Failed> {
    let mut changed = Vec::new();
    let peer = service.peer(network, id).await?;
    let has = |(name, value): (&String, &String)| peer.labels.get(name) == Some(value);
    let labels = Some(&wish.labels).filter(|labels| !labels.is_empty() && !labels.iter().all(has));
    let address = wish.overlay_address.filter(|address| peer.ipv4_address != address.to_string());
    if labels.is_some() || address.is_some() {
        service.update_peer(network, id, labels, address).await.map_err(refused)?;
        changed.extend(labels.map(|labels| format!("labels added: {labels:?}")));
        changed.extend(address.map(|address| format!("overlay address asked for: {address}")));
    }
    if wish.location != CloudLocation::default() {
        service.update_location(id, &wish.location).await.map_err(refused)?;
        changed.push("cloud location injected".to_owned());
    }
    Ok(changed)
}

/// The machine is a member, but not as it was asked for.
fn refused(error: ApiError) -> Failed {
    Failed::new(FailureReason::JoinFailed, format!("joined, but {error}"))
}
