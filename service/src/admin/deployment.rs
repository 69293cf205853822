//! Deployments and SSH host keys, as `cladnet.v1` shows them.

use cladnet_proto::{
    cladnet::v1::{
        CancelDeploymentRequest, ConfirmHostKeyRequest, CreateDeploymentRequest, Deployment, ForgetCredentialsRequest,
        ForgetHostKeyRequest, GetDeploymentRequest, GetTranscriptRequest, GetTranscriptResponse,
        ListDeploymentsRequest, ListDeploymentsResponse, ListHostKeysRequest, ListHostKeysResponse,
        WatchDeploymentRequest, deployment_service_server::DeploymentService,
    },
    convert::{self, required},
};
use cladnet_store::key;
use futures_util::stream;
use tonic::{Request, Response, Status, async_trait};

use super::{
    Admin, optional_network,
    stream::{Messages, Place, bounded},
};
use crate::{
    auth::Caller,
    deployments::DeploymentWatch,
    error::CallError,
    page::{Order, Page},
};

#[async_trait]
impl DeploymentService for Admin {
    type WatchDeploymentStream = Messages<Deployment>;

    async fn create_deployment(
        &self,
        request: Request<CreateDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let network = required("network_id", &request.network_id)?;
        let id = self.0.create_deployment(&network, &request, &caller.key).await?;
        Ok(Response::new(self.0.deployment(&id).await?.wire()))
    }

    async fn list_deployments(
        &self,
        request: Request<ListDeploymentsRequest>,
    ) -> Result<Response<ListDeploymentsResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let mut heads = self.0.deployments(optional_network(&request.network_id)?.as_ref()).await?;
        heads.retain(|head| !request.running || head.finished_at.is_none());
        let (heads, next_page_token) = page.cut(heads, Order::Falling, |head| head.id.as_str())?;
        let mut deployments = Vec::with_capacity(heads.len());
        for head in heads {
            deployments.push(self.0.row(head).await?.overview());
        }
        Ok(Response::new(ListDeploymentsResponse { deployments, next_page_token }))
    }

    async fn get_deployment(&self, request: Request<GetDeploymentRequest>) -> Result<Response<Deployment>, Status> {
        let id = required("deployment_id", &request.into_inner().deployment_id)?;
        Ok(Response::new(self.0.deployment(&id).await?.wire()))
    }

    async fn watch_deployment(
        &self,
        request: Request<WatchDeploymentRequest>,
    ) -> Result<Response<Messages<Deployment>>, Status> {
        let caller = Caller::of(&request)?;
        let place = Place::take(&self.0, &caller)?;
        let id = required("deployment_id", &request.into_inner().deployment_id)?;
        let now = self.0.store.list(&key::api_keys()).await.map_err(CallError::from)?.revision;
        let watch = DeploymentWatch::new(self.0.clone(), id).await?;
        let messages = stream::unfold(watch, async |mut watch| watch.next().await.map(|next| (next, watch)));
        Ok(Response::new(bounded(&self.0, caller, place, now, messages)))
    }

    async fn get_transcript(
        &self,
        request: Request<GetTranscriptRequest>,
    ) -> Result<Response<GetTranscriptResponse>, Status> {
        let GetTranscriptRequest { deployment_id, name } = request.into_inner();
        let (id, name) = (required("deployment_id", &deployment_id)?, required("name", &name)?);
        Ok(Response::new(GetTranscriptResponse { text: self.0.transcript(&id, &name).await? }))
    }

    async fn confirm_host_key(&self, request: Request<ConfirmHostKeyRequest>) -> Result<Response<Deployment>, Status> {
        let caller = Caller::of(&request)?;
        let ConfirmHostKeyRequest { deployment_id, name, fingerprint } = request.into_inner();
        let (id, name) = (required("deployment_id", &deployment_id)?, required("name", &name)?);
        let fingerprint = required("fingerprint", &fingerprint)?;
        self.0.confirm_host_key(&id, &name, fingerprint, &caller.key).await?;
        Ok(Response::new(self.0.deployment(&id).await?.wire()))
    }

    async fn cancel_deployment(
        &self,
        request: Request<CancelDeploymentRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let caller = Caller::of(&request)?;
        let id = required("deployment_id", &request.into_inner().deployment_id)?;
        self.0.cancel_deployment(&id, caller.key.as_str()).await?;
        Ok(Response::new(self.0.deployment(&id).await?.wire()))
    }

    async fn forget_credentials(
        &self,
        request: Request<ForgetCredentialsRequest>,
    ) -> Result<Response<Deployment>, Status> {
        let caller = Caller::of(&request)?;
        let id = required("deployment_id", &request.into_inner().deployment_id)?;
        self.0.keep_no_credentials(&id, &caller.key).await?;
        Ok(Response::new(self.0.deployment(&id).await?.wire()))
    }

    async fn list_host_keys(
        &self,
        request: Request<ListHostKeysRequest>,
    ) -> Result<Response<ListHostKeysResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let (keys, next_page_token) = page.cut(self.0.host_keys().await?, Order::Rising, |(place, _)| place)?;
        let host_keys = keys.iter().map(|(place, pinned)| convert::host_key(place, pinned)).collect();
        Ok(Response::new(ListHostKeysResponse { host_keys, next_page_token }))
    }

    async fn forget_host_key(&self, request: Request<ForgetHostKeyRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        self.0.forget_host_key(&request.into_inner().address, caller.key.as_str()).await?;
        Ok(Response::new(()))
    }
}
