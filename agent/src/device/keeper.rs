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

use super::mtu::Mtus;
use super::shared::Shared;
use super::{DeviceError, InterfaceConfig, Running, open_tun, set_up, threads};
use crate::netlink::{Monitor, Netlink, NetlinkError};
use crate::tun::Tun;

/// Between attempts: whoever deleted the interface may be about to take its name.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A reader's last word: this device is gone. Each of its readers says it.
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
        let mut interfaces = self.interfaces.lock().await;
        for Running { config, mtus, .. } in interfaces.values_mut() {
            let (name, address, mtu) = (&config.name, config.address, mtus.link(config));
            match self.netlink.is_configured(name, address, mtu).await {
                Ok(true) => {
                    self.check_routes(config, mtus).await;
                    continue;
                }
                Ok(false) => info!(interface = name, "interface was changed, setting it up again"),
                Err(error) => {
                    warn!(interface = name, error = &error as &dyn Error, "cannot look at an interface");
                    continue;
                }
            }
            mtus.forget();
            match self.netlink.configure(name, address, config.mtu).await {
                Ok(()) | Err(NetlinkError::NoInterface(_)) => {}
                Err(error) => warn!(interface = name, error = &error as &dyn Error, "cannot set up an interface again"),
            }
        }
    }

    /// An interface that went down and up again has lost its routes.
    async fn check_routes(&self, config: &InterfaceConfig, mtus: &mut Mtus) {
        if !mtus.is_told() {
            return;
        }
        match self.netlink.routes().await {
            Ok(routes) if mtus.are_in(config, &routes) => {}
            Ok(_) => {
                info!(interface = config.name, "routes were changed, setting them up again");
                mtus.withdraw(&self.netlink, config).await;
            }
            Err(error) => warn!(interface = config.name, error = &error as &dyn Error, "cannot look at routes"),
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
        let mut interfaces = self.interfaces.lock().await;
        let wanted = interfaces.values_mut().find(|running| running.id == report.id);
        let Some(Running { config, mtus, .. }) = wanted.filter(|_| self.shared.is_attached(report.id, &report.tun))
        else {
            return Ok(());
        };
        warn!(interface = config.name, "interface was deleted, putting it back");
        mtus.forget();
        let tun = Arc::new(open_tun(&self.netlink, &config.name, self.shared.offload_policy).await?);
        set_up(&self.netlink, config).await?;
        threads::read_tun(&self.shared, report.id, &config.name, &tun, &self.lost).map_err(DeviceError::Thread)
    }
}
