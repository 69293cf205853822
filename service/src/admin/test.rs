//! Connectivity tests, as `cladnet.v1` asks for them.

use cladnet_model::{NetworkId, connectivity::Results};
use cladnet_proto::{
    cladnet::v1::{
        ConnectivityRun, ConnectivityTest, GetConnectivityRunRequest, ListConnectivityRunsRequest,
        ListConnectivityRunsResponse, RunConnectivityTestRequest, test_service_server::TestService,
    },
    convert::{connectivity_run, duration, required},
};
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::{connectivity::TestTerms, error::CallError};

#[async_trait]
impl TestService for Admin {
    async fn run_connectivity_test(
        &self,
        request: Request<RunConnectivityTestRequest>,
    ) -> Result<Response<ConnectivityTest>, Status> {
        let (network, hosts, terms) = checked(request.into_inner())?;
        Ok(Response::new(self.0.test_connectivity(&network, &hosts, terms).await?))
    }

    async fn start_connectivity_test(
        &self,
        request: Request<RunConnectivityTestRequest>,
    ) -> Result<Response<ConnectivityRun>, Status> {
        let (network, hosts, terms) = checked(request.into_inner())?;
        let run = self.0.start_connectivity_test(&network, &hosts, terms).await?;
        Ok(Response::new(connectivity_run(&run, &Results::new(), run.started_at)))
    }

    async fn list_connectivity_runs(
        &self,
        request: Request<ListConnectivityRunsRequest>,
    ) -> Result<Response<ListConnectivityRunsResponse>, Status> {
        let network = required("network_id", &request.into_inner().network_id)?;
        let now = self.0.clock.now();
        let last = self.0.last_runs(&network).await?;
        let overview = |(run, results): &(_, _)| ConnectivityRun {
            results: Vec::new(),
            left_out: 0,
            ..connectivity_run(run, results, now)
        };
        Ok(Response::new(ListConnectivityRunsResponse { runs: last.iter().map(overview).collect() }))
    }

    async fn get_connectivity_run(
        &self,
        request: Request<GetConnectivityRunRequest>,
    ) -> Result<Response<ConnectivityRun>, Status> {
        let GetConnectivityRunRequest { network_id, run_id } = request.into_inner();
        let (network, id) = (required("network_id", &network_id)?, required("run_id", &run_id)?);
        // Before the results are read: what comes meanwhile belongs to a run that is not done yet.
        let now = self.0.clock.now();
        let (run, results) = self.0.run(&network, &id).await?;
        Ok(Response::new(connectivity_run(&run, &results, now)))
    }
}

fn checked(request: RunConnectivityTestRequest) -> Result<(NetworkId, Vec<String>, TestTerms), CallError> {
    let RunConnectivityTestRequest { network_id, hosts, count, interval, deadline } = request;
    let network = required("network_id", &network_id)?;
    let terms = TestTerms::check(count, duration("interval", interval)?, duration("deadline", deadline)?)?;
    Ok((network, hosts, terms))
}
