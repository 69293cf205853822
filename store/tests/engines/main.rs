//! The store's tests over its public interface, on both engines; the etcd is a real one, started here.

mod conformance;
mod directory;
mod support;
