//! The gRPC services of the port, with their limits; who may call them is decided around them.

use std::sync::Arc;

use cladnet_proto::cbnet::v1::{
    cloud_adaptive_network_service_server::CloudAdaptiveNetworkServiceServer,
    system_management_service_server::SystemManagementServiceServer,
};
use cladnet_proto::cladnet::v1::{
    cost_service_server::CostServiceServer, deployment_service_server::DeploymentServiceServer,
    event_service_server::EventServiceServer, host_service_server::HostServiceServer,
    key_service_server::KeyServiceServer, network_service_server::NetworkServiceServer,
    path_service_server::PathServiceServer, peer_service_server::PeerServiceServer,
    rule_service_server::RuleServiceServer, system_service_server::SystemServiceServer,
    tariff_service_server::TariffServiceServer, test_service_server::TestServiceServer,
    token_service_server::TokenServiceServer,
};
use tonic::service::{Routes, RoutesBuilder};

use crate::{
    Service,
    access::{BODY_LIMIT, DEPLOYMENT_LIMIT},
    admin::Admin,
    cbnet::Cbnet,
};

/// A question about an interface names one thing; anybody may ask.
const QUESTION_LIMIT: usize = 16 * 1024;

/// Adds services that take no larger messages than REST does.
macro_rules! add {
    ($routes:ident, $handler:ident: $($server:ident),+ $(,)?) => {
        $($routes.add_service($server::new($handler.clone()).max_decoding_message_size(BODY_LIMIT));)+
    };
}

/// Every service.
pub(crate) fn all(service: &Arc<Service>) -> Routes {
    let mut routes = RoutesBuilder::default();
    add_cbnet(&mut routes, service);
    let admin = Admin(service.clone());
    add!(routes, admin:
        SystemServiceServer, NetworkServiceServer, PathServiceServer, PeerServiceServer, HostServiceServer, TokenServiceServer,
        KeyServiceServer, CostServiceServer, EventServiceServer, RuleServiceServer, TariffServiceServer, TestServiceServer,
    );
    routes.add_service(DeploymentServiceServer::new(admin).max_decoding_message_size(DEPLOYMENT_LIMIT));
    routes.add_service(service.agents.server());
    add_reflection(&mut routes);
    routes.routes()
}

/// cb-network's interface alone.
pub(crate) fn cbnet(service: &Arc<Service>) -> Routes {
    let mut routes = RoutesBuilder::default();
    add_cbnet(&mut routes, service);
    routes.routes()
}

fn add_cbnet(routes: &mut RoutesBuilder, service: &Arc<Service>) {
    let cbnet = Cbnet(service.clone());
    add!(routes, cbnet: SystemManagementServiceServer, CloudAdaptiveNetworkServiceServer);
}

/// Both versions of the reflection protocol: tools still speak either.
fn add_reflection(routes: &mut RoutesBuilder) {
    let builder = || {
        tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(cladnet_proto::DESCRIPTORS)
    };
    routes.add_service(
        builder()
            .build_v1()
            .expect("the descriptors were made by our own build")
            .max_decoding_message_size(QUESTION_LIMIT),
    );
    routes.add_service(
        builder()
            .build_v1alpha()
            .expect("the descriptors were made by our own build")
            .max_decoding_message_size(QUESTION_LIMIT),
    );
}
