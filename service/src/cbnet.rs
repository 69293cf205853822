//! `cbnet.v1`, cb-network's interface, on the functions of ours. What its callers rely on is kept: names, shapes,
//! NOT_FOUND for an empty list, `basic` for an empty rule type, a GET that commands. What was wrong is not: fields are
//! checked, deletion deletes, commands wait for what they caused.

mod network;
mod system;
mod test;
mod wire;

use std::sync::Arc;

use crate::{Service, error::CallError};

/// Implements both services.
#[derive(Clone)]
pub(crate) struct Cbnet(pub(crate) Arc<Service>);

/// A refusal with the names that this interface has for the fields.
fn renamed(mut error: CallError) -> CallError {
    for error in error.fields().iter_mut().filter(|error| error.field == "network_id") {
        error.field = "cladnet_id".to_owned();
    }
    error
}
