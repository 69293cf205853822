//! Sparing the control plane: machines are other machines than those it runs on. Its names are resolved when a deployment
//! asks, and what cannot be resolved lets nothing through.

use std::{net::IpAddr, time::Duration};

use cladnet_model::deployment::{AddressPolicy, Via};
use futures_util::future::{BoxFuture, try_join_all};
use tokio::{
    net::lookup_host,
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::remote::{AddressError, AddressRule};

/// Many machines of a deployment ask at once; a name that moves is followed soon.
const FRESH: Duration = Duration::from_secs(60);
/// A name server that does not answer is asked twice by the resolver in this time.
const RESOLVE: Duration = Duration::from_secs(10);

/// The rule of production: [`AddressPolicy`] with the control plane's own addresses as they are now.
pub struct ControlPlane {
    hosts: Vec<String>,
    own: fn() -> Vec<IpAddr>,
    resolved: Mutex<Option<Resolved>>,
}

/// What came of the last look, good or bad: a name server that is silent would be waited for by machine after machine.
struct Resolved {
    at: Instant,
    addresses: Result<Vec<IpAddr>, Unresolved>,
}

/// A host of the control plane that has no address now.
#[derive(Clone)]
struct Unresolved {
    name: String,
    reason: String,
}

impl ControlPlane {
    /// `hosts` are names or addresses of the control plane, as seen from here or from outside; `own` tells the addresses of
    /// this very machine.
    pub fn new(hosts: impl IntoIterator<Item = String>, own: fn() -> Vec<IpAddr>) -> Self {
        Self { hosts: hosts.into_iter().collect(), own, resolved: Mutex::default() }
    }

    async fn addresses(&self) -> Result<Vec<IpAddr>, Unresolved> {
        let mut known = self.resolved.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.at.elapsed() < FRESH) {
            return known.addresses.clone();
        }
        let addresses = try_join_all(self.hosts.iter().map(|host| resolve(host))).await.map(|each| each.concat());
        *known = Some(Resolved { at: Instant::now(), addresses: addresses.clone() });
        addresses
    }
}

impl AddressRule for ControlPlane {
    fn check(&self, address: IpAddr, via: Via) -> BoxFuture<'_, Result<(), AddressError>> {
        Box::pin(async move {
            // What is refused anyway needs no name server.
            AddressPolicy::default().check(address, via)?;
            let elsewhere = self.addresses().await;
            let elsewhere =
                elsewhere.map_err(|Unresolved { name, reason }| AddressError::Unresolved { address, name, reason })?;
            Ok(AddressPolicy::new((self.own)().into_iter().chain(elsewhere)).check(address, via)?)
        })
    }
}

async fn resolve(host: &str) -> Result<Vec<IpAddr>, Unresolved> {
    let reason = match timeout(RESOLVE, lookup_host((host, 0))).await {
        Ok(Ok(found)) => return Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the name servers do not answer".to_owned(),
    };
    Err(Unresolved { name: host.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    use cladnet_model::deployment::AddressRefused;

    fn own() -> Vec<IpAddr> {
        vec!["192.0.2.1".parse().unwrap()]
    }

    async fn check(hosts: &[&str], address: &str, via: Via) -> Result<(), AddressError> {
        let plane = ControlPlane::new(hosts.iter().map(ToString::to_string), own);
        plane.check(address.parse().unwrap(), via).await
    }

    #[tokio::test]
    async fn what_the_control_plane_is_known_by_is_no_machine() {
        let hosts = ["203.0.113.7", "2001:db8::7", "10.0.0.7"];
        for address in ["192.0.2.1", "203.0.113.7", "2001:db8::7", "::ffff:203.0.113.7", "10.0.0.7"] {
            let refused = check(&hosts, address, Via::Direct).await;
            assert!(
                matches!(refused, Err(AddressError::Refused(AddressRefused::ControlPlane(_)))),
                "{address}: {refused:?}"
            );
        }
        assert!(check(&hosts, "203.0.113.7", Via::Bastion).await.is_err(), "a public address is the same everywhere");
        assert_eq!(check(&hosts, "10.0.0.7", Via::Bastion).await, Ok(()), "a private one is not");
        assert_eq!(check(&hosts, "203.0.113.8", Via::Direct).await, Ok(()));
    }

    #[tokio::test]
    async fn a_name_that_has_no_address_lets_nothing_through() {
        let hosts = ["203.0.113.7", "no-such-service.invalid"];
        match check(&hosts, "203.0.113.8", Via::Direct).await {
            Err(AddressError::Unresolved { name, .. }) => assert_eq!(name, "no-such-service.invalid"),
            other => panic!("{other:?}"),
        }
        let loopback = check(&hosts, "127.0.0.1", Via::Direct).await;
        assert!(matches!(loopback, Err(AddressError::Refused(AddressRefused::Loopback(_)))), "{loopback:?}");
    }
}
