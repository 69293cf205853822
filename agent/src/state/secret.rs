//! How secret keys are written into state files, and nowhere else.

use cladnet_tunnel::PrivateKey;
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use zeroize::Zeroizing;

/// For `#[serde(with = "…")]` on a WireGuard private key: base64.
pub(super) mod wireguard_key {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(key: &PrivateKey, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key.reveal())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PrivateKey, D::Error> {
        Zeroizing::new(String::deserialize(deserializer)?).parse().map_err(D::Error::custom)
    }
}

/// For `#[serde(with = "…")]` on bytes that would be long as a list of numbers: base64.
pub(super) mod base64_bytes {
    use base64::{Engine as _, prelude::BASE64_STANDARD};

    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        BASE64_STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
