//! Waiting for a condition, with a deadline that says what it waited for. Nothing here sleeps blindly.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Looks at `condition` until it gives a value; after `deadline` tells what it waited for and why it was not so.
pub fn eventually<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(reason) if start.elapsed() >= deadline => {
                bail!("waited {deadline:?} for {what}: {reason:#}")
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}
