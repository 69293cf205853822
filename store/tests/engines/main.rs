//! The store's tests over its public interface, on both engines; the etcd is a real one, started here.

#![expect(clippy::unwrap_used, reason = "all of this is tests, though clippy only knows functions marked as such")]

mod conformance;
mod crash;
mod directory;
mod faults;
mod histories;
mod secured;
mod support;
