//! Bytes that the service has not counted yet, one file a day. Its former generation is never used: it may hold what was
//! counted since.

use super::file::Document;
use crate::usage::Day;

impl Document for Day {
    const FORMAT: &'static str = "cladnet-agent usage";
    const VERSION: u32 = 1;
}
