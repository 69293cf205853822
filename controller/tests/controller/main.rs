//! The controller over real stores: what becomes of memberships, and who leads.

#![expect(clippy::unwrap_used, reason = "all of this is tests, though clippy only knows functions marked as such")]

#[expect(dead_code, reason = "shared with the store's tests, which need more of it")]
#[path = "../../../store/tests/engines/support/etcd.rs"]
mod etcd;
mod stories;
mod support;
