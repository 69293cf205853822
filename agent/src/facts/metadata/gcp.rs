//! Google Cloud. Proof: the response header `Metadata-Flavor: Google`. The instance's own tree holds user data, so only
//! the leaves that are needed are read.

use cladnet_model::CloudLocation;
use serde::Deserialize;

use super::{
    Instance,
    http::{Http, HttpError},
    located,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Interface {
    /// `projects/NUMBER/networks/NAME`
    network: String,
    #[serde(default)]
    access_configs: Vec<AccessConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessConfig {
    #[serde(default)]
    external_ip: String,
}

pub(super) async fn ask(http: &Http, base: &str) -> Result<Instance, HttpError> {
    let get = |path: &str| http.get(&format!("{base}/computeMetadata/v1/{path}")).header("Metadata-Flavor", "Google");
    let zone = get("instance/zone").answer().await?.proven_by("Metadata-Flavor", "Google")?.text;
    let interfaces: Vec<Interface> = get("instance/network-interfaces/?recursive=true").json().await?;
    let project = get("project/project-id").optional_text().await?;
    let instance = get("instance/id").optional_text().await?;
    let zone = last(&zone);
    let first = interfaces.first();
    let public = first.and_then(|interface| interface.access_configs.first());
    Ok(Instance {
        location: CloudLocation {
            provider: located("gcp"),
            account: project.and_then(located),
            region: zone.rsplit_once('-').and_then(|(region, _)| located(region)),
            zone: located(zone),
            vpc: first.and_then(|interface| located(&interface.network)),
            subnet: None,
            instance: instance.and_then(located),
        },
        public_ipv4: public.and_then(|config| config.external_ip.parse().ok()),
    })
}

/// `projects/NUMBER/zones/us-central1-a` → `us-central1-a`
fn last(path: &str) -> &str {
    path.trim().rsplit('/').next().unwrap_or_default()
}
