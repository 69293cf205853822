//! Which call needs what: one table for gRPC and REST alike. An RPC that is missing here cannot be called at all.

use cladnet_model::Action;

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Open,
    /// Anybody, but not often: a join token is checked by the handler.
    Enrolment,
    /// An agent, by the client certificate of its host; the handler judges the host and the certificate's age.
    Host,
    /// A bearer of an API key whose role allows the action.
    Key(Action),
}

use Access::{Enrolment, Host, Key, Open};
use Action::{Control, Deploy, ManageHosts, ManageKeys, ManageNetworks, ManagePeers, ManageTokens, Read, RunTests};

/// Carries up to a thousand private keys.
const CREATE_DEPLOYMENT: &str = "/cladnet.v1.DeploymentService/CreateDeployment";

/// Largest request of most RPCs.
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;

/// Largest request that carries private keys: RSA of 4,096 bits has 3.4 KB, twice that leaves room for the rest.
pub(crate) const DEPLOYMENT_LIMIT: usize = 8 * 1024 * 1024;

/// Every RPC of every service.
const TABLE: &[(&str, Access)] = &[
    ("/cbnet.v1.SystemManagementService/health", Open),
    ("/cbnet.v1.SystemManagementService/controlCloudAdaptiveNetwork", Key(Control)),
    ("/cbnet.v1.SystemManagementService/testCloudAdaptiveNetwork", Key(RunTests)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/getCLADNet", Key(Read)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/getCLADNetList", Key(Read)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/createCLADNet", Key(ManageNetworks)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/deleteCLADNet", Key(ManageNetworks)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/updateCLADNet", Key(ManageNetworks)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/recommendAvailableIPv4PrivateAddressSpaces", Key(Read)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/getPeer", Key(Read)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/getPeerList", Key(Read)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/updateDetailsOfPeer", Key(ManageHosts)),
    ("/cbnet.v1.CloudAdaptiveNetworkService/getPeerNetworkingRule", Key(Read)),
    ("/cladnet.v1.SystemService/GetInfo", Key(Read)),
    ("/cladnet.v1.NetworkService/CreateNetwork", Key(ManageNetworks)),
    ("/cladnet.v1.NetworkService/ListNetworks", Key(Read)),
    ("/cladnet.v1.NetworkService/GetNetwork", Key(Read)),
    ("/cladnet.v1.NetworkService/UpdateNetwork", Key(ManageNetworks)),
    ("/cladnet.v1.NetworkService/DeleteNetwork", Key(ManageNetworks)),
    ("/cladnet.v1.NetworkService/RecommendAddressSpaces", Key(Read)),
    ("/cladnet.v1.PeerService/ListPeers", Key(Read)),
    ("/cladnet.v1.PeerService/GetPeer", Key(Read)),
    ("/cladnet.v1.PeerService/UpdatePeer", Key(ManagePeers)),
    ("/cladnet.v1.PeerService/RemovePeer", Key(ManagePeers)),
    ("/cladnet.v1.PeerService/CreatePlainPeer", Key(ManagePeers)),
    ("/cladnet.v1.PeerService/ControlPeers", Key(Control)),
    ("/cladnet.v1.RuleService/GetRules", Key(Read)),
    ("/cladnet.v1.RuleService/ReplaceRules", Key(ManageNetworks)),
    ("/cladnet.v1.RuleService/AddRule", Key(ManageNetworks)),
    ("/cladnet.v1.RuleService/RemoveRule", Key(ManageNetworks)),
    ("/cladnet.v1.RuleService/TestAccess", Key(Read)),
    ("/cladnet.v1.PathService/ListPaths", Key(Read)),
    ("/cladnet.v1.PathService/MeasurePaths", Key(RunTests)),
    ("/cladnet.v1.PathService/ExplainPath", Key(Read)),
    ("/cladnet.v1.HostService/ListHosts", Key(Read)),
    ("/cladnet.v1.HostService/GetHost", Key(Read)),
    ("/cladnet.v1.HostService/UpdateHostLocation", Key(ManageHosts)),
    ("/cladnet.v1.HostService/BatchUpdateHostLocations", Key(ManageHosts)),
    ("/cladnet.v1.HostService/RemoveHost", Key(ManageHosts)),
    ("/cladnet.v1.TokenService/CreateToken", Key(ManageTokens)),
    ("/cladnet.v1.TokenService/ListTokens", Key(Read)),
    ("/cladnet.v1.TokenService/RevokeToken", Key(ManageTokens)),
    ("/cladnet.v1.KeyService/CreateKey", Key(ManageKeys)),
    ("/cladnet.v1.KeyService/ListKeys", Key(ManageKeys)),
    ("/cladnet.v1.KeyService/RevokeKey", Key(ManageKeys)),
    ("/cladnet.v1.TestService/RunConnectivityTest", Key(RunTests)),
    ("/cladnet.v1.TestService/StartConnectivityTest", Key(RunTests)),
    ("/cladnet.v1.TestService/ListConnectivityRuns", Key(Read)),
    ("/cladnet.v1.TestService/GetConnectivityRun", Key(Read)),
    ("/cladnet.v1.EventService/ListEvents", Key(Read)),
    ("/cladnet.v1.EventService/WatchEvents", Key(Read)),
    ("/cladnet.v1.CostService/GetCostReport", Key(Read)),
    ("/cladnet.v1.CostService/WhatIfCost", Key(Read)),
    ("/cladnet.v1.CostService/ListBilledUsage", Key(Read)),
    ("/cladnet.v1.CostService/SetBudget", Key(ManageNetworks)),
    ("/cladnet.v1.CostService/ListBudgets", Key(Read)),
    ("/cladnet.v1.CostService/RemoveBudget", Key(ManageNetworks)),
    ("/cladnet.v1.TariffService/GetTariffBook", Key(Read)),
    ("/cladnet.v1.TariffService/ListTariffRules", Key(Read)),
    ("/cladnet.v1.TariffService/QuoteTariff", Key(Read)),
    ("/cladnet.v1.TariffService/GetTariffOverrides", Key(Read)),
    ("/cladnet.v1.TariffService/SetTariffOverrides", Key(ManageNetworks)),
    ("/cladnet.v1.TariffService/CheckTariffOverrides", Key(Read)),
    ("/cladnet.v1.TariffService/GetTariffImports", Key(Read)),
    ("/cladnet.v1.TariffService/ImportTariff", Key(ManageNetworks)),
    (CREATE_DEPLOYMENT, Key(Deploy)),
    ("/cladnet.v1.DeploymentService/ListDeployments", Key(Read)),
    ("/cladnet.v1.DeploymentService/GetDeployment", Key(Read)),
    ("/cladnet.v1.DeploymentService/WatchDeployment", Key(Read)),
    ("/cladnet.v1.DeploymentService/GetTranscript", Key(Read)),
    ("/cladnet.v1.DeploymentService/ConfirmHostKey", Key(Deploy)),
    ("/cladnet.v1.DeploymentService/CancelDeployment", Key(Deploy)),
    ("/cladnet.v1.DeploymentService/ForgetCredentials", Key(Deploy)),
    ("/cladnet.v1.DeploymentService/ListHostKeys", Key(Read)),
    ("/cladnet.v1.DeploymentService/ForgetHostKey", Key(Deploy)),
    ("/cladnet.v1.AgentService/Enrol", Enrolment),
    ("/cladnet.v1.AgentService/Join", Host),
    ("/cladnet.v1.AgentService/RenewCertificate", Host),
    ("/cladnet.v1.AgentService/Leave", Host),
    ("/cladnet.v1.AgentService/Sync", Host),
    // What the interfaces look like is published with the program; the documentation pages show it to anybody as well.
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Open),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Open),
];

