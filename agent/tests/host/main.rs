//! The parts of the agent that touch the machine, each test in a network namespace of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "helpers of tests may just fail")]

mod device;
mod namespace;
mod netlink;
