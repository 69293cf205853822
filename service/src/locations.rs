//! Cloud locations of many hosts at once, told by a provisioner that names hosts by what it knows of them.

use std::{collections::BTreeSet, net::IpAddr};

use cladnet_model::{Host, HostId, tariff::Book};
use cladnet_proto::{
    cladnet::v1::{HostLocationEntry, HostLocationResult},
    convert::{FieldError, cleared_fields, injected_location, required},
};
use cladnet_store::key;

use crate::{Service, error::CallError};

/// Entries of one call.
const MAX_ENTRIES: usize = 1_000;

impl Service {
    /// Takes each entry over by itself, and tells what became of it.
    pub(crate) async fn inject_locations(
        &self,
        entries: Vec<HostLocationEntry>,
        actor: &str,
    ) -> Result<Vec<HostLocationResult>, CallError> {
        if entries.len() > MAX_ENTRIES {
            let reason = format!("has {} entries; at most {MAX_ENTRIES} are allowed", entries.len());
            return Err(CallError::invalid("entries", reason));
        }
        // A host whose record cannot be read is nobody's match; the others are.
        let hosts: Vec<Host> = self.store.list(&key::hosts()).await?.items.into_iter().map(|host| host.value).collect();
        let book = self.tariff_book().await?;
        let mut results = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let result = self.inject_entry(&hosts, &book, entry, actor).await;
            results.push(result.unwrap_or_else(|error| HostLocationResult {
                error: within(error, index).to_string(),
                ..HostLocationResult::default()
            }));
        }
        Ok(results)
    }

    async fn inject_entry(
        &self,
        hosts: &[Host],
        book: &Book,
        entry: HostLocationEntry,
        actor: &str,
    ) -> Result<HostLocationResult, CallError> {
        let host = named(hosts, &entry)?;
        let location =
            injected_location(entry.location.clone().unwrap_or_default()).map_err(|error| error.within("location"))?;
        let clear = cleared_fields(&entry.clear, &location)?;
        let located = self.inject_location(host, &location, &clear, actor).await?;
        let value = |field| located.get(field).map_or("", |located| located.value.as_str());
        let doubt = (!value("provider").is_empty()).then(|| book.doubt(value("provider"), value("region"))).flatten();
        let warning = doubt.unwrap_or_default();
        Ok(HostLocationResult { host_id: host.to_string(), error: String::new(), warning })
    }
}

fn within(mut error: CallError, index: usize) -> CallError {
    for field in error.fields() {
        field.field = format!("entries[{index}].{}", field.field);
    }
    error
}

/// The one host that an entry names.
fn named<'a>(hosts: &'a [Host], entry: &HostLocationEntry) -> Result<&'a HostId, CallError> {
    let HostLocationEntry { host_id, instance_id, address, .. } = entry;
    let (field, given): (_, &str) = match (host_id.as_str(), instance_id.as_str(), address.as_str()) {
        ("", "", "") => {
            return Err(CallError::invalid("host_id", "is empty, and so are instance_id and address; give one"));
        }
        (id, "", "") => ("host_id", id),
        ("", instance, "") => ("instance_id", instance),
        ("", "", address) => ("address", address),
        _ => {
            return Err(CallError::invalid(
                "host_id",
                "is not the only name; give one of host_id, instance_id, address",
            ));
        }
    };
    let found: BTreeSet<&HostId> = match field {
        "host_id" => {
            let id: HostId = required(field, given)?;
            hosts.iter().filter(|host| host.id == id).map(|host| &host.id).collect()
        }
        "instance_id" => hosts.iter().filter(|host| is_instance(host, given)).map(|host| &host.id).collect(),
        _ => {
            let address: IpAddr = given.parse().map_err(|_| FieldError::new(field, "is no IP address"))?;
            hosts.iter().filter(|host| has_address(host, address)).map(|host| &host.id).collect()
        }
    };
    match Vec::from_iter(found)[..] {
        [] => Err(CallError::missing(field, "fits no host")),
        [host] => Ok(host),
        [one, other, ..] => {
            Err(CallError::invalid(field, format!("fits several hosts, {one} and {other}; name it by host_id")))
        }
    }
}

fn is_instance(host: &Host, instance: &str) -> bool {
    host.location().instance.is_some_and(|located| located.value == instance)
}

fn has_address(host: &Host, address: IpAddr) -> bool {
    let private = host.facts.private_address.is_some_and(|own| IpAddr::V4(own.addr()) == address);
    private || host.facts.endpoints.iter().any(|endpoint| endpoint.address.ip() == address)
}

#[cfg(test)]
mod tests {
    use cladnet_model::{CloudLocation, Endpoint, EndpointSource, HostFacts, Located, LocationSource, Scope};
    use jiff::Timestamp;

    use super::*;

    fn host(id: &str, instance: &str, address: [u8; 4]) -> Host {
        let endpoint =
            Endpoint { address: (address, 8055).into(), scope: Scope::Private, source: EndpointSource::Interface };
        let instance = Some(Located { value: instance.to_owned(), source: LocationSource::Metadata });
        let location = CloudLocation { instance, ..CloudLocation::default() };
        Host {
            id: id.parse().expect("an id"),
            facts: HostFacts { endpoints: vec![endpoint], location, ..HostFacts::default() },
            injected: CloudLocation::default(),
            identity: String::new(),
            enrolled_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn entry(host_id: &str, instance_id: &str, address: &str) -> HostLocationEntry {
        let [host_id, instance_id, address] = [host_id, instance_id, address].map(str::to_owned);
        HostLocationEntry { host_id, instance_id, address, ..HostLocationEntry::default() }
    }

    #[test]
    fn a_host_is_named_by_its_id_its_instance_or_an_address() {
        let hosts = [host("host-a", "i-1", [10, 0, 0, 1]), host("host-b", "i-2", [10, 0, 0, 2])];
        let is = |entry: HostLocationEntry| {
            named(&hosts, &entry).map(ToString::to_string).map_err(|error| error.to_string())
        };
        assert_eq!(is(entry("host-b", "", "")).as_deref(), Ok("host-b"));
        assert_eq!(is(entry("", "i-2", "")).as_deref(), Ok("host-b"));
        assert_eq!(is(entry("", "", "10.0.0.1")).as_deref(), Ok("host-a"));
        for (entry, refusal) in [
            (entry("", "", ""), "host_id: is empty"),
            (entry("host-a", "i-1", ""), "host_id: is not the only name"),
            (entry("host-c", "", ""), "host_id: fits no host"),
            (entry("", "i-3", ""), "instance_id: fits no host"),
            (entry("", "", "10.0.0.300"), "address: is no IP address"),
        ] {
            let refused = is(entry).expect_err("refused");
            assert!(refused.contains(refusal), "{refused}");
        }
    }

    #[test]
    fn an_address_that_two_clouds_hand_out_names_nobody() {
        let hosts = [host("host-a", "i-1", [10, 0, 0, 1]), host("host-b", "i-2", [10, 0, 0, 1])];
        let refused = named(&hosts, &entry("", "", "10.0.0.1")).expect_err("ambiguous").to_string();
        assert!(refused.contains("host-a and host-b"), "{refused}");
    }
}
