//! The control socket: how `cladnet-agent`'s subcommands ask the daemon, one JSON line each way per connection.
//! Root only: the directory is 0700 and the caller's credentials are checked besides.

pub(crate) mod client;
pub(crate) mod protocol;
pub(crate) mod server;

pub(crate) use protocol::{Reply, Request, Response};

/// Longest line either side accepts; a status of 1,000 peers fits many times over.
const MAX_LINE: usize = 16 << 20;
