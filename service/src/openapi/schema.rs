//! JSON schemas of messages, as their proto3 JSON looks.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::comments::Comments;

/// Schemas of the messages that were asked for, and of those they hold, by name.
pub(super) struct Schemas<'a> {
    /// What a reference begins with.
    root: &'static str,
    comments: &'a Comments,
    /// Absent while it is being made, so that a message may hold itself.
    definitions: BTreeMap<String, Option<Value>>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(root: &'static str, comments: &'a Comments) -> Self {
        Self { root, comments, definitions: BTreeMap::new() }
    }

    pub(super) fn into_definitions(self) -> Map<String, Value> {
        self.definitions.into_iter().filter_map(|(name, schema)| Some((name, schema?))).collect()
    }

    /// A reference to the schema of `message`, or the schema itself of one that JSON has a form of its own for.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = well_known(message) {
            return schema;
        }
        let name = message.name().to_owned();
        if !self.definitions.contains_key(&name) {
            self.definitions.insert(name.clone(), None);
            let schema = self.object(message, &[]);
            self.definitions.insert(name.clone(), Some(schema));
        }
        json!({"$ref": format!("{}{name}", self.root)})
    }

    /// The schema of `message` in place, without the fields in `left_out`.
    pub(super) fn object(&mut self, message: &MessageDescriptor, left_out: &[&str]) -> Value {
        let fields: Vec<_> = message.fields().filter(|field| !left_out.contains(&field.name())).collect();
        let properties: Map<String, Value> =
            fields.iter().map(|field| (field.json_name().to_owned(), self.field(field))).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        describe(&mut schema, self.comments.of_message(message));
        schema
    }

    /// The schema of a field with its comment.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = self.bare_field(field);
        let text = self.comments.of_field(field);
        // OpenAPI 3.1 lets a description stand beside a reference; Swagger 2.0 ignores it there.
        describe(&mut schema, text);
        schema
    }

    /// The schema of a field without its comment.
    pub(super) fn bare_field(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                json!({"type": "object", "additionalProperties": self.kind(&entry.map_entry_value_field().kind())})
            }
            kind if field.is_list() => json!({"type": "array", "items": self.kind(&kind)}),
            kind => self.kind(&kind),
        }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "int64", "minimum": 0}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Enum(kind) => self.values(kind),
            Kind::Message(message) => self.message(message),
        }
    }

    fn values(&self, kind: &EnumDescriptor) -> Value {
        let names: Vec<String> = kind.values().map(|value| value.name().to_owned()).collect();
        let mut schema = json!({"type": "string", "default": names.first(), "enum": names});
        describe(&mut schema, self.comments.of_enum(kind));
        schema
    }
}

fn describe(schema: &mut Value, text: &str) {
    if !text.is_empty() {
        schema["description"] = json!(text);
    }
}

/// Whether JSON writes the message as one value, so that a query parameter can carry it.
pub(super) fn is_leaf(message: &MessageDescriptor) -> bool {
    well_known(message).is_some()
}

fn well_known(message: &MessageDescriptor) -> Option<Value> {
    Some(match message.full_name() {
        "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
        "google.protobuf.Duration" => json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"}),
        "google.protobuf.StringValue" => json!({"type": "string"}),
        "google.protobuf.Empty" => json!({"type": "object", "properties": {}}),
        _ => return None,
    })
}
