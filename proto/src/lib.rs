//! The wire: generated types of `cbnet.v1` and `cladnet.v1`, their descriptors, conversions to and from `model`, and which
//! failures pass. No behaviour lives here.

pub mod convert;
mod passing;

pub use passing::is_passing;

/// cb-network's interface, kept for its callers.
#[expect(unused_qualifications, clippy::allow_attributes, reason = "generated")]
pub mod cbnet {
    pub mod v1 {
        tonic::include_proto!("cbnet.v1");
    }
}

/// The interface of admins and agents.
#[expect(unused_qualifications, clippy::allow_attributes, reason = "generated")]
pub mod cladnet {
    pub mod v1 {
        tonic::include_proto!("cladnet.v1");
    }
}

/// Every descriptor with its comments, for server reflection, REST transcoding and the OpenAPI document.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
