//! From an HTTP request to the RPC's message: path, query and body become one JSON object, which is then read as proto3
//! JSON. The path wins over the body, as in grpc-gateway.

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::binding::{Binding, BodyRule, Dialect};

/// Why a request cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub(crate) struct InputError {
    /// The field's path in the names the caller used; empty if it is the request as a whole.
    pub(crate) field: String,
    pub(crate) detail: String,
}

impl InputError {
    fn new(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: field.into(), detail: detail.into() }
    }
}

/// Reads a request of `binding` from its path variables, its query string and its body.
pub(crate) fn read(
    binding: &Binding,
    path: &[(String, String)],
    query: &[(String, String)],
    body: &[u8],
) -> Result<DynamicMessage, InputError> {
    let input = binding.input();
    let mut request = Map::new();
    match &binding.body {
        BodyRule::None => {}
        BodyRule::Whole => request = object(parse(body)?)?,
        BodyRule::Field(field) => {
            request.insert(field.clone(), parse(body)?);
        }
    }
    for (name, text) in query {
        // cb-network's gateway reads no query beside a whole body, and passes over names it does not know.
        let head = name.split_once('.').map_or(name.as_str(), |(head, _)| head);
        let ignored = binding.body == BodyRule::Whole || field_of(&input, head).is_none();
        if binding.dialect == Dialect::Cbnet && ignored {
            continue;
        }
        if binding.body == BodyRule::Whole {
            return Err(InputError::new(name, format!("{name} cannot be a query parameter here; send it in the body")));
        }
        insert(&input, &mut request, name, name, text)?;
    }
    for (name, text) in path {
        let Some(field) = field_of(&input, name) else { continue };
        request.remove(field.json_name());
        request.insert(field.name().to_owned(), scalar(&field, name, text)?);
    }
    if binding.dialect == Dialect::Cladnet {
        known_fields_only(&input, &request, "")?;
    }
    deserialize(input, Value::Object(request), binding.dialect)
}

fn parse(body: &[u8]) -> Result<Value, InputError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    serde_json::from_slice(body).map_err(|error| InputError::new("", format!("the body is not JSON: {error}")))
}

fn object(value: Value) -> Result<Map<String, Value>, InputError> {
    match value {
        Value::Object(object) => Ok(object),
        _ => Err(InputError::new("", "the body must be a JSON object")),
    }
}

/// By its JSON name or its name in the `.proto` file; proto3 JSON accepts both.
fn field_of(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

/// Puts one query parameter where `name` (`field` or `outer.inner`) says; `full` is its whole name.
fn insert(
    message: &MessageDescriptor,
    object: &mut Map<String, Value>,
    full: &str,
    name: &str,
    text: &str,
) -> Result<(), InputError> {
    let (head, rest) = name.split_once('.').map_or((name, None), |(head, rest)| (head, Some(rest)));
    let field = field_of(message, head).ok_or_else(|| unknown(message, full, "query parameter"))?;
    let key = field.name().to_owned();
    match (rest, field.kind()) {
        (Some(rest), Kind::Message(inner)) if !field.is_list() && !field.is_map() => {
            let nested = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
            match nested {
                Value::Object(nested) => insert(&inner, nested, full, rest, text),
                _ => Err(InputError::new(full, format!("{full} is given both as a whole and by its parts"))),
            }
        }
        (Some(_), _) => Err(unknown(message, full, "query parameter")),
        (None, _) if field.is_map() => {
            Err(InputError::new(full, format!("{full} is a map, which a query parameter cannot carry")))
        }
        (None, _) if field.is_list() => {
            let value = scalar(&field, full, text)?;
            match object.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(values) => values.push(value),
                other => *other = Value::Array(vec![value]),
            }
            Ok(())
        }
        (None, _) => match object.insert(key, scalar(&field, full, text)?) {
            None => Ok(()),
            Some(_) => Err(InputError::new(full, format!("{full} is given more than once"))),
        },
    }
}

