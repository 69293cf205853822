//! The provisioner as a role: beside a service in one process, or alone on etcd.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use cladnet_model::deployment::{AddressPolicy, AddressRefused, Via};
use cladnet_pki::channel::{self, ServiceUrl};
use cladnet_provisioner::{AddressRule, Config, LEASE, ServiceAccess};
use cladnet_service::{Server, local_addresses};
use cladnet_store::Store;
use tokio::net::lookup_host;

use super::options::{EtcdOptions, ProvisionerOptions};
use crate::{api, args::ClientArgs, failure::Failure};

/// What a provisioner works with, once its settings are known to be right.
pub(super) struct ProvisionerPlan {
    agent_dir: Option<PathBuf>,
    advertise: Vec<ServiceUrl>,
    /// The service, if it is not in this process.
    access: Option<api::Access>,
    /// `HOST:PORT` of the control plane elsewhere, which no deployment may connect to.
    control_plane: Vec<String>,
}

/// In one process with the service.
pub(super) fn beside(options: ProvisionerOptions) -> ProvisionerPlan {
    let ProvisionerOptions { agent_dir, advertise } = options;
    ProvisionerPlan { agent_dir, advertise, access: None, control_plane: Vec::new() }
}

/// On its own.
pub(super) fn alone(
    options: ProvisionerOptions,
    client: &ClientArgs,
    etcd: &EtcdOptions,
) -> Result<ProvisionerPlan, Failure> {
    let access = api::Access::read(client)?;
    let ProvisionerOptions { agent_dir, advertise } = options;
    let advertise = if advertise.is_empty() { client.service.clone() } else { advertise };
    let members = etcd.url.iter().filter_map(|url| Some(url.split_once("://")?.1.trim_end_matches('/').to_owned()));
    let services = client.service.iter().map(|url| url.to_string().trim_start_matches("https://").to_owned());
    let control_plane = members.chain(services).collect();
    Ok(ProvisionerPlan { agent_dir, advertise, access: Some(access), control_plane })
}

impl ProvisionerPlan {
    /// For a service in this process.
    pub(super) async fn with(self, server: &Server, store: Store) -> Result<Config, Failure> {
        let urls = server.urls();
        let access = ServiceAccess::new(server.provisioner_channel(), None);
        self.config(access.map_err(|error| Failure::failed(error.to_string()))?, urls, store).await
    }

    /// For a service elsewhere.
    pub(super) async fn over_network(mut self, store: Store) -> Result<Config, Failure> {
        let Some(access) = self.access.take() else { return Err(Failure::configuration("--service URL is missing")) };
        let channel = channel::connect_lazy(&access.services, access.tls);
        let access = ServiceAccess::new(channel, Some(&access.key));
        let access = access.map_err(|error| Failure::configuration(format!("--key-file: {error}")))?;
        self.config(access, Vec::new(), store).await
    }

    async fn config(self, service: ServiceAccess, urls: Vec<String>, store: Store) -> Result<Config, Failure> {
        let service_urls = match self.advertise.is_empty() {
            true => urls,
            false => self.advertise.iter().map(ToString::to_string).collect(),
        };
        let addresses = Arc::new(Elsewhere { control_plane: resolved(&self.control_plane).await });
        Ok(Config {
            store,
            service,
            service_urls,
            addresses,
            agent_dir: self.agent_dir,
            lease: LEASE,
            fail_point: None,
        })
    }
}

/// Machines are not this one, whatever addresses it has by now, and none of the control plane.
struct Elsewhere {
    control_plane: Vec<IpAddr>,
}

impl AddressRule for Elsewhere {
    fn check(&self, address: IpAddr, via: Via) -> Result<(), AddressRefused> {
        AddressPolicy::new(local_addresses().into_iter().chain(self.control_plane.iter().copied())).check(address, via)
    }
}

/// The addresses of what can be resolved now.
async fn resolved(places: &[String]) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for place in places {
        if let Ok(found) = lookup_host(place).await {
            addresses.extend(found.map(|address| address.ip()));
        }
    }
    addresses
}
