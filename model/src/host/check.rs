//! What a host may say of itself. It is shown in every list, kept in every replica and sent to every peer, so it is
//! bounded and free of what a terminal would obey. Endpoints have rules of their own: [`crate::endpoint`].

use super::HostFacts;
use crate::{
    CloudLocation,
    validate::{Checks, InvalidInput, TextError, check_text},
};

/// A host name has at most 253 characters (RFC 1035); machine ids and versions are shorter.
pub const MAX_HOST_TEXT: usize = 253;
/// Ids of clouds are shorter.
pub const MAX_LOCATION_VALUE: usize = 256;
/// A router with full tables is no member of a network.
pub const MAX_ROUTES: usize = 1024;

impl HostFacts {
    /// All fields checked, with paths below `path`, such as `facts`.
    pub fn check(&self, path: &str) -> Result<(), InvalidInput> {
        let mut checks = Checks::default();
        let text = |text: &str| check_text(text, MAX_HOST_TEXT);
        checks.field(&format!("{path}.host_name"), text(&self.name));
        checks.field(&format!("{path}.machine_id"), text(&self.machine_id));
        checks.field(&format!("{path}.agent_version"), text(&self.agent_version));
        if self.routes.len() > MAX_ROUTES {
            let found = self.routes.len();
            checks.field(
                &format!("{path}.routes"),
                Err::<(), _>(format!("has {found} entries; at most {MAX_ROUTES} are allowed")),
            );
        }
        self.location.check_into(&format!("{path}.location"), &mut checks);
        checks.finish()
    }
}

impl CloudLocation {
    /// All values checked, with paths below `path`, such as `location`.
    pub fn check(&self, path: &str) -> Result<(), InvalidInput> {
        let mut checks = Checks::default();
        self.check_into(path, &mut checks);
        checks.finish()
    }

    fn check_into(&self, path: &str, checks: &mut Checks) {
        for (field, located) in self.known() {
            checks.field(&format!("{path}.{field}"), check_value(&located.value));
        }
    }
}

fn check_value(value: &str) -> Result<(), TextError> {
    if value.trim() == value { check_text(value, MAX_LOCATION_VALUE) } else { Err(TextError::Padded) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Located, LocationSource};

    #[test]
    fn what_a_terminal_would_obey_is_refused_wherever_it_stands() {
        let vpc = Located { value: "vpc-1\u{7}".to_owned(), source: LocationSource::Metadata };
        let facts = HostFacts {
            name: "vm\u{1b}[2J".to_owned(),
            machine_id: "x".repeat(254),
            routes: vec!["10.0.0.0/8".parse().unwrap(); 1025],
            location: CloudLocation { vpc: Some(vpc), ..CloudLocation::default() },
            ..HostFacts::default()
        };
        let error = facts.check("facts").unwrap_err();
        let fields: Vec<&str> = error.0.iter().map(|invalid| invalid.field.as_str()).collect();
        assert_eq!(fields, ["facts.host_name", "facts.machine_id", "facts.routes", "facts.location.vpc"]);
        assert_eq!(error.0[0].problem, "contains U+001B, a character that is not shown; remove it");
        assert_eq!(HostFacts::default().check("facts"), Ok(()));
    }
}
