//! What a path crosses, by where its ends stand. Pure: metadata decides here what a path would cost, never whether it
//! works.

use super::{Class, Trip};
use crate::{CloudLocation, Scope, path::same_vpc};

/// What was assumed where something is not known; always the dearer case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Assumed {
    #[error("a region is not known, so they are taken to differ")]
    OtherRegion,
    #[error("a zone is not known, or only by a name that differs from account to account, so they are taken to differ")]
    OtherZone,
    #[error("a VPC is not known, so they are taken to differ")]
    OtherVpc,
}

/// What both sides pay for. They differ only where a path leaves its provider.
pub(super) struct Classes {
    pub(super) sender: Class,
    pub(super) receiver: Class,
    pub(super) assumed: Vec<Assumed>,
}

pub(super) fn classify(trip: &Trip<'_>) -> Classes {
    let (source, destination) = (trip.source.location, trip.destination.location);
    let one_provider = match (value(source, "provider"), value(destination, "provider")) {
        (Some(ours), Some(theirs)) if ours == theirs => ours,
        _ => return Classes { sender: Class::InternetEgress, receiver: Class::InternetIngress, assumed: Vec::new() },
    };
    let mut assumed = Vec::new();
    let vpc = vpc(source, destination, &mut assumed);
    let is_private = match trip.scope {
        Scope::Private => true,
        Scope::Public => false,
        // AWS bills IPv6 by where it goes, and an address of it inside one VPC as a private one.
        Scope::PublicV6 => one_provider == "aws" && vpc == Vpc::Same,
    };
    if !is_private {
        // Only private addresses are told apart by their VPC.
        assumed.clear();
    }
    let same_region = same_region(one_provider, source, destination, vpc, &mut assumed);
    if !same_region {
        // Across regions no VPC makes a difference.
        assumed.retain(|assumed| *assumed == Assumed::OtherRegion);
    }
    let same_zone = same_region && same_zone(one_provider, source, destination, &mut assumed);
    let class = match (same_region, same_zone, is_private, vpc) {
        (false, _, true, _) => Class::CrossRegionPrivate,
        (false, _, false, _) => Class::CrossRegionPublic,
        (true, true, false, _) => Class::SameZonePublic,
        (true, false, false, _) => Class::CrossZonePublic,
        (true, true, true, Vpc::Same) => Class::SameZonePrivate,
        (true, false, true, Vpc::Same) => Class::CrossZonePrivate,
        (true, true, true, Vpc::Other) => Class::PeeredSameZone,
        (true, false, true, Vpc::Other) => Class::PeeredCrossZone,
    };
    Classes { sender: class, receiver: class, assumed }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vpc {
    Same,
    Other,
}

fn vpc(source: &CloudLocation, destination: &CloudLocation, assumed: &mut Vec<Assumed>) -> Vpc {
    if same_vpc(source, destination).is_ok() {
        return Vpc::Same;
    }
    if source.vpc.is_none() || destination.vpc.is_none() {
        assumed.push(Assumed::OtherVpc);
    }
    Vpc::Other
}

/// One region also where one VPC is known to hold both, except where a provider's VPCs span regions.
fn same_region(
    provider: &str,
    source: &CloudLocation,
    destination: &CloudLocation,
    vpc: Vpc,
    assumed: &mut Vec<Assumed>,
) -> bool {
    match (value(source, "region"), value(destination, "region")) {
        (Some(ours), Some(theirs)) => ours == theirs,
        _ if vpc == Vpc::Same && provider != "gcp" => true,
        _ => {
            assumed.push(Assumed::OtherRegion);
            false
        }
    }
}

fn same_zone(provider: &str, source: &CloudLocation, destination: &CloudLocation, assumed: &mut Vec<Assumed>) -> bool {
    let comparable = match (value(source, "zone"), value(destination, "zone")) {
        (Some(ours), Some(theirs)) => {
            let names = (is_account_name(provider, ours), is_account_name(provider, theirs));
            let account = value(source, "account");
            match names {
                (false, false) => Some(ours == theirs),
                (true, true) if account.is_some() && account == value(destination, "account") => Some(ours == theirs),
                _ => None,
            }
        }
        _ => None,
    };
    comparable.unwrap_or_else(|| {
        assumed.push(Assumed::OtherZone);
        false
    })
}

/// Whether a zone is given by a name that its provider gives to another zone in another account: AWS' `eu-west-1a` (its
/// identity is `euw1-az1`), Azure's `1` (its identity is `westeurope-az1`).
fn is_account_name(provider: &str, zone: &str) -> bool {
    match provider {
        "aws" => !zone.contains("-az") && zone.ends_with(|c: char| c.is_ascii_lowercase()),
        "azure" => zone.chars().all(|c| c.is_ascii_digit()),
        _ => false,
    }
}

fn value<'a>(location: &'a CloudLocation, field: &str) -> Option<&'a str> {
    location.get(field).map(|located| located.value.as_str())
}
