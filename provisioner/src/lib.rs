//! Agents onto machines, over SSH: any replica claims a deployment of the store and works on its machines until each is
//! done or has failed. It has no listener and decides nothing that the service should: networks, tokens, peers and cloud
//! locations go through `cladnet.v1` only.

mod api;
mod binary;
mod control_plane;
mod fail_point;
mod failed;
mod remote;
mod script;
mod steps;
mod worker;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use cladnet_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

pub use api::{NoApiKey, ServiceAccess};
pub use control_plane::ControlPlane;
pub use fail_point::FailPoint;
pub use remote::{AddressError, AddressRule};

/// A replica that died is followed by another after this; one that is only slow has 6 s to renew.
pub const LEASE: Duration = Duration::from_secs(10);

/// What a provisioner works with.
#[derive(Clone)]
pub struct Config {
    /// With the sealing key: private keys of machines are sealed in it.
    pub store: Store,
    /// `cladnet.v1`, as a provisioner.
    pub service: ServiceAccess,
    /// URLs under which machines reach the service, `https://HOST:PORT`; they are told to agents.
    pub service_urls: Vec<String>,
    /// Which addresses may be connected to; in production [`ControlPlane`].
    pub addresses: Arc<dyn AddressRule>,
    /// Where the agents are: `cladnet-agent` for this architecture, `cladnet-agent-<arch>` for others. None: beside the
    /// running program.
    pub agent_dir: Option<PathBuf>,
    /// How long the claims of a replica that died last; [`LEASE`], unless a test is in a hurry.
    pub lease: Duration,
    /// For tests: where to die.
    pub fail_point: Option<FailPoint>,
}

/// Why a provisioner ended without having been told to.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionerError {
    #[error("find the directory of the running program; give --agent-dir")]
    AgentDirectory(#[source] io::Error),
    #[error("the store")]
    Store(#[from] StoreError),
}

/// Works on deployments until told to stop. What is begun then stays as it is; another replica, or the next start, goes
/// on with it.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), ProvisionerError> {
    worker::run(config, shutdown).await
}
