//! Who answers, and as whom the caller is known.

use cladnet_proto::cladnet::v1::{Info, system_service_server::SystemService};
use data_encoding::HEXLOWER;
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::auth::Caller;

#[async_trait]
impl SystemService for Admin {
    async fn get_info(&self, request: Request<()>) -> Result<Response<Info>, Status> {
        let caller = Caller::of(&request)?;
        Ok(Response::new(Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ca_fingerprint: HEXLOWER.encode(&self.0.authority.spki_sha256()),
            role: caller.role.to_string(),
            key_id: caller.key.to_string(),
            epoch: self.0.epoch.clone(),
        }))
    }
}
