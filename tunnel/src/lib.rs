//! The WireGuard device, without the machine: handshakes, sealing and opening, allowed IPs, peers, discards.
//!
//! Pure: no socket, no TUN, no clock, no async. Bytes, `now` and randomness come in, bytes go out through an [`Outbox`];
//! `agent::device` stands around it. The one stated exception is `engine::boringtun`, whose library reads the clock and
//! draws keys itself.

mod allowed_ips;
mod clear;
mod codel;
mod config;
mod datapath;
mod discard;
mod engine;
mod filter;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod index;
mod interface;
mod key;
mod message;
mod mtu;
pub mod offload;
mod packet;
mod peer;
mod probe;
mod sources;
mod train;
mod tunnel;
mod volume;

pub use allowed_ips::AllowedIps;
pub use clear::{Obstacle, Transport};
pub use codel::CoDel;
pub use config::{ConfigError, InterfaceConfig, PeerConfig, Roaming};
pub use discard::{Discard, DiscardCounts};
pub use engine::Implementation;
pub use filter::{Access, AccessRule, Action, Traffic};
pub use host::Epoch;
pub use index::{LANE_AT, LANES, QUEUES, queue};
pub use interface::{Applied, InterfaceId, MAX_INTERFACES};
pub use key::{KeyError, PresharedKey, PrivateKey, PublicKey};
pub use peer::{Activity, PeerStats, Sighting};
pub use probe::{PROBE_LEN, ProbeRequest, Proof, Urgency};
pub use train::{Delivery, MAX_TRAIN, ReceivedTrain, Train};
pub use tunnel::{BUFFER_SIZE, Outbox, TICK, Tunnel};
pub use volume::{Scope, Tally, Volume};

/// False in a build that measures what everything but encryption costs.
pub const ENCRYPTS: bool = !cfg!(feature = "null-aead");
