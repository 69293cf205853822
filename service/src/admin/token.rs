//! Join tokens, as `cladnet.v1` shows them.

use cladnet_model::TokenTerms;
use cladnet_proto::{
    cladnet::v1::{
        CreateTokenRequest, CreateTokenResponse, ListTokensRequest, ListTokensResponse, RevokeTokenRequest,
        token_service_server::TokenService,
    },
    convert::{self, duration, optional, required},
};
use tonic::{Request, Response, Status, async_trait};

use super::{Admin, optional_network};
use crate::{
    auth::Caller,
    error::CallError,
    page::{Order, Page},
};

#[async_trait]
impl TokenService for Admin {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let caller = Caller::of(&request)?;
        let CreateTokenRequest { network_id, uses, ttl, labels, token_id } = request.into_inner();
        let network = required("network_id", &network_id)?;
        let now = self.0.clock.now();
        let terms = TokenTerms::check(uses, duration("ttl", ttl)?, labels, now).map_err(CallError::from)?;
        let id = optional("token_id", &token_id)?;
        let (token, secret) = self.0.create_token(&network, terms, id, caller.key.as_str()).await?;
        let token = Some(convert::token(&token, now));
        Ok(Response::new(CreateTokenResponse { token, secret: secret.to_string() }))
    }

    async fn list_tokens(&self, request: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let tokens = self.0.tokens(optional_network(&request.network_id)?.as_ref()).await?;
        let (tokens, next_page_token) = page.cut(tokens, Order::Rising, |token| token.id.as_str())?;
        let now = self.0.clock.now();
        let tokens = tokens.iter().map(|token| convert::token(token, now)).collect();
        Ok(Response::new(ListTokensResponse { tokens, next_page_token }))
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let id = required("token_id", &request.into_inner().token_id)?;
        self.0.revoke_token(&id, caller.key.as_str()).await?;
        Ok(Response::new(()))
    }
}
