//! Paths, as `cladnet.v1` shows them.

use cladnet_proto::{
    cladnet::v1::{
        ExplainPathRequest, ExplainPathResponse, ListPathsRequest, ListPathsResponse, MeasurePathsRequest,
        path_service_server::PathService,
    },
    convert::required,
};
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::agents::RoundTrips;

#[async_trait]
impl PathService for Admin {
    async fn list_paths(&self, request: Request<ListPathsRequest>) -> Result<Response<ListPathsResponse>, Status> {
        let ListPathsRequest { network_id, sources } = request.into_inner();
        let network = required("network_id", &network_id)?;
        Ok(Response::new(self.0.paths(&network, &sources, RoundTrips::Known).await?))
    }

    async fn measure_paths(
        &self,
        request: Request<MeasurePathsRequest>,
    ) -> Result<Response<ListPathsResponse>, Status> {
        let MeasurePathsRequest { network_id, sources } = request.into_inner();
        let network = required("network_id", &network_id)?;
        Ok(Response::new(self.0.paths(&network, &sources, RoundTrips::Measured).await?))
    }

    async fn explain_path(
        &self,
        request: Request<ExplainPathRequest>,
    ) -> Result<Response<ExplainPathResponse>, Status> {
        let ExplainPathRequest { network_id, source, destination } = request.into_inner();
        let network = required("network_id", &network_id)?;
        Ok(Response::new(self.0.explain(&network, &source, &destination).await?))
    }
}
