//! The documents that describe the REST interfaces, made from the very descriptors that serve them: OpenAPI 3.1 of
//! `cladnet.v1`, and Swagger 2.0 of `cbnet.v1` in the shape that cb-network published.

mod comments;
mod schema;
mod swagger;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

pub(crate) use swagger::swagger;

use self::{
    comments::Comments,
    schema::{Schemas, is_leaf},
};
use crate::rest::binding::{Binding, BodyRule, Dialect, bindings};

/// Introduces the document to its reader.
const DESCRIPTION: &str = "Networks over VMs of several clouds: networks, peers, hosts, join tokens, API keys, paths, \
tests and events. JSON is proto3 JSON: camelCase names, 64-bit integers as strings; unknown fields are refused. Every \
call carries `Authorization: Bearer cladnet_key_…`. Errors are problem documents (RFC 9457); 422 names the field that is \
wrong. Lists are read page by page: pass `nextPageToken` back as `pageToken`.";

/// The OpenAPI 3.1 document of `cladnet.v1`.
pub(crate) fn openapi(pool: &DescriptorPool) -> Value {
    let comments = Comments::of(pool);
    let mut schemas = Schemas::new("#/components/schemas/", &comments);
    let mut paths = Map::new();
    let mut tags = Vec::new();
    for binding in bindings(pool).into_iter().filter(|binding| binding.dialect == Dialect::Cladnet) {
        let service = binding.rpc.parent_service();
        let tag = json!({"name": tag(&binding), "description": comments.of_service(service)});
        if !tags.contains(&tag) {
            tags.push(tag);
        }
        let operation = operation(&binding, &comments, &mut schemas);
        let path = paths.entry(binding.path.clone()).or_insert_with(|| json!({}));
        path[binding.verb.as_str().to_ascii_lowercase()] = operation;
    }
    let mut schemas = schemas.into_definitions();
    schemas.insert("Problem".to_owned(), problem_schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cladnet",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "An API key: cladnet_key_…"}},
            "responses": {"Problem": {
                "description": "Why the call was refused, and what would be right.",
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }},
        },
    })
}

fn tag(binding: &Binding) -> String {
    binding.rpc.parent_service().name().trim_end_matches("Service").to_owned()
}

fn operation(binding: &Binding, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let text = comments.of_rpc(&binding.rpc);
    let output = schemas.message(&binding.rpc.output());
    let content = match binding.rpc.is_server_streaming() {
        true => json!({"text/event-stream": {"schema": output}}),
        false => json!({"application/json": {"schema": output}}),
    };
    let mut operation = json!({
        "operationId": binding.rpc.name(),
        "tags": [tag(binding)],
        "summary": summary(binding.rpc.name(), text),
        "parameters": parameters(binding, comments, schemas),
        "responses": {
            "200": {"description": "Done.", "content": content},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    });
    if !text.is_empty() {
        operation["description"] = json!(text);
    }
    if let Some(body) = body(binding, schemas) {
        operation["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": body}}});
    }
    operation
}

/// The first sentence of the comment, or the RPC's name in words.
fn summary(name: &str, comment: &str) -> String {
    let first = comment.split_inclusive(['.', ';', '\n']).next().unwrap_or_default();
    match first.trim_end_matches(['.', ';', '\n']) {
        "" => words(name),
        sentence => sentence.to_owned(),
    }
}

/// `ListNetworks` as `List networks`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for character in name.chars() {
        match character.is_uppercase() && !words.is_empty() {
            true => {
                words.push(' ');
                words.extend(character.to_lowercase());
            }
            false => words.push(character),
        }
    }
    words
}

/// What the body of a request is, without what the path carries.
fn body(binding: &Binding, schemas: &mut Schemas<'_>) -> Option<Value> {
    match &binding.body {
        BodyRule::None => None,
        BodyRule::Whole if binding.path_fields().is_empty() => Some(schemas.message(&binding.input())),
        BodyRule::Whole => Some(schemas.object(&binding.input(), &binding.path_fields())),
        BodyRule::Field(name) => binding.input().get_field_by_name(name).map(|field| schemas.field(&field)),
    }
}

