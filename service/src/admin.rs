//! `cladnet.v1` for administrators: requests become operations on the store, records become answers.

mod system;

use std::sync::Arc;

use crate::Service;

/// Implements every administrators' service.
#[derive(Clone)]
pub(crate) struct Admin(pub(crate) Arc<Service>);