/// What `/package.Service/Method` needs, and its own text; `None` if there is no such RPC.
pub(crate) fn of(rpc: &str) -> Option<(&'static str, Access)> {
    TABLE.iter().find(|(path, _)| *path == rpc).copied()
}

/// Most bytes of a request; read from nobody who may not call.
pub(crate) fn body_limit(rpc: &str) -> usize {
    if rpc == CREATE_DEPLOYMENT { DEPLOYMENT_LIMIT } else { BODY_LIMIT }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn the_table_names_every_rpc_once_and_nothing_else() {
        let pool = DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("our own descriptors");
        let rpcs: BTreeSet<String> = pool
            .services()
            .flat_map(|service| service.methods().map(|rpc| (service.full_name().to_owned(), rpc)).collect::<Vec<_>>())
            .map(|(service, rpc)| format!("/{service}/{}", rpc.name()))
            .collect();
        let named: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(named.len(), TABLE.len(), "an RPC is named twice");
        let ours = named.iter().filter(|path| !path.starts_with("/grpc.reflection.")).cloned().collect();
        assert_eq!(rpcs, ours);
    }

    #[test]
    fn only_health_and_the_description_of_the_interfaces_are_open() {
        let open: Vec<_> = TABLE.iter().filter(|(_, access)| *access == Open).map(|(path, _)| *path).collect();
        assert_eq!(open[0], "/cbnet.v1.SystemManagementService/health");
        assert!(open[1..].iter().all(|path| path.starts_with("/grpc.reflection.")), "{open:?}");
    }
}
