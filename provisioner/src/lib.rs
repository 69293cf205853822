//! Agents onto machines, over SSH: any replica claims a deployment of the store and works on its machines until each is
//! done or has failed. It has no listener and decides nothing that the service should: networks, tokens, peers and cloud
//! locations go through `cladnet.v1` only.

#![expect(dead_code, unused_imports, reason = "the steps that use it come next")]

mod remote;

pub use remote::AddressRule;
