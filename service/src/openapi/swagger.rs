//! cb-network's Swagger 2.0 document, with the names that its generator (protoc-gen-openapiv2) gave: definitions
//! `v1Peer`, operations `CloudAdaptiveNetworkService_getPeer`, errors `rpcStatus`.

use prost_reflect::{DescriptorPool, FieldDescriptor};
use serde_json::{Map, Value, json};

use super::{comments::Comments, schema::Schemas};
use crate::rest::binding::{Binding, BodyRule, Dialect, bindings};

/// The document of `cbnet.v1`.
pub(crate) fn swagger(pool: &DescriptorPool) -> Value {
    let comments = Comments::of(pool);
    let mut schemas = Schemas::new("#/definitions/v1", &comments);
    let mut paths = Map::new();
    let mut tags = Vec::new();
    for binding in bindings(pool).into_iter().filter(|binding| binding.dialect == Dialect::Cbnet) {
        let tag = json!({"name": binding.rpc.parent_service().name()});
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        let operation = operation(&binding, &comments, &mut schemas);
        let path = paths.entry(binding.path.clone()).or_insert_with(|| json!({}));
        path[binding.verb.as_str().to_ascii_lowercase()] = operation;
    }
    let mut definitions: Map<String, Value> =
        schemas.into_definitions().into_iter().map(|(name, schema)| (format!("v1{name}"), schema)).collect();
    definitions.insert("rpcStatus".to_owned(), status_schema());
    json!({
        "swagger": "2.0",
        "info": {"title": "Cloud-Barista Network API", "version": env!("CARGO_PKG_VERSION")},
        "tags": tags,
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "securityDefinitions": {"key": {
            "type": "apiKey", "in": "header", "name": "Authorization", "description": "Bearer cladnet_key_…",
        }},
        "security": [{"key": []}],
        "paths": paths,
        "definitions": definitions,
    })
}

fn operation(binding: &Binding, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let service = binding.rpc.parent_service();
    let mut operation = json!({
        "operationId": format!("{}_{}", service.name(), binding.rpc.name()),
        "tags": [service.name()],
        "responses": {
            "200": {"description": "A successful response.", "schema": schemas.message(&binding.rpc.output())},
            "default": {"description": "An unexpected error response.", "schema": {"$ref": "#/definitions/rpcStatus"}},
        },
    });
    let text = comments.of_rpc(&binding.rpc);
    if !text.is_empty() {
        operation["summary"] = json!(text);
    }
    let parameters = parameters(binding, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    operation
}

fn parameters(binding: &Binding, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let input = binding.input();
    let in_path = binding.path_fields();
    let mut parameters: Vec<Value> = in_path
        .iter()
        .filter_map(|name| input.get_field_by_name(name))
        .map(|field| parameter("path", &field, schemas))
        .collect();
    match binding.body {
        BodyRule::None => {
            let rest = input.fields().filter(|field| !in_path.contains(&field.name())).collect::<Vec<_>>();
            parameters.extend(rest.iter().map(|field| parameter("query", field, schemas)));
        }
        BodyRule::Whole | BodyRule::Field(_) => {
            let schema = match in_path.is_empty() {
                true => schemas.message(&input),
                false => schemas.object(&input, &in_path),
            };
            parameters.push(json!({"name": "body", "in": "body", "required": true, "schema": schema}));
        }
    }
    parameters
}

/// Swagger 2.0 puts the schema of a parameter into the parameter. Path parameters keep the names of the `.proto` file, which
/// are those of the route.
fn parameter(place: &str, field: &FieldDescriptor, schemas: &mut Schemas<'_>) -> Value {
    let name = if place == "path" { field.name() } else { field.json_name() };
    let mut parameter = schemas.bare_field(field);
    parameter["name"] = json!(name);
    parameter["in"] = json!(place);
    parameter["required"] = json!(place == "path");
    parameter
}

fn status_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "code": {"type": "integer", "format": "int32"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thirteen_operations_keep_the_names_of_the_ancestors_generator() {
        let document = swagger(&DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("our own descriptors"));
        let paths = document["paths"].as_object().expect("an object");
        assert_eq!(paths.values().map(|path| path.as_object().map_or(0, Map::len)).sum::<usize>(), 13);
        let update = &document["paths"]["/v1/cladnet/{cladnet_id}/peer/{host_id}/details"]["put"];
        assert_eq!(update["operationId"], "CloudAdaptiveNetworkService_updateDetailsOfPeer");
        assert_eq!(update["responses"]["200"]["schema"]["$ref"], "#/definitions/v1Peer");
        assert_eq!(document["definitions"]["v1Peer"]["properties"]["hostPrivateIpv4Cidr"]["type"], "string");
        let control = &document["paths"]["/v1/control/cladnet/{cladnet_id}/command/{command_type}"]["get"];
        assert_eq!(control["parameters"][1]["name"], "command_type");
        assert_eq!(control["parameters"][1]["enum"], json!(["UP", "DOWN", "ENABLE_ENCRYPTION", "DISABLE_ENCRYPTION"]));
    }
}
