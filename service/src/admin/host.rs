//! Hosts, as `cladnet.v1` shows them.

use cladnet_proto::{
    cladnet::v1::{
        BatchUpdateHostLocationsRequest, BatchUpdateHostLocationsResponse, GetHostRequest, Host, ListHostsRequest,
        ListHostsResponse, RemoveHostRequest, UpdateHostLocationRequest, host_service_server::HostService,
    },
    convert::{cleared_fields, injected_location, required},
};
use tonic::{Request, Response, Status, async_trait};

use super::Admin;
use crate::{
    auth::Caller,
    hosts::HostRow,
    page::{Order, Page},
};

#[async_trait]
impl HostService for Admin {
    async fn list_hosts(&self, request: Request<ListHostsRequest>) -> Result<Response<ListHostsResponse>, Status> {
        let request = request.into_inner();
        let page = Page { size: request.page_size, token: &request.page_token };
        let hosts = self.0.host_rows().await?;
        let (hosts, next_page_token) = page.cut(hosts, Order::Rising, |row| row.id.as_str())?;
        Ok(Response::new(ListHostsResponse { hosts: hosts.iter().map(HostRow::wire).collect(), next_page_token }))
    }

    async fn get_host(&self, request: Request<GetHostRequest>) -> Result<Response<Host>, Status> {
        let id = required("host_id", &request.into_inner().host_id)?;
        Ok(Response::new(self.0.host_row(&id).await?.wire()))
    }

    async fn update_host_location(
        &self,
        request: Request<UpdateHostLocationRequest>,
    ) -> Result<Response<Host>, Status> {
        let caller = Caller::of(&request)?;
        let UpdateHostLocationRequest { host_id, location, clear } = request.into_inner();
        let id = required("host_id", &host_id)?;
        let location = injected_location(location.unwrap_or_default()).map_err(|error| error.within("location"))?;
        let clear = cleared_fields(&clear, &location)?;
        self.0.inject_location(&id, &location, &clear, caller.key.as_str()).await?;
        Ok(Response::new(self.0.host_row(&id).await?.wire()))
    }

    async fn batch_update_host_locations(
        &self,
        request: Request<BatchUpdateHostLocationsRequest>,
    ) -> Result<Response<BatchUpdateHostLocationsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let results = self.0.inject_locations(request.into_inner().entries, caller.key.as_str()).await?;
        Ok(Response::new(BatchUpdateHostLocationsResponse { results }))
    }

    async fn remove_host(&self, request: Request<RemoveHostRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?;
        let id = required("host_id", &request.into_inner().host_id)?;
        self.0.agents.remove_host(&id, caller.key.as_str()).await?;
        Ok(Response::new(()))
    }
}
