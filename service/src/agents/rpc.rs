//! The RPCs of `agent.proto`: who calls, then the work of the other files.

use std::{net::IpAddr, sync::Arc};

use cladnet_model::HostId;
use cladnet_proto::{
    cladnet::v1::{
        AgentMessage, EnrolRequest, EnrolResponse, JoinRequest, JoinResponse, LeaveRequest, RenewCertificateRequest,
        RenewCertificateResponse,
        agent_service_server::{AgentService, AgentServiceServer},
    },
    convert,
};
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use super::{
    Agents, Shared,
    identity::Expired,
    stream::{self, Outgoing, Patience},
};
use crate::Connection;

/// The largest message of an agent: a command's result and what is around it.
const MESSAGE_LIMIT: usize = 256 * 1024;

impl Agents {
    /// The gRPC service.
    pub(crate) fn server(&self) -> AgentServiceServer<Self> {
        AgentServiceServer::new(self.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    type SyncStream = Outgoing;

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolResponse>, Status> {
        let from = source(&request);
        match self.shared.enrol(request.into_inner(), from).await {
            Ok(enrolled) => Ok(Response::new(enrolled)),
            Err(error) => {
                info!(?from, %error, "enrolment refused");
                Err(error.into())
            }
        }
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let caller = self.shared.caller(request.extensions(), Expired::Refused).await?;
        let from = source(&request);
        Ok(Response::new(self.shared.join(caller, request.into_inner(), from).await?))
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Result<Response<RenewCertificateResponse>, Status> {
        let caller = self.shared.caller(request.extensions(), Expired::Admitted).await?;
        Ok(Response::new(self.shared.renew(&caller, request.get_ref())?))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<()>, Status> {
        let caller = self.shared.caller(request.extensions(), Expired::Refused).await?;
        let network = convert::optional("network_id", &request.get_ref().network_id)?;
        let host: &HostId = &caller.host.id;
        match network {
            Some(network) => self.shared.leave(&network, host).await?,
            None => self.shared.remove_host(host, host.as_str()).await?,
        }
        Ok(Response::new(()))
    }

    async fn sync(&self, request: Request<Streaming<AgentMessage>>) -> Result<Response<Self::SyncStream>, Status> {
        let caller = self.shared.caller(request.extensions(), Expired::Refused).await?;
        let from = source(&request);
        let shared: Arc<Shared> = self.shared.clone();
        let told = stream::start(shared, caller, from, request.into_inner(), Patience::default());
        Ok(Response::new(told))
    }
}

/// Where a call comes from.
fn source<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<Connection>().map(|connection| connection.remote.ip())
}
