//! Cloud locations: a message with a field per name for people, a map for agents (so that old and new releases mix).

use cladnet_model::{
    CloudLocation, Located, LocationSource,
    location::{MAX_VALUE, injected},
};

use super::{FieldError, required};
use crate::cladnet::v1::{self, AgentLocation, AgentLocationField, InjectedLocation, LocationField};

impl From<&CloudLocation> for AgentLocation {
    fn from(location: &CloudLocation) -> Self {
        let wire =
            |located: &Located| AgentLocationField { value: located.value.clone(), source: located.source.to_string() };
        Self { fields: location.known().map(|(name, located)| (name.to_owned(), wire(located))).collect() }
    }
}

impl TryFrom<AgentLocation> for CloudLocation {
    type Error = FieldError;

    /// A field that this release does not know is left out.
    fn try_from(wire: AgentLocation) -> Result<Self, FieldError> {
        let mut location = Self::default();
        for (name, AgentLocationField { value, source }) in wire.fields {
            let Some(slot) = location.slot(&name) else { continue };
            let parent = format!("fields.{name}");
            let source: LocationSource = required("source", &source).map_err(|error| error.within(&parent))?;
            let value = super::name("value", value, MAX_VALUE).map_err(|error| error.within(&parent))?;
            *slot = (!value.is_empty()).then_some(Located { value, source });
        }
        Ok(location)
    }
}

impl From<&CloudLocation> for v1::CloudLocation {
    fn from(location: &CloudLocation) -> Self {
        let wire = |located: &Option<Located>| {
            located
                .as_ref()
                .map(|Located { value, source }| LocationField { value: value.clone(), source: source.to_string() })
        };
        let CloudLocation { provider, account, region, zone, vpc, subnet, instance } = location;
        Self {
            provider: wire(provider),
            account: wire(account),
            region: wire(region),
            zone: wire(zone),
            vpc: wire(vpc),
            subnet: wire(subnet),
            instance: wire(instance),
        }
    }
}

/// What an API caller says of a host's cloud; empty fields say nothing.
pub fn injected_location(wire: InjectedLocation) -> Result<CloudLocation, FieldError> {
    let mut location = CloudLocation::default();
    for (name, value) in injected_fields(&wire) {
        let located = injected(name, value).map_err(|error| FieldError::new(name, error))?;
        if let Some(slot) = location.slot(name) {
            *slot = located;
        }
    }
    Ok(location)
}

/// Names of fields that an API caller takes back; one that is said at the same time is refused.
pub fn cleared_fields(names: &[String], injected: &CloudLocation) -> Result<Vec<&'static str>, FieldError> {
    let known = injected_fields(&InjectedLocation::default()).map(|(name, _)| name);
    let clear = |(number, name): (usize, &String)| {
        let refused = |problem: String| FieldError::new(format!("clear[{number}]"), problem);
        match known.iter().find(|known| *known == name) {
            None => Err(refused(format!("is {name:?}; use one of {}", known.join(", ")))),
            Some(known) if injected.get(known).is_some() => Err(refused(format!("is {known}, which is said as well"))),
            Some(known) => Ok(*known),
        }
    };
    names.iter().enumerate().map(clear).collect()
}

/// The same by name, as it was sent.
pub(super) fn injected_fields(wire: &InjectedLocation) -> [(&'static str, &str); 6] {
    let InjectedLocation { provider, account, region, zone, vpc, subnet } = wire;
    [("provider", provider), ("account", account), ("region", region), ("zone", zone), ("vpc", vpc), ("subnet", subnet)]
}
