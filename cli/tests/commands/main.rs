//! The binary `cladnet` as people and scripts use it: a real server on an embedded store, real arguments, real exit
//! codes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod advice;
mod connection;
mod deployments;
mod etcd;
mod first_start;
mod following;
mod harness;
mod keys;
mod networks;
mod page;
mod peers;
mod roles;
mod runs;
mod terminal;
mod tokens;
