//! The SSH host keys that are pinned: the provisioner pins them, an admin forgets them.

use cladnet_model::deployment::{PinnedHostKey, parse_place};
use cladnet_store::{AnyKey, StoreError, key};

use crate::{Service, error::CallError, events::Note};

impl Service {
    /// Every pinned key with its `address:port`, in the order of these.
    pub(crate) async fn host_keys(&self) -> Result<Vec<(String, PinnedHostKey)>, CallError> {
        let records = self.store.list(&key::host_keys()).await?.items.into_iter();
        let placed = records.filter_map(|record| match record.key.parse() {
            AnyKey::HostKey(place) => Some((place, record.value)),
            _ => None,
        });
        Ok(placed.collect())
    }

    /// From now on the machine's next key must be vouched for again.
    pub(crate) async fn forget_host_key(&self, address: &str, actor: &str) -> Result<(), CallError> {
        let wrong = "is no address:port; use one such as 192.0.2.10:22 or [2001:db8::1]:22";
        let place = parse_place(address).ok_or_else(|| CallError::invalid("address", wrong))?;
        let unknown = || CallError::NotFound(format!("no host key is known of {place}"));
        let pinned = self.store.get(&key::host_key(&place)).await?.ok_or_else(unknown)?;
        let message = format!("host key {} of {place} forgotten", pinned.value.fingerprint);
        let note = Note { kind: "host-key.forgotten", network: None, host: None, actor, message };
        let transaction = self.store.transaction().unchanged(&pinned.key, pinned.modified).delete(&pinned.key);
        match self.note(transaction, note).commit().await {
            Ok(_) => Ok(()),
            Err(StoreError::Conflict { .. }) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }
}
