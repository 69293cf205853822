//! The domain of cladnet: ids, networks, hosts, memberships, peers, and everything that can be decided about them.
//! Nothing here does I/O, reads a clock, draws randomness or knows a generated type; time and random bytes are
//! parameters.

pub mod access;
pub mod advise;
pub mod bill;
pub mod command;
pub mod connectivity;
mod credential;
pub mod deployment;
pub mod digest;
pub mod endpoint;
pub mod event;
pub mod host;
pub mod id;
pub mod location;
pub mod marks;
pub mod membership;
pub mod network;
pub mod path;
pub mod peer;
pub mod plan;
pub mod region;
pub mod round_trip;
pub mod rule;
mod secret;
pub mod session;
pub mod space;
pub mod tariff;
pub mod terms;
pub mod token;
pub mod usage;
pub mod validate;
pub mod word;

pub use access::{Action, ApiKey, ApiKeyText, Role};
pub use command::{CommandRecord, CommandState};
pub use connectivity::{ConnectivityResult, ConnectivityRun};
pub use credential::{CredentialError, CredentialKind};
pub use deployment::{Deployment, DeploymentHost, DeploymentProgress};
pub use digest::SetDigest;
pub use event::Event;
pub use host::{Cluster, Endpoint, EndpointSource, Host, HostFacts, Presence, Scope};
pub use id::{
    CommandId, DeploymentId, EventId, HostId, IdError, KeyId, MachineName, NetworkId, RuleId, RunId, TokenId,
};
pub use location::{CloudLocation, Located, LocationSource};
pub use membership::{DesiredState, Labels, Membership, MembershipStatus, PeerState};
pub use network::{EncryptionPolicy, Misfit, Network, NetworkDraft, NetworkSettings, NetworkUpdate, RuleType};
pub use peer::{Allocation, Hold, Peer, PublicKey, PublicKeyOwner};
pub use plan::{Plan, QUARANTINE, Step, end_of_quarantine};
pub use round_trip::RoundTrips;
pub use secret::{SECRET_BYTES, Secret};
pub use session::{Session, SessionId, SessionSecret};
pub use space::AddressSpaceError;
pub use terms::{KeyTerms, TokenTerms};
pub use token::{CA_HASH_BYTES, JoinToken, Token, TokenState};
pub use usage::{Exchanged, HostUsage, Place, UsageCursor, UsageRow};
pub use validate::{Invalid, InvalidInput};
pub use word::UnknownWord;
