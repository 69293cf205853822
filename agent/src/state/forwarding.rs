//! Where the agent turned forwarding on. The former generation is never used: it may hold what somebody else has turned on
//! since.

use super::file::Document;
use crate::forwarding::TurnedOn;

impl Document for TurnedOn {
    const FORMAT: &'static str = "cladnet-agent forwarding";
    const VERSION: u32 = 1;
}
