//! The static tunnel against Debian's `wireguard-go` and against itself: two namespaces, real packets. Needs root.

#![expect(clippy::unwrap_used, reason = "helpers of tests may just fail")]

mod errors;
mod hosts;
mod lab;
mod reach;
mod rekey;
mod survive;
mod transfer;
