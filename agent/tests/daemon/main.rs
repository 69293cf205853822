//! The real `cladnet-agent` on a machine without any service: how it starts, what it refuses, and what it says. Needs
//! root and a network namespace of its own per test. What takes a service is told by the stories of `tests`.

#![expect(clippy::unwrap_used, reason = "helpers of tests may just fail")]

mod machine;
mod refusals;
mod state;
