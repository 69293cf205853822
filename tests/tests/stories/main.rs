//! The whole system, as its users meet it: real binaries on the clouds of the sandbox. One binary, one module per subject.

mod advertise;
mod arrows;
mod bad_input;
mod bill;
mod browser;
mod clouds;
mod deployment;
mod diagnosis;
mod encryption;
mod membership;
mod path_rules;
mod paths;
mod plain;
mod prices;
mod reachability;
mod resilience;
mod rules;
