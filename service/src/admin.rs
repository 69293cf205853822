//! `cladnet.v1` for administrators: requests are checked and become operations on the store, records become answers.

mod cost;
mod deployment;
mod event;
mod host;
mod key;
mod network;
mod path;
mod peer;
mod rule;
mod stream;
mod system;
mod tariff;
mod test;
mod token;

use std::sync::Arc;

use cladnet_model::{Labels, NetworkId, validate::Checks};
use cladnet_proto::convert;

pub(crate) use stream::STREAMS;

use crate::{Service, error::CallError};

/// Implements every administrators' service.
#[derive(Clone)]
pub(crate) struct Admin(pub(crate) Arc<Service>);

/// Reads the id of a network that may be left out.
fn optional_network(text: &str) -> Result<Option<NetworkId>, CallError> {
    Ok(convert::optional("network_id", text)?)
}

/// Checks labels as a whole.
fn checked_labels(labels: Labels) -> Result<Labels, CallError> {
    let mut checks = Checks::default();
    checks.labels("labels", &labels);
    checks.finish()?;
    Ok(labels)
}
