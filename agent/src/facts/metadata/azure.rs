//! Azure. Proof: `compute.vmId`. It tells neither VNet nor subnet; those come from the operator or the API.

use cladnet_model::CloudLocation;
use serde::Deserialize;

use super::{
    Instance,
    http::{Http, HttpError},
    located,
};

#[derive(Deserialize)]
struct Answer {
    compute: Compute,
    #[serde(default)]
    network: Network,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Compute {
    vm_id: String,
    location: String,
    #[serde(default)]
    zone: String,
    /// The zone's identity; its number differs between subscriptions.
    #[serde(default)]
    physical_zone: String,
    #[serde(default)]
    subscription_id: String,
}

#[derive(Default, Deserialize)]
struct Network {
    #[serde(default)]
    interface: Vec<Interface>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    ipv4: Addresses,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Addresses {
    #[serde(default)]
    ip_address: Vec<Address>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Address {
    #[serde(default)]
    public_ip_address: String,
}

/// Public addresses of the Standard kind are told only here.
#[derive(Deserialize)]
struct Balancers {
    loadbalancer: Balancer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Balancer {
    #[serde(default)]
    public_ip_addresses: Vec<Frontend>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Frontend {
    #[serde(default)]
    frontend_ip_address: String,
}

pub(super) async fn ask(http: &Http, base: &str) -> Result<Instance, HttpError> {
    let get = |path: &str| http.get(&format!("{base}/metadata/{path}")).header("Metadata", "true");
    let Answer { compute, network } = get("instance?api-version=2021-12-13&format=json").json().await?;
    if compute.vm_id.is_empty() {
        return Err(HttpError::Answer {
            url: format!("{base}/metadata/instance"),
            problem: "has no compute.vmId".into(),
        });
    }
    let direct = network.interface.first().and_then(|i| i.ipv4.ip_address.first()).map(|a| a.public_ip_address.clone());
    let public = match direct.filter(|text| !text.is_empty()) {
        Some(text) => Some(text),
        None => {
            get("loadbalancer?api-version=2020-10-01&format=json").json::<Balancers>().await.ok().and_then(|answer| {
                answer.loadbalancer.public_ip_addresses.into_iter().next().map(|frontend| frontend.frontend_ip_address)
            })
        }
    };
    Ok(Instance {
        location: CloudLocation {
            provider: located("azure"),
            account: located(compute.subscription_id),
            region: located(&compute.location),
            zone: located(compute.physical_zone).or_else(|| located(compute.zone)),
            vpc: None,
            subnet: None,
            instance: located(compute.vm_id),
        },
        public_ipv4: public.and_then(|text| text.trim().parse().ok()),
    })
}
