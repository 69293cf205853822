//! How a record becomes bytes: JSON with a format version `v`, and the write `w` it came from.
//!
//! The write's id makes the bytes of every write unique, so that a writer that got no answer can read back and tell
//! its own write from an equal one of somebody else.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// The one format so far. A new field with a default needs no new format; a new meaning does.
const FORMAT: u64 = 1;

/// Why a stored value is not the record it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not a JSON object at all, or without a `v`.
    #[error("not a record of cladnet: {0}")]
    Foreign(String),
    /// Written by a release that came after this one.
    #[error("written in format {found}, this release reads {FORMAT}: run the newer release")]
    Newer { found: u64 },
    /// The fields do not fit.
    #[error("fields do not fit: {0}")]
    Fields(String),
}

/// What can be read from under a key or a prefix.
pub trait Record: Sized + Send + 'static {
    /// Reads the value found at `path`.
    fn decode(path: &str, bytes: &[u8]) -> Result<Self, DecodeError>;
}

impl<T: DeserializeOwned + Send + 'static> Record for T {
    fn decode(_path: &str, bytes: &[u8]) -> Result<Self, DecodeError> {
        let fields = open(bytes)?;
        serde_json::from_value(Value::Object(fields)).map_err(|error| DecodeError::Fields(error.to_string()))
    }
}

fn open(bytes: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    let mut fields: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| DecodeError::Foreign(error.to_string()))?;
    match fields.remove("v").as_ref().and_then(Value::as_u64) {
        Some(FORMAT) => {}
        Some(found) if found > FORMAT => return Err(DecodeError::Newer { found }),
        _ => return Err(DecodeError::Foreign("no usable `v`".to_owned())),
    }
    fields.remove("w");
    Ok(fields)
}

/// Encodes a record; the error says why it cannot be one.
pub(crate) fn encode<T: Serialize>(record: &T, write: &WriteId) -> Result<Vec<u8>, String> {
    let Value::Object(mut fields) = serde_json::to_value(record).map_err(|error| error.to_string())? else {
        return Err("a record is a struct with named fields".to_owned());
    };
    for (name, value) in [("v", Value::from(FORMAT)), ("w", Value::from(write.0.as_str()))] {
        if fields.insert(name.to_owned(), value).is_some() {
            return Err(format!("field `{name}` is reserved"));
        }
    }
    serde_json::to_vec(&fields).map_err(|error| error.to_string())
}

/// Names one write attempt of one process.
pub(crate) struct WriteId(String);

impl WriteId {
    pub(crate) fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Sample {
        name: String,
    }

    #[test]
    fn a_record_comes_back_and_its_bytes_carry_format_and_write() {
        let record = Sample { name: "a".into() };
        let bytes = encode(&record, &WriteId("77".into())).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), r#"{"name":"a","v":1,"w":"77"}"#);
        assert_eq!(Sample::decode("/k", &bytes), Ok(record));
    }

    #[test]
    fn foreign_newer_and_misfit_values_are_told_apart() {
        assert!(matches!(Sample::decode("/k", b"\xff\x00"), Err(DecodeError::Foreign(_))));
        assert!(matches!(Sample::decode("/k", br#"{"name":"a"}"#), Err(DecodeError::Foreign(_))));
        assert_eq!(Sample::decode("/k", br#"{"v":2,"name":"a"}"#), Err(DecodeError::Newer { found: 2 }));
        assert!(matches!(Sample::decode("/k", br#"{"v":1,"name":7}"#), Err(DecodeError::Fields(_))));
    }

    #[test]
    fn only_structs_with_unreserved_fields_are_records() {
        assert!(encode(&"text", &WriteId::random()).is_err());
        assert!(encode(&std::collections::BTreeMap::from([("v", 1)]), &WriteId::random()).is_err());
    }
}
