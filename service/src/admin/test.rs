//! Connectivity tests, as `cladnet.v1` asks for them.

use cladnet_proto::{
    cladnet::v1::{ConnectivityTest, RunConnectivityTestRequest, test_service_server::TestService},
    convert::{duration, required},
};
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::connectivity::TestTerms;

#[async_trait]
impl TestService for Admin {
    async fn run_connectivity_test(
        &self,
        request: Request<RunConnectivityTestRequest>,
    ) -> Result<Response<ConnectivityTest>, Status> {
        let RunConnectivityTestRequest { network_id, hosts, count, interval, deadline } = request.into_inner();
        let network = required("network_id", &network_id)?;
        let terms = TestTerms::check(count, duration("interval", interval)?, duration("deadline", deadline)?)?;
        Ok(Response::new(self.0.test_connectivity(&network, &hosts, terms).await?))
    }
}
