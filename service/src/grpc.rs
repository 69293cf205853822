//! The gRPC services of the port, with their limits; who may call them is decided around them.

use std::sync::Arc;

use cladnet_proto::cladnet::v1::system_service_server::SystemServiceServer;
use tonic::service::{Routes, RoutesBuilder};

use crate::{Service, admin::Admin, rest::BODY_LIMIT};

/// Every service.
pub(crate) fn all(service: &Arc<Service>) -> Routes {
    let mut routes = RoutesBuilder::default();
    add_cbnet(&mut routes, service);
    let admin = Admin(service.clone());
    routes.add_service(SystemServiceServer::new(admin).max_decoding_message_size(BODY_LIMIT));
    add_reflection(&mut routes);
    routes.routes()
}

/// cb-network's interface alone.
pub(crate) fn cbnet(service: &Arc<Service>) -> Routes {
    let mut routes = RoutesBuilder::default();
    add_cbnet(&mut routes, service);
    routes.routes()
}

fn add_cbnet(_routes: &mut RoutesBuilder, _service: &Arc<Service>) {}

/// Both versions of the reflection protocol: tools still speak either.
fn add_reflection(routes: &mut RoutesBuilder) {
    let builder = || {
        tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(cladnet_proto::DESCRIPTORS)
    };
    routes.add_service(builder().build_v1().expect("the descriptors were made by our own build"));
    routes.add_service(builder().build_v1alpha().expect("the descriptors were made by our own build"));
}
