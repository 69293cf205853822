//! Keys and prefixes. They are made only here, so that no caller spells a path and every prefix ends in `/`:
//! a network whose id begins another's never meets the other's records.

mod any;
mod registry;

use std::{fmt, marker::PhantomData};

use crate::AnyRecord;

pub use any::AnyKey;
pub use registry::*;

/// Under this stands everything of cladnet, whatever else shares the cluster.
pub(crate) const ROOT: &str = "/cladnet/v1/";

/// Where one record of type `T` is kept.
pub struct Key<T> {
    path: String,
    record: PhantomData<fn() -> T>,
}

/// Where records of type `T` are kept side by side. Always ends in `/`.
pub struct Prefix<T> {
    path: String,
    record: PhantomData<fn() -> T>,
}

macro_rules! path_like {
    ($name:ident) => {
        impl<T> $name<T> {
            pub(crate) fn at(path: impl Into<String>) -> Self {
                Self { path: path.into(), record: PhantomData }
            }

            /// The raw key, for logs and digests.
            pub fn path(&self) -> &str {
                &self.path
            }
        }

        // Derived impls would ask the same of `T`, which a key does not hold.
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                Self::at(self.path.clone())
            }
        }

        impl<T> PartialEq for $name<T> {
            fn eq(&self, other: &Self) -> bool {
                self.path == other.path
            }
        }

        impl<T> Eq for $name<T> {}

        impl<T> PartialOrd for $name<T> {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl<T> Ord for $name<T> {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.path.cmp(&other.path)
            }
        }

        impl<T> std::hash::Hash for $name<T> {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.path.hash(state);
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.path)
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.path)
            }
        }
    };
}

path_like!(Key);
path_like!(Prefix);

impl<T> Key<T> {
    /// The same key, of a record of any kind: as a watch over everything has it.
    pub fn erased(&self) -> Key<AnyRecord> {
        Key::at(self.path.clone())
    }

    /// What the key names.
    pub fn parse(&self) -> AnyKey {
        AnyKey::parse(&self.path)
    }
}

impl<T> Prefix<T> {
    /// The same prefix, of records of any kind.
    pub fn erased(&self) -> Prefix<AnyRecord> {
        Prefix::at(self.path.clone())
    }
}
