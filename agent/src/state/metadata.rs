//! What the metadata service said, so that a restarted agent does not take back what its peers know until it is said
//! again.

use serde::{Deserialize, Serialize};

use super::file::Document;
use crate::facts::metadata::Instance;

/// An answer and whom it was about.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remembered {
    pub(super) machine_id: String,
    pub(super) instance: Instance,
}

impl Document for Remembered {
    const FORMAT: &'static str = "cladnet-agent metadata";
    const VERSION: u32 = 1;
}
