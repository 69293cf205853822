//! Instance metadata: which cloud, region, zone and VPC this machine stands in, asked of the link-local service that
//! clouds offer. Every answer must prove its provider first, because they share an address and partly a tree. User data
//! and credentials are never read.

mod alibaba;
mod aws;
mod azure;
mod gcp;
mod http;
mod openstack;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use cladnet_model::{CloudLocation, Located, LocationSource, validate::check_text};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use http::{Http, HttpError};

/// For all providers together; they are asked at the same time.
const PATIENCE: Duration = Duration::from_secs(4);
/// The service takes no longer field of a location.
pub(crate) const MAX_VALUE: usize = 256;
/// AWS, Azure, GCP, OpenStack and many others.
const LINK_LOCAL: &str = "http://169.254.169.254";
/// Alibaba's, which lies in the shared address space: asked only where the machine says it is one of theirs.
const ALIBABA: &str = "http://100.100.100.200";

/// What the provider says of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Instance {
    pub location: CloudLocation,
    /// The address that its 1:1 NAT gives us.
    pub public_ipv4: Option<Ipv4Addr>,
}

/// How asking went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Not asked yet, or still asking.
    #[default]
    Pending,
    Found(Box<Instance>),
    /// Nobody is there: no cloud, or one without such a service.
    Nobody,
    /// Somebody is there, but no provider that we know.
    Failed(String),
}

impl Answer {
    /// The instance, if it was found.
    pub(crate) fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Found(instance) => Some(instance),
            _ => None,
        }
    }

    /// The public address as an endpoint's.
    pub(crate) fn public_address(&self) -> Option<IpAddr> {
        self.instance()?.public_ipv4.map(IpAddr::V4)
    }
}

/// Where the services are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    link_local: String,
    alibaba: Option<String>,
}

impl Default for Places {
    fn default() -> Self {
        let vendor = std::fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
        let alibaba = vendor.to_ascii_lowercase().contains("alibaba").then(|| ALIBABA.to_owned());
        Self { link_local: LINK_LOCAL.to_owned(), alibaba }
    }
}

/// Asks every provider at once. The first in this order whose proof holds is believed: the later ones imitate the
/// earlier ones' paths.
pub(crate) async fn ask(places: &Places) -> Answer {
    let http = match Http::new() {
        Ok(http) => http,
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let base = &places.link_local;
    let everyone = async {
        tokio::join!(
            aws::ask(&http, base),
            gcp::ask(&http, base),
            azure::ask(&http, base),
            async {
                match &places.alibaba {
                    Some(base) => alibaba::ask(&http, base).await,
                    None => Err(HttpError::Nobody),
                }
            },
            openstack::ask(&http, base),
        )
    };
    match timeout(PATIENCE, everyone).await {
        Ok((aws, gcp, azure, alibaba, openstack)) => choose([aws, gcp, azure, alibaba, openstack]),
        Err(_) => Answer::Nobody,
    }
}

fn choose<const N: usize>(answers: [Result<Instance, HttpError>; N]) -> Answer {
    let mut failure = None;
    for answer in answers {
        match answer {
            Ok(instance) => return Answer::Found(Box::new(instance)),
            Err(HttpError::Nobody) => {}
            Err(error) => failure = failure.or(Some(error.to_string())),
        }
    }
    failure.map_or(Answer::Nobody, Answer::Failed)
}

/// A field of the location. Empty text says nothing, and what no id of a cloud looks like is not believed.
fn located(value: impl AsRef<str>) -> Option<Located> {
    let value = value.as_ref().trim();
    let plausible = !value.is_empty() && check_text(value, MAX_VALUE).is_ok();
    plausible.then(|| Located { value: value.to_owned(), source: LocationSource::Metadata })
}
