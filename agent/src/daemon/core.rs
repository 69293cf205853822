//! The daemon's state, and how it is read from disk.

use std::{collections::BTreeMap, sync::Arc};

use cladnet_model::{NetworkId, tariff::Book};
use cladnet_pki::channel::ServiceUrl;
use cladnet_proto::cladnet::v1::Snapshot;
use prost::Message as _;
use tracing::warn;

use super::membership::Membership;
use crate::{
    configuration::Configuration,
    control::protocol::ServiceStatus,
    failure::chain,
    state::{Identity, MembershipRecord, StateDir},
};

/// What the daemon knows and wants.
#[derive(Default)]
pub(crate) struct Core {
    pub identity: Option<Arc<Identity>>,
    /// Why there is no identity although there are files: nothing may be joined over them.
    pub blocked: Option<String>,
    pub memberships: BTreeMap<NetworkId, Membership>,
    /// Of networks that this host has no key of: a join that is under way may bring it, after the stream has told all
    /// there is.
    pub early: BTreeMap<NetworkId, Configuration>,
    /// Left while the service could not be told.
    pub leaving: BTreeMap<NetworkId, MembershipRecord>,
    /// What paths cost: as the service last said, the shipped book before.
    pub book: Arc<Book>,
    pub link: ServiceStatus,
    /// What does not work, by what it is about.
    pub problems: BTreeMap<String, String>,
}

impl Core {
    /// Reads the state. What cannot be read becomes a problem, never an end: a loop of crashes helps nobody.
    pub(super) fn load(state: &StateDir, machine_id: &str) -> Self {
        let mut core = Self::default();
        match state.identity() {
            Ok(Some(identity)) if same_machine(&identity.machine_id, machine_id) => {
                core.identity = Some(Arc::new(identity))
            }
            Ok(Some(identity)) => {
                core.blocked = Some(format!(
                    "the state in {} belongs to another machine (host {}): this disk is a copy, and two machines must not be one host; \
                     run `cladnet-agent leave --all` here, then join again",
                    state.path().display(),
                    identity.host
                ));
            }
            Ok(None) => {}
            Err(error) => {
                core.blocked = Some(format!(
                    "{}; bring the file back, or run `cladnet-agent leave --all` to give this host's identity up, then join again",
                    chain(&error)
                ));
            }
        }
        if let Some(blocked) = &core.blocked {
            warn!(problem = blocked, "this host's identity cannot be used");
        } else if let Some(identity) = core.identity.clone() {
            core.load_book(state);
            core.load_memberships(state, &identity);
        }
        core
    }

    /// The last book of the service's; one that cannot be read is no reason to stop, the service sends another.
    fn load_book(&mut self, state: &StateDir) {
        match state.tariff_book() {
            Ok(Some(book)) => self.book = Arc::new(book),
            Ok(None) => {}
            Err(error) => {
                warn!(error = chain(&error), "the last tariff book cannot be read; going on with the shipped one")
            }
        }
    }

    fn load_memberships(&mut self, state: &StateDir, identity: &Identity) {
        let found = match state.memberships() {
            Ok(found) => found,
            Err(error) => {
                warn!(error = chain(&error), "memberships cannot be read");
                self.problems.insert("state".into(), chain(&error));
                return;
            }
        };
        for error in found.errors {
            warn!(error = chain(&error), "a membership cannot be used");
            let advice = "leave that network and join it again, or bring the file back";
            let about = error.document().map_or_else(|| chain(&error), file_of);
            self.problems.insert(about, format!("{}; {advice}", chain(&error)));
        }
        for record in found.records {
            if record.left {
                self.leaving.insert(record.network.clone(), record);
                continue;
            }
            let configuration = match restore(&record, identity) {
                Ok(configuration) => configuration,
                Err(problem) => {
                    warn!(network = %record.network, problem, "the last configuration cannot be used; waiting for the service's");
                    None
                }
            };
            self.memberships.insert(record.network.clone(), Membership::new(record, configuration, self.book.clone()));
        }
    }

    /// Whether this host is, or may be, a member of a network of which it has no file that can be used.
    pub(super) fn has_lost(&self, network: &NetworkId) -> bool {
        let lost = [file_of(network.as_str()), member_of(network.as_str())];
        !self.memberships.contains_key(network) && lost.iter().any(|about| self.problems.contains_key(about))
    }

    /// The services of this host's identity.
    pub(super) fn services(&self) -> Vec<ServiceUrl> {
        let urls = self.identity.iter().flat_map(|identity| &identity.services);
        urls.filter_map(|url| url.parse().ok()).collect()
    }
}

/// What a problem with a network's file is about.
pub(super) fn file_of(network: &str) -> String {
    format!("file of {network}")
}

/// What is a problem if the service knows of a membership and this host does not.
pub(super) fn member_of(network: &str) -> String {
    format!("member of {network}")
}

/// Without a machine id nothing can be told, and nothing is.
fn same_machine(saved: &str, found: &str) -> bool {
    saved.is_empty() || found.is_empty() || saved == found
}

fn restore(record: &MembershipRecord, identity: &Identity) -> Result<Option<Configuration>, String> {
    if record.snapshot.is_empty() {
        return Ok(None);
    }
    let snapshot = Snapshot::decode(record.snapshot.as_slice()).map_err(|error| error.to_string())?;
    Configuration::from_snapshot(&identity.host, &record.network, None, snapshot)
        .map(Some)
        .map_err(|error| error.to_string())
}
