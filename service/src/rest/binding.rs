//! The REST routes that the descriptors state: every RPC with a `google.api.http` option is one binding.
//! Nothing here knows a message of ours by name.

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ReflectMessage, Value};

/// Whose habits a route keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Ours: unknown fields are refused, statuses say precisely what is wrong.
    Cladnet,
    /// cb-network's, as grpc-gateway served it: unknown fields are ignored, statuses are grpc-gateway's.
    Cbnet,
}

/// What of a request the HTTP body fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// There is none; query parameters fill what the path does not.
    None,
    /// The whole request; there are no query parameters.
    Whole,
    /// One field; query parameters fill the rest.
    Field(String),
}

/// One RPC and its REST route.
#[derive(Debug, Clone)]
pub(crate) struct Binding {
    pub(crate) rpc: MethodDescriptor,
    pub(crate) verb: http::Method,
    /// As `google.api.http` and axum both spell it: `/v1/cladnet/{cladnet_id}`.
    pub(crate) path: String,
    pub(crate) body: BodyRule,
    pub(crate) dialect: Dialect,
}

impl Binding {
    /// The request's message.
    pub(crate) fn input(&self) -> MessageDescriptor {
        self.rpc.input()
    }

    /// `/package.Service/Method`.
    pub(crate) fn rpc_path(&self) -> String {
        format!("/{}/{}", self.rpc.parent_service().full_name(), self.rpc.name())
    }

    /// Fields of the request that the path carries.
    pub(crate) fn path_fields(&self) -> Vec<&str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect()
    }
}

/// Every binding of every service in `pool`, in the order of the files.
pub(crate) fn bindings(pool: &DescriptorPool) -> Vec<Binding> {
    let Some(http_option) = pool.get_extension_by_name("google.api.http") else { return Vec::new() };
    let of_rpc = |rpc: MethodDescriptor| {
        let options = rpc.options();
        let rule = options.get_extension(&http_option);
        let (verb, path) = pattern(rule.as_message()?)?;
        let body = match text(rule.as_message()?, "body").as_str() {
            "" => BodyRule::None,
            "*" => BodyRule::Whole,
            field => BodyRule::Field(field.to_owned()),
        };
        let dialect = match rpc.parent_service().package_name() {
            "cbnet.v1" => Dialect::Cbnet,
            _ => Dialect::Cladnet,
        };
        Some(Binding { rpc, verb, path, body, dialect })
    };
    let services: Vec<_> = pool.services().collect();
    services.iter().flat_map(|service| service.methods().collect::<Vec<_>>()).filter_map(of_rpc).collect()
}

/// The verb and the path of an `HttpRule`; absent when the RPC has no such option.
fn pattern(rule: &DynamicMessage) -> Option<(http::Method, String)> {
    rule.descriptor().fields().find_map(|field| {
        let verb = match field.name() {
            "get" => http::Method::GET,
            "put" => http::Method::PUT,
            "post" => http::Method::POST,
            "delete" => http::Method::DELETE,
            "patch" => http::Method::PATCH,
            _ => return None,
        };
        let path = text(rule, field.name());
        (!path.is_empty()).then_some((verb, path))
    })
}

fn text(message: &DynamicMessage, field: &str) -> String {
    match message.get_field_by_name(field).as_deref() {
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Binding> {
        bindings(&DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("our own descriptors"))
    }

    #[test]
    fn cb_network_has_its_thirteen_operations() {
        assert_eq!(all().iter().filter(|binding| binding.dialect == Dialect::Cbnet).count(), 13);
    }

    #[test]
    fn a_binding_knows_its_verb_path_body_and_path_fields() {
        let all = all();
        let binding = all.iter().find(|binding| binding.rpc.name() == "UpdateHostLocation").expect("has a route");
        assert_eq!(binding.verb, http::Method::PUT);
        assert_eq!(binding.path, "/api/v1/hosts/{host_id}/location");
        assert_eq!(binding.body, BodyRule::Field("location".to_owned()));
        assert_eq!(binding.path_fields(), ["host_id"]);
        assert_eq!(binding.rpc_path(), "/cladnet.v1.HostService/UpdateHostLocation");
    }

    #[test]
    fn the_agents_interface_has_no_rest_route() {
        assert!(all().iter().all(|binding| binding.rpc.parent_service().name() != "AgentService"));
    }
}
