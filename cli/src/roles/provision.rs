//! The provisioner as a role: beside a service in one process, or alone on etcd.

use std::{path::PathBuf, sync::Arc};

use cladnet_pki::channel::{self, ServiceUrl};
use cladnet_provisioner::{Config, ControlPlane, LEASE, ServiceAccess};
use cladnet_service::{Server, local_addresses};
use cladnet_store::Store;
use tonic::transport::Uri;

use super::options::{EtcdOptions, ProvisionerOptions, ServiceOptions};
use crate::{api, args::ClientArgs, failure::Failure};

/// What a provisioner works with, once its settings are known to be right.
pub(super) struct ProvisionerPlan {
    agent_dir: Option<PathBuf>,
    advertise: Vec<ServiceUrl>,
    /// The service, if it is not in this process.
    access: Option<api::Access>,
    /// Hosts by which the control plane is known, beside this machine's own addresses: no deployment may connect to them.
    control_plane: Vec<String>,
}

/// In one process with the service.
pub(super) fn beside(options: ProvisionerOptions, service: &ServiceOptions) -> ProvisionerPlan {
    let ProvisionerOptions { agent_dir, advertise } = options;
    let listens = service.listen.map(|address| address.ip()).filter(|address| !address.is_unspecified());
    let control_plane = elsewhere(&advertise, &[], &[]).into_iter();
    let control_plane = control_plane.chain(hosts(&service.tls_name)).chain(listens.map(|address| address.to_string()));
    ProvisionerPlan { agent_dir, advertise, access: None, control_plane: control_plane.collect() }
}

/// On its own; the services may share its settings file, and then their names are known too.
pub(super) fn alone(
    options: ProvisionerOptions,
    client: &ClientArgs,
    etcd: &EtcdOptions,
    services: &ServiceOptions,
) -> Result<ProvisionerPlan, Failure> {
    let access = api::Access::read(client)?;
    let ProvisionerOptions { agent_dir, advertise } = options;
    let advertise = if advertise.is_empty() { client.service.clone() } else { advertise };
    let control_plane = elsewhere(&client.service, &advertise, &etcd.url);
    let control_plane = control_plane.into_iter().chain(hosts(&services.tls_name)).collect();
    Ok(ProvisionerPlan { agent_dir, advertise, access: Some(access), control_plane })
}

fn elsewhere(services: &[ServiceUrl], advertise: &[ServiceUrl], etcd: &[String]) -> Vec<String> {
    let services = services.iter().chain(advertise).map(|url| url.host().to_owned());
    services.chain(etcd.iter().filter_map(|url| host(url))).collect()
}

impl ProvisionerPlan {
    /// For a service in this process.
    pub(super) fn with(self, server: &Server, store: Store) -> Result<Config, Failure> {
        let urls = server.urls();
        let access = ServiceAccess::new(server.provisioner_channel(), None);
        Ok(self.config(access.map_err(|error| Failure::failed(error.to_string()))?, urls, store))
    }

    /// For a service elsewhere.
    pub(super) fn over_network(mut self, store: Store) -> Result<Config, Failure> {
        let Some(access) = self.access.take() else { return Err(Failure::configuration("--service URL is missing")) };
        let channel = channel::connect_lazy(&access.services, access.tls);
        let access = ServiceAccess::new(channel, Some(&access.key));
        let access = access.map_err(|error| Failure::configuration(format!("--key-file: {error}")))?;
        Ok(self.config(access, Vec::new(), store))
    }

    fn config(self, service: ServiceAccess, urls: Vec<String>, store: Store) -> Config {
        let service_urls = match self.advertise.is_empty() {
            true => urls,
            false => self.advertise.iter().map(ToString::to_string).collect(),
        };
        let addresses = Arc::new(ControlPlane::new(self.control_plane, local_addresses));
        Config { store, service, service_urls, addresses, agent_dir: self.agent_dir, lease: LEASE, fail_point: None }
    }
}

/// The host of a URL, as it is resolved: IPv6 without brackets. None if it is no URL; then nothing is reached under it.
fn host(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(uri.host()?.trim_matches(['[', ']']).to_owned())
}

/// A certificate's names; one with a star is no host.
fn hosts(tls_names: &[String]) -> impl Iterator<Item = String> + '_ {
    tls_names.iter().filter(|name| !name.starts_with("*.")).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(of: &[&str]) -> Vec<ServiceUrl> {
        of.iter().map(|url| url.parse().unwrap()).collect()
    }

    #[test]
    fn whatever_a_server_is_known_by_is_spared() {
        let options = ProvisionerOptions { advertise: urls(&["https://203.0.113.7:443"]), ..Default::default() };
        let service = ServiceOptions {
            tls_name: ["cladnet.example", "*.cladnet.example"].map(str::to_owned).into(),
            listen: "198.51.100.1:8053".parse().ok(),
            ..Default::default()
        };
        assert_eq!(beside(options, &service).control_plane, ["203.0.113.7", "cladnet.example", "198.51.100.1"]);
        let everywhere = ServiceOptions { listen: "[::]:8053".parse().ok(), ..Default::default() };
        assert!(beside(ProvisionerOptions::default(), &everywhere).control_plane.is_empty());
    }

    #[test]
    fn services_and_members_of_etcd_are_hosts_of_the_control_plane() {
        let etcd = ["https://etcd-1:2379", "https://[2001:db8::1]:2379", "http://etcd-2"].map(str::to_owned);
        let known = elsewhere(&urls(&["https://service"]), &urls(&["https://203.0.113.7"]), &etcd);
        assert_eq!(known, ["service", "203.0.113.7", "etcd-1", "2001:db8::1", "etcd-2"]);
    }
}