/// Path variables, then every field that neither path nor body carries.
fn parameters(binding: &Binding, comments: &Comments, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let input = binding.input();
    let in_path = binding.path_fields();
    let mut parameters: Vec<Value> = in_path
        .iter()
        .filter_map(|name| input.get_field_by_name(name))
        .map(|field| parameter("path", field.name(), &field, comments, schemas))
        .collect();
    if binding.body != BodyRule::Whole {
        let in_body = |field: &FieldDescriptor| matches!(&binding.body, BodyRule::Field(name) if name == field.name());
        let fields = input.fields().filter(|field| !in_path.contains(&field.name()) && !in_body(field));
        let mut leaves = Vec::new();
        fields.for_each(|field| flatten("", &field, &mut leaves));
        parameters.extend(leaves.iter().map(|(name, field)| parameter("query", name, field, comments, schemas)));
    }
    parameters
}

/// Query parameters reach into messages with dots.
fn flatten(prefix: &str, field: &FieldDescriptor, leaves: &mut Vec<(String, FieldDescriptor)>) {
    let name = format!("{prefix}{}", field.json_name());
    match field.kind() {
        _ if field.is_map() => {}
        Kind::Message(message) if !is_leaf(&message) && !field.is_list() => {
            nested(&message).for_each(|inner| flatten(&format!("{name}."), &inner, leaves));
        }
        _ => leaves.push((name, field.clone())),
    }
}

fn nested(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    message.fields().collect::<Vec<_>>().into_iter()
}

fn parameter(
    place: &str,
    name: &str,
    field: &FieldDescriptor,
    comments: &Comments,
    schemas: &mut Schemas<'_>,
) -> Value {
    let mut parameter = json!({"name": name, "in": place, "schema": schemas.bare_field(field)});
    if place == "path" {
        parameter["required"] = json!(true);
    }
    let text = comments.of_field(field);
    if !text.is_empty() {
        parameter["description"] = json!(text);
    }
    parameter
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "A problem document (RFC 9457).",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "What is wrong and what would be right."},
            "field": {"type": "string", "description": "Path of the first field that is wrong, if it is one."},
            "errors": {
                "type": "array",
                "description": "Every field that is wrong, and what is wrong there.",
                "items": {
                    "type": "object",
                    "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
                },
            },
            "request_id": {"type": "string", "description": "Under which the service's log knows the request."},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        openapi(&DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("our own descriptors"))
    }

    #[test]
    fn every_route_is_described_with_its_comment_its_parameters_and_its_body() {
        let document = document();
        let delete = &document["paths"]["/api/v1/networks/{network_id}"]["delete"];
        assert_eq!(delete["operationId"], "DeleteNetwork");
        assert_eq!(
            delete["summary"],
            "Refused while the network has peers, unless forced: then its peers are removed with it"
        );
        assert_eq!(delete["parameters"][0]["name"], "network_id");
        assert_eq!(delete["parameters"][0]["in"], "path");
        assert_eq!(delete["parameters"][1]["name"], "force");
        let update = &document["paths"]["/api/v1/networks/{network_id}"]["patch"];
        let properties = &update["requestBody"]["content"]["application/json"]["schema"]["properties"];
        assert!(properties.get("networkId").is_none() && properties.get("expectedGeneration").is_some());
        let watch = &document["paths"]["/api/v1/events/watch"]["get"]["responses"]["200"]["content"];
        assert!(watch.get("text/event-stream").is_some());
    }

    #[test]
    fn every_reference_has_its_target_and_cb_network_is_left_to_its_own_document() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().expect("has an end")) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        assert!(!text.contains("CLADNetSpecification"));
    }
}
