//! Bytes by what a provider's own bill calls them.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::Leg;
use crate::{
    HostUsage, Place,
    tariff::{self, Book, Class, PoolUsage, Side},
};

/// What bills of AWS call its regions, as a prefix of usage types; us-east-1 has none.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/aws-usage-report-understand.html>
const AWS_REGIONS: &[(&str, &str)] = &[
    ("us-east-1", ""),
    ("us-east-2", "USE2"),
    ("us-west-1", "USW1"),
    ("us-west-2", "USW2"),
    ("ca-central-1", "CAN1"),
    ("sa-east-1", "SAE1"),
    ("eu-west-1", "EU"),
    ("eu-west-2", "EUW2"),
    ("eu-west-3", "EUW3"),
    ("eu-central-1", "EUC1"),
    ("eu-north-1", "EUN1"),
    ("eu-south-1", "EUS1"),
    ("ap-northeast-1", "APN1"),
    ("ap-northeast-2", "APN2"),
    ("ap-northeast-3", "APN3"),
    ("ap-southeast-1", "APS1"),
    ("ap-southeast-2", "APS2"),
    ("ap-southeast-3", "APS4"),
    ("ap-south-1", "APS3"),
    ("ap-east-1", "APE1"),
    ("me-south-1", "MES1"),
    ("af-south-1", "AFS1"),
];

/// What the hosts of a provider exchanged, by usage type and day; an empty type for what is not billed. Where the bill's name of
/// a region is not known, the region's own name stands for it.
pub fn billed<'a>(
    book: &Book,
    provider: &str,
    usages: impl IntoIterator<Item = &'a HostUsage>,
) -> BTreeMap<(String, Date), u64> {
    let mut billed = BTreeMap::new();
    for usage in usages {
        for row in usage.rows.iter().filter(|row| row.own.provider.as_deref() == Some(provider)) {
            for leg in [Leg::Out, Leg::In] {
                let (from, to) = leg.way(row);
                let quote =
                    tariff::cost(book, &from.location(), &to.location(), row.scope, usage.day, &PoolUsage::FirstPaid);
                let part = quote.parts.iter().find(|part| part.side == leg.side() && part.class != Class::Surcharge);
                let class = part.map_or(quote.class, |part| part.class);
                let name = match provider {
                    "aws" => aws(class, leg.side(), &row.own, &row.peer),
                    _ => azure(class, leg.side()).map(str::to_owned),
                };
                let (bytes, _) = leg.bytes(row);
                if bytes > 0 {
                    let counted: &mut u64 = billed.entry((name.unwrap_or_default(), usage.day)).or_default();
                    *counted = counted.saturating_add(bytes);
                }
            }
        }
    }
    billed
}

fn aws(class: Class, side: Side, own: &Place, peer: &Place) -> Option<String> {
    fn code(place: &Place) -> &str {
        let region = place.region.as_deref().unwrap_or("?");
        AWS_REGIONS.iter().find(|(known, _)| *known == region).map_or(region, |(_, code)| *code)
    }
    let long = |place| Some(code(place)).filter(|code| !code.is_empty()).unwrap_or("USE1");
    let direction = match side {
        Side::Sender => "Out",
        Side::Receiver => "In",
    };
    let ours = code(own);
    let prefix = if ours.is_empty() { String::new() } else { format!("{ours}-") };
    match class {
        Class::SameZonePublic | Class::CrossZonePrivate | Class::CrossZonePublic | Class::PeeredCrossZone => {
            Some(format!("{prefix}DataTransfer-Regional-Bytes"))
        }
        // Peered VPCs of two regions: <https://docs.aws.amazon.com/cur/latest/userguide/cur-data-transfers-charges.html>
        Class::CrossRegionPrivate => Some(format!("{}-AWS-{direction}-Bytes", long(own))),
        Class::CrossRegionPublic => Some(format!("{}-{}-AWS-{direction}-Bytes", long(own), long(peer))),
        Class::InternetEgress | Class::InternetIngress => Some(format!("{prefix}DataTransfer-{direction}-Bytes")),
        Class::SameZonePrivate | Class::PeeredSameZone | Class::Interconnect | Class::Surcharge => None,
    }
}

/// Meter names, as the export has them.
fn azure(class: Class, side: Side) -> Option<&'static str> {
    Some(match (class, side) {
        (Class::InternetEgress, _) => "Standard Data Transfer Out",
        (Class::InternetIngress, _) => "Standard Data Transfer In",
        (Class::CrossRegionPublic, Side::Sender) => "Inter Region Data Transfer Out",
        (Class::CrossRegionPublic, Side::Receiver) => "Inter Region Data Transfer In",
        (Class::PeeredSameZone | Class::PeeredCrossZone, Side::Sender) => "Intra-Region Egress",
        (Class::PeeredSameZone | Class::PeeredCrossZone, Side::Receiver) => "Intra-Region Ingress",
        (Class::CrossRegionPrivate, Side::Sender) => "Inter-Region Egress",
        (Class::CrossRegionPrivate, Side::Receiver) => "Inter-Region Ingress",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exchanged, Scope};

    fn billed_as(own: &str, peer: &str, scope: Scope) -> Vec<(String, u64)> {
        let day = Date::new(2026, 11, 2).unwrap();
        let mut usage = HostUsage::new("prod".parse().unwrap(), "host-a".parse().unwrap(), day);
        let bytes = Exchanged { sent: 5, received: 7, ..Exchanged::default() };
        usage.add(&own.parse().unwrap(), &peer.parse().unwrap(), scope, bytes);
        let provider = own.split('/').next().unwrap();
        billed(&Book::shipped(), provider, [&usage]).into_iter().map(|((name, _), bytes)| (name, bytes)).collect()
    }

    #[test]
    fn bytes_have_the_names_of_their_providers_bill() {
        let of = |own, peer, scope| billed_as(own, peer, scope);
        let (seoul, zone_2) = ("aws/ap-northeast-2/apne2-az1/vpc-1", "aws/ap-northeast-2/apne2-az2/vpc-1");
        assert_eq!(of(seoul, zone_2, Scope::Private), [("APN2-DataTransfer-Regional-Bytes".into(), 12)]);
        assert_eq!(of(seoul, seoul, Scope::Private), [(String::new(), 12)]);
        let tokyo = of(seoul, "aws/ap-northeast-1/apne1-az1", Scope::Public);
        assert_eq!(tokyo, [("APN2-APN1-AWS-In-Bytes".into(), 7), ("APN2-APN1-AWS-Out-Bytes".into(), 5)]);
        let peered = of("aws/us-east-1/use1-az1/vpc-2", "aws/ap-northeast-1/apne1-az1/vpc-3", Scope::Private);
        assert_eq!(peered, [("USE1-AWS-In-Bytes".into(), 7), ("USE1-AWS-Out-Bytes".into(), 5)]);
        let new = of("aws/xx-new-1", "gcp/us-central1", Scope::Public);
        assert_eq!(new, [("xx-new-1-DataTransfer-In-Bytes".into(), 7), ("xx-new-1-DataTransfer-Out-Bytes".into(), 5)]);
        let out = of("aws/us-east-1/use1-az1", "gcp/us-central1", Scope::Public);
        assert_eq!(out, [("DataTransfer-In-Bytes".into(), 7), ("DataTransfer-Out-Bytes".into(), 5)]);
        let azure = of("azure/koreacentral/1/vnet-1", "azure/koreacentral/1/vnet-2", Scope::Private);
        assert_eq!(azure, [("Intra-Region Egress".into(), 5), ("Intra-Region Ingress".into(), 7)]);
    }
}
