//! API keys, as `cladnet.v1` shows them.

use cladnet_model::KeyTerms;
use cladnet_proto::{
    cladnet::v1::{
        CreateKeyRequest, CreateKeyResponse, Key, ListKeysRequest, ListKeysResponse, RevokeKeyRequest,
        key_service_server::KeyService,
    },
    convert::{duration, required},
};
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::{
    auth::Caller,
    error::CallError,
    page::{Order, Page},
};

#[async_trait]
impl KeyService for Admin {
    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Result<Response<CreateKeyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let CreateKeyRequest { name, role, ttl } = request.into_inner();
        let terms =
            KeyTerms::check(&name, &role, duration("ttl", ttl)?, self.0.clock.now()).map_err(CallError::from)?;
        let (key, secret) = self.0.create_key(terms, caller.key.as_str()).await?;
        Ok(Response::new(CreateKeyResponse { key: Some(Key::from(&key)), secret: secret.to_string() }))
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let keys = self.0.api_keys().await?;
        let (keys, next_page_token) = page.cut(keys, Order::Rising, |key| key.value.id.as_str())?;
        let keys = keys.iter().map(|key| Key::from(&key.value)).collect();
        Ok(Response::new(ListKeysResponse { keys, next_page_token }))
    }

    async fn revoke_key(&self, request: Request<RevokeKeyRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let id = required("key_id", &request.into_inner().key_id)?;
        self.0.revoke_key(&id, caller.key.as_str()).await?;
        Ok(Response::new(()))
    }
}
