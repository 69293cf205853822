//! The whole system, as its users meet it: real binaries on the clouds of the sandbox. One binary, one module per subject.

mod arrows;
mod clouds;
mod membership;
mod plain;
mod reachability;
mod resilience;
