//! OpenStack and the clouds built on it. Proof: its own tree with the instance's `uuid`. It tells no region.

use cladnet_model::CloudLocation;
use serde::Deserialize;

use super::{
    Instance,
    http::{Http, HttpError},
    located,
};

#[derive(Deserialize)]
struct MetaData {
    uuid: String,
    #[serde(default)]
    availability_zone: String,
    #[serde(default)]
    project_id: String,
}

#[derive(Default, Deserialize)]
struct NetworkData {
    #[serde(default)]
    networks: Vec<Network>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(default)]
    network_id: String,
}

pub(super) async fn ask(http: &Http, base: &str) -> Result<Instance, HttpError> {
    let get = |path: &str| http.get(&format!("{base}/{path}"));
    let data: MetaData = get("openstack/latest/meta_data.json").json().await?;
    // Both are optional parts of the service.
    let networks: NetworkData = get("openstack/latest/network_data.json").json().await.unwrap_or_default();
    let floating = get("latest/meta-data/public-ipv4").optional_text().await.ok().flatten();
    Ok(Instance {
        location: CloudLocation {
            provider: located("openstack"),
            account: located(data.project_id),
            region: None,
            zone: located(data.availability_zone),
            vpc: networks.networks.first().and_then(|network| located(&network.network_id)),
            subnet: None,
            instance: located(data.uuid),
        },
        public_ipv4: floating.and_then(|text| text.trim().parse().ok()),
    })
}