/// Text of a path or query as the JSON value that the field's kind wants; proto3 JSON takes numbers as strings.
fn scalar(field: &FieldDescriptor, name: &str, text: &str) -> Result<Value, InputError> {
    match field.kind() {
        Kind::Bool => match text {
            "true" | "1" => Ok(Value::Bool(true)),
            "false" | "0" => Ok(Value::Bool(false)),
            _ => Err(InputError::new(name, format!("{name}: {text:?} is neither true nor false"))),
        },
        Kind::Enum(kind) => {
            let number = text.parse::<i32>().ok().or_else(|| Some(kind.get_value_by_name(text)?.number()));
            match number.and_then(|number| kind.get_value(number)) {
                Some(value) => Ok(Value::from(value.number())),
                None => {
                    let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
                    Err(InputError::new(name, format!("{name}: {text:?} is none of {}", names.join(", "))))
                }
            }
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Refuses the first name that `message` does not have, however deep it stands.
fn known_fields_only(message: &MessageDescriptor, object: &Map<String, Value>, at: &str) -> Result<(), InputError> {
    for (name, value) in object {
        let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
        let field = field_of(message, name).ok_or_else(|| unknown(message, &path, "field"))?;
        let Kind::Message(inner) = field.kind() else { continue };
        if inner.full_name().starts_with("google.protobuf.") || field.is_map() {
            continue;
        }
        match value {
            Value::Object(nested) => known_fields_only(&inner, nested, &path)?,
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Object(nested) = item {
                        known_fields_only(&inner, nested, &format!("{path}[{index}]"))?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn unknown(message: &MessageDescriptor, path: &str, what: &str) -> InputError {
    let names: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
    let known = if names.is_empty() { "none is taken here".to_owned() } else { format!("known: {}", names.join(", ")) };
    InputError::new(path, format!("{path} is not a {what} of this request; {known}"))
}

fn deserialize(input: MessageDescriptor, request: Value, dialect: Dialect) -> Result<DynamicMessage, InputError> {
    let options = DeserializeOptions::new().deny_unknown_fields(dialect == Dialect::Cladnet);
    let mut track = serde_path_to_error::Track::new();
    let fields = input.clone();
    let tracked = serde_path_to_error::Deserializer::new(request, &mut track);
    DynamicMessage::deserialize_with_options(input, tracked, &options).map_err(|error| {
        let field = track.path().to_string();
        match field.as_str() {
            "." => InputError::new("", error.to_string()),
            _ => InputError::new(&field, format!("{field}: {}", wrong_type(&fields, &field, &error))),
        }
    })
}

/// What a field wants, if it is one whose own complaint says too little.
fn wrong_type(message: &MessageDescriptor, path: &str, error: &impl std::fmt::Display) -> String {
    let field = path.split('.').try_fold((message.clone(), None), |(message, _), part| {
        let field = field_of(&message, part.split('[').next().unwrap_or(part))?;
        let inner = field.kind().as_message().cloned().unwrap_or(message);
        Some((inner, Some(field)))
    });
    let wanted = match field.and_then(|(_, field)| field).map(|field| field.kind()) {
        Some(Kind::Int32 | Kind::Int64 | Kind::Sint32 | Kind::Sint64 | Kind::Sfixed32 | Kind::Sfixed64) => {
            "a whole number"
        }
        Some(Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64) => "a whole number that is not negative",
        Some(Kind::Float | Kind::Double) => "a number",
        Some(Kind::Enum(kind)) => {
            let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
            return format!("wants one of {}: {error}", names.join(", "));
        }
        Some(Kind::Message(inner)) if inner.full_name() == "google.protobuf.Duration" => "seconds such as \"3.5s\"",
        Some(Kind::Message(inner)) if inner.full_name() == "google.protobuf.Timestamp" => {
            "a moment such as \"2030-01-31T12:00:00Z\""
        }
        _ => return error.to_string(),
    };
    format!("wants {wanted}: {error}")
}

#[cfg(test)]
mod tests {
    use proptest::strategy::Strategy as _;
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::rest::binding::bindings;

    fn binding(rpc: &str) -> Binding {
        let pool = DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("our own descriptors");
        bindings(&pool).into_iter().find(|binding| binding.rpc.name() == rpc).expect("has a route")
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn json(message: &DynamicMessage) -> Value {
        serde_json::to_value(message).expect("serializes")
    }

    #[test]
    fn path_query_and_body_fill_the_request() {
        let request = read(&binding("ListPeers"), &pairs(&[("network_id", "prod")]), &pairs(&[("pageSize", "7")]), b"")
            .expect("reads");
        assert_eq!(json(&request), serde_json::json!({"networkId": "prod", "pageSize": 7}));
        let request =
            read(&binding("UpdateHostLocation"), &pairs(&[("host_id", "a")]), &[], br#"{"region": "r"}"#).expect("ok");
        assert_eq!(json(&request), serde_json::json!({"hostId": "a", "location": {"region": "r"}}));
        let request =
            read(&binding("DeleteNetwork"), &pairs(&[("network_id", "a")]), &pairs(&[("force", "true")]), b"")
                .expect("reads");
        assert_eq!(json(&request), serde_json::json!({"networkId": "a", "force": true}));
    }

    #[test]
    fn the_path_wins_over_the_body() {
        let body = br#"{"cladnetId": "other", "name": "n"}"#;
        let request = read(&binding("updateCLADNet"), &pairs(&[("cladnet_id", "mine")]), &[], body).expect("reads");
        assert_eq!(json(&request), serde_json::json!({"cladnetId": "mine", "name": "n"}));
    }

    #[test]
    fn an_enum_in_a_path_is_a_name_or_a_number() {
        for text in ["DISABLE_ENCRYPTION", "4"] {
            let path = pairs(&[("cladnet_id", "a"), ("command_type", text)]);
            let request = read(&binding("controlCloudAdaptiveNetwork"), &path, &[], b"").expect("reads");
            assert_eq!(json(&request)["commandType"], "DISABLE_ENCRYPTION");
        }
        let path = pairs(&[("cladnet_id", "a"), ("command_type", "SUSPEND")]);
        let error = read(&binding("controlCloudAdaptiveNetwork"), &path, &[], b"").expect_err("no such command");
        assert_eq!(error.field, "command_type");
        assert!(error.detail.contains("UP, DOWN, ENABLE_ENCRYPTION, DISABLE_ENCRYPTION"), "{error}");
    }

    #[test]
    fn an_unknown_field_is_refused_by_name_in_our_dialect_and_ignored_in_cb_networks() {
        let error = read(&binding("CreateNetwork"), &[], &[], br#"{"nane": "x"}"#).expect_err("unknown");
        assert_eq!(error.field, "nane");
        let error = read(&binding("ListPeers"), &pairs(&[("network_id", "a")]), &pairs(&[("page", "7")]), b"")
            .expect_err("unknown");
        assert_eq!(error.field, "page");
        assert!(read(&binding("createCLADNet"), &[], &[], br#"{"nane": "x"}"#).is_ok());
    }

    #[test]
    fn a_wrong_type_is_refused_by_name() {
        let error = read(&binding("CreateNetwork"), &[], &[], br#"{"expectedHosts": "many"}"#).expect_err("no number");
        assert_eq!(error.field, "expectedHosts");
        let body = br#"{"command": "SUSPEND"}"#;
        let error = read(&binding("ControlPeers"), &pairs(&[("network_id", "a")]), &[], body).expect_err("no command");
        assert_eq!(error.field, "command");
        assert!(error.detail.contains("COMMAND_UP"), "{error}");
        let error = read(&binding("CreateNetwork"), &[], &[], br#"{"name": 3}"#).expect_err("no text");
        assert_eq!(error.field, "name");
        let error = read(&binding("CreateNetwork"), &[], &[], b"[1]").expect_err("no object");
        assert_eq!(error.field, "");
        let error = read(&binding("CreateNetwork"), &[], &[], b"{").expect_err("no JSON");
        assert!(error.detail.contains("not JSON"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_anybody_sends_panics(
            which in 0..64_usize,
            path in "\\PC{0,20}",
            name in "[a-zA-Z_.]{0,20}",
            value in "\\PC{0,20}",
            body in proptest::prelude::prop_oneof![
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64),
                r#"\{"(networkId|labels|ttl|command|location|avoid|uses)": ("[a-z0-9.-]{0,5}"|-?[0-9]{1,20}|\{\}|\[null\]|null|true)\}"#
                    .prop_map(String::into_bytes),
            ],
        ) {
            static BINDINGS: std::sync::LazyLock<Vec<Binding>> = std::sync::LazyLock::new(|| {
                bindings(&DescriptorPool::decode(cladnet_proto::DESCRIPTORS).expect("our own descriptors"))
            });
            let bindings = &*BINDINGS;
            let binding = &bindings[which % bindings.len()];
            let fields: Vec<_> = binding.path_fields().iter().map(|field| ((*field).to_owned(), path.clone())).collect();
            let _ = read(binding, &fields, &[(name, value)], &body);
        }
    }
}
