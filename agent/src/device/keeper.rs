//! Keeps the interfaces as they were configured, whoever deletes them, takes their addresses or brings them down. Peers
//! and sessions live in the tunnel and notice nothing but the gap.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cladnet_tunnel::InterfaceId;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::shared::Shared;
use super::{DeviceError, Running, set_up, threads};
use crate::netlink::{Monitor, Netlink, NetlinkError};
use crate::tun::Tun;

/// Between attempts: whoever deleted the interface may be about to take its name.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A reader's last word: this device is gone.
pub(super) struct Lost {
    pub(super) id: InterfaceId,
    pub(super) tun: Arc<Tun>,
}

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) netlink: Netlink,
    pub(super) interfaces: Arc<Mutex<BTreeMap<String, Running>>>,
    /// For the readers that it starts.
    pub(super) lost: mpsc::Sender<Lost>,
}

impl Keeper {
    pub(super) async fn run(self, mut reports: mpsc::Receiver<Lost>, mut monitor: Monitor) {
        loop {
            tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => self.restore_until_done(&report).await,
                    None => return,
                },
                // Should the kernel end the stream, deleted devices are still reported by their readers.
                true = monitor.settled() => self.repair().await,
            }
        }
    }

    /// Gives interfaces back what they should have. One that is gone is its reader's to report.
    async fn repair(&self) {
        let interfaces = self.interfaces.lock().await;
        for Running { config, .. } in interfaces.values() {
            let (name, address, mtu) = (&config.name, config.address, config.mtu);
            match self.netlink.is_configured(name, address, mtu).await {
                Ok(true) => continue,
                Ok(false) => info!(interface = name, "interface was changed, setting it up again"),
                Err(error) => {
                    warn!(interface = name, error = &error as &dyn Error, "cannot look at an interface");
                    continue;
                }
            }
            match self.netlink.configure(name, address, mtu).await {
                Ok(()) | Err(NetlinkError::NoInterface(_)) => {}
                Err(error) => warn!(interface = name, error = &error as &dyn Error, "cannot set up an interface again"),
            }
        }
    }

    async fn restore_until_done(&self, report: &Lost) {
        while let Err(error) = self.restore(report).await {
            error!(error = &error as &dyn Error, "cannot put a deleted interface back");
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Does nothing if the interface was taken down on purpose.
    async fn restore(&self, report: &Lost) -> Result<(), DeviceError> {
        let interfaces = self.interfaces.lock().await;
        let wanted = interfaces.values().find(|running| running.id == report.id);
        let Some(Running { config, .. }) = wanted.filter(|_| self.shared.is_attached(report.id, &report.tun)) else {
            return Ok(());
        };
        warn!(interface = config.name, "interface was deleted, putting it back");
        let tun = Arc::new(Tun::open(&config.name, self.shared.offload_policy)?);
        set_up(&self.netlink, config).await?;
        threads::read_tun(&self.shared, report.id, &config.name, tun, self.lost.clone()).map_err(DeviceError::Thread)
    }
}
