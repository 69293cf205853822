//! What cb-network, the ancestor, would take by its cost rule: for comparison, no path is chosen by it.

use crate::{CloudLocation, Scope};

/// The addresses that its rule `cost-prioritized` takes: private ones within one VPC, if both hosts stand in one subnet of AWS, in
/// one zone of Azure or GCP, or anywhere in it at Alibaba; public ones otherwise. It asks for no price, nor whether the path works.
pub fn ancestors_cost_rule(source: &CloudLocation, destination: &CloudLocation) -> Scope {
    let value = |location: &CloudLocation, field| location.get(field).map(|located| located.value.clone());
    let is_same = |field| value(source, field).is_some_and(|ours| value(destination, field) == Some(ours));
    let is_near = match value(source, "provider").as_deref() {
        Some("aws") => is_same("subnet"),
        Some("azure" | "gcp") => is_same("zone"),
        Some("alibaba") => true,
        _ => false,
    };
    if is_same("vpc") && is_near { Scope::Private } else { Scope::Public }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Located, LocationSource};

    fn at(provider: &str, vpc: &str, zone: &str, subnet: &str, source: LocationSource) -> CloudLocation {
        let known = |value: &str| (!value.is_empty()).then(|| Located { value: value.to_owned(), source });
        CloudLocation {
            provider: known(provider),
            vpc: known(vpc),
            zone: known(zone),
            subnet: known(subnet),
            ..CloudLocation::default()
        }
    }

    #[test]
    fn the_ancestor_looks_at_subnets_or_zones_by_provider_and_never_at_prices() {
        use Scope::{Private, Public};
        for (provider, [one_subnet, one_zone, one_vpc]) in [
            ("aws", [Private, Public, Public]),
            ("azure", [Private, Private, Public]),
            ("gcp", [Private, Private, Public]),
            ("alibaba", [Private, Private, Private]),
            ("tencent", [Public, Public, Public]),
            ("", [Public, Public, Public]),
        ] {
            let ours = at(provider, "vpc-1", "a", "s-1", LocationSource::Metadata);
            let takes = |vpc, zone, subnet| {
                ancestors_cost_rule(&ours, &at(provider, vpc, zone, subnet, LocationSource::Injected))
            };
            assert_eq!(takes("vpc-1", "a", "s-1"), one_subnet, "{provider}");
            assert_eq!(takes("vpc-1", "a", "s-2"), one_zone, "{provider}");
            assert_eq!(takes("vpc-1", "c", "s-3"), one_vpc, "{provider}");
            assert_eq!([takes("vpc-2", "a", "s-1"), takes("", "a", "s-1")], [Public, Public], "{provider}");
        }
    }
}
