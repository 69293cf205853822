//! Alibaba Cloud. Proof: a session token under its own header and the owner's account.

use cladnet_model::CloudLocation;

use super::{
    Instance,
    http::{Http, HttpError},
    located,
};

pub(super) async fn ask(http: &Http, base: &str) -> Result<Instance, HttpError> {
    let token = http
        .put(&format!("{base}/latest/api/token"))
        .header("X-aliyun-ecs-metadata-token-ttl-seconds", "60")
        .text()
        .await?;
    let get = |path: &str| {
        http.get(&format!("{base}/latest/meta-data/{path}")).header("X-aliyun-ecs-metadata-token", token.trim())
    };
    let account = get("owner-account-id").text().await?;
    let field = async |path: &str| Ok::<_, HttpError>(get(path).optional_text().await?.unwrap_or_default());
    let elastic = field("eipv4").await?;
    let public = if elastic.trim().is_empty() { field("public-ipv4").await? } else { elastic };
    Ok(Instance {
        location: CloudLocation {
            provider: located("alibaba"),
            account: located(account),
            region: located(field("region-id").await?),
            zone: located(field("zone-id").await?),
            vpc: located(field("vpc-id").await?),
            subnet: located(field("vswitch-id").await?),
            instance: located(field("instance-id").await?),
        },
        public_ipv4: public.trim().parse().ok(),
    })
}
