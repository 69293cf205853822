//! The static tunnel and the plain interface against Debian's `wireguard-go` and against themselves: two namespaces,
//! real packets. Needs root.

#![expect(clippy::unwrap_used, reason = "helpers of tests may just fail")]

mod errors;
mod fairness;
mod hosts;
mod lab;
mod mtu;
mod narrow;
mod plain;
mod reach;
mod rekey;
mod survive;
mod transfer;
