//! AWS, IMDSv2. Proof: it hands out a session token and an instance identity document with an account.

use cladnet_model::CloudLocation;
use serde::Deserialize;

use super::{
    Instance,
    http::{Http, HttpError},
    located,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityDocument {
    region: String,
    account_id: String,
    instance_id: String,
    #[serde(default)]
    availability_zone: String,
}

pub(super) async fn ask(http: &Http, base: &str) -> Result<Instance, HttpError> {
    let token = http
        .put(&format!("{base}/latest/api/token"))
        .header("X-aws-ec2-metadata-token-ttl-seconds", "60")
        .text()
        .await?;
    let get = |path: &str| http.get(&format!("{base}/latest/{path}")).header("X-aws-ec2-metadata-token", token.trim());
    let document: IdentityDocument = get("dynamic/instance-identity/document").json().await?;
    // The identity of a zone; its name differs from account to account.
    let zone_id = get("meta-data/placement/availability-zone-id").optional_text().await?;
    let mac = get("meta-data/mac").optional_text().await?.unwrap_or_default();
    let interface = |field: &str| get(&format!("meta-data/network/interfaces/macs/{}/{field}", mac.trim()));
    let (vpc, subnet) = match mac.is_empty() {
        true => (None, None),
        false => (interface("vpc-id").optional_text().await?, interface("subnet-id").optional_text().await?),
    };
    let public = get("meta-data/public-ipv4").optional_text().await?;
    Ok(Instance {
        location: CloudLocation {
            provider: located("aws"),
            account: located(document.account_id),
            region: located(document.region),
            zone: zone_id.and_then(located).or_else(|| located(document.availability_zone)),
            vpc: vpc.and_then(located),
            subnet: subnet.and_then(located),
            instance: located(document.instance_id),
        },
        public_ipv4: public.and_then(|text| text.trim().parse().ok()),
    })
}
