//! The typed store: records under typed keys, compare-and-swap, transactions, watches that heal themselves, leases,
//! elections with fencing, sealed secrets. Two engines behind one [`Store`]: an etcd cluster, or one file in a data
//! directory. Knows how records are kept, never what they mean: business rules live in `model`, `service`, `controller`.
//!
//! ```
//! # async fn example(dir: &std::path::Path) -> Result<(), cladnet_store::StoreError> {
//! use cladnet_store::{EmbeddedOptions, Store, key};
//!
//! let store = Store::open_embedded(EmbeddedOptions::new(dir)).await?;
//! for membership in store.list(&key::memberships(&"prod".parse().expect("an id"))).await?.items {
//!     println!("{} since {}", membership.value.host, membership.created);
//! }
//! let mut changes = store.follow(&key::everything());
//! let first = changes.next().await; // the whole state, then only what changed
//! # Ok(()) }
//! ```

mod codec;
mod election;
mod error;
mod follow;
pub mod key;
mod lease;
mod raw;
mod record;
mod seal;
mod store;
mod transaction;
mod value;
mod watch;

mod embedded;
mod engine;
mod etcd;

pub use codec::{DecodeError, Record};
pub use election::{Fence, Leadership};
pub use embedded::EmbeddedOptions;
pub use error::StoreError;
pub use etcd::{EtcdOptions, EtcdTls, Password};
pub use follow::{Follow, Update};
pub use key::{AnyKey, Key, Prefix};
pub use lease::Lease;
pub use record::AnyRecord;
pub use seal::{Sealed, SealingKey};
pub use store::Store;
pub use transaction::Transaction;
pub use value::{Listing, Revision, Undecodable, Versioned};
pub use watch::{Batch, Change, Watch};
