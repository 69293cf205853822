//! Delays between sites that nobody stated, from the distance of the places they stand in.
//!
//! A prior, not a measurement: light in fibre, a detour factor, and a little for both ends.

use crate::topology::LinkQuality;

/// One way between two zones of one region.
const SAME_SITE_MS: f64 = 0.25;
/// One way between two providers (or regions) of one city.
const SAME_CITY_MS: f64 = 1.6;
/// One way where a place is unknown.
const UNKNOWN_MS: f64 = 20.0;
/// Light in fibre, km per ms.
const FIBRE_KM_PER_MS: f64 = 200.0;
/// How much longer cables are than great circles.
const DETOUR: f64 = 1.45;

/// Latitude and longitude by the ends of region names; coarse on purpose.
const PLACES: &[(&[&str], (f64, f64))] = &[
    (&["ap-northeast-2", "koreacentral", "asia-northeast3", "ap-seoul", "seoul", "kr", "kr-standard"], (37.5, 127.0)),
    (&["ap-northeast-1", "japaneast", "asia-northeast1", "ap-tokyo", "jp-tok", "tokyo"], (35.7, 139.7)),
    (&["ap-southeast-1", "southeastasia", "asia-southeast1", "ap-singapore", "singapore"], (1.3, 103.8)),
    (&["ap-southeast-2", "australiaeast", "australia-southeast1", "au-syd", "sydney"], (-33.9, 151.2)),
    (&["ap-south-1", "centralindia", "asia-south1", "ap-mumbai", "mumbai"], (19.1, 72.9)),
    (&["us-east-1", "eastus", "us-east4", "na-ashburn", "us-east", "virginia"], (39.0, -77.5)),
    (&["us-central1", "centralus", "iowa"], (41.3, -95.9)),
    (&["us-west-2", "westus2", "us-west1", "oregon"], (45.6, -121.2)),
    (&["us-west-1", "westus", "us-west2", "na-siliconvalley", "california"], (37.4, -122.0)),
    (&["eu-central-1", "germanywestcentral", "europe-west3", "eu-frankfurt", "eu-de", "frankfurt"], (50.1, 8.7)),
    (&["eu-west-1", "northeurope", "dublin"], (53.3, -6.3)),
    (&["eu-west-2", "uksouth", "europe-west2", "eu-gb", "london"], (51.5, -0.1)),
    (&["westeurope", "europe-west4", "amsterdam"], (52.4, 4.9)),
    (&["sa-east-1", "brazilsouth", "southamerica-east1", "sa-saopaulo", "br-sao"], (-23.5, -46.6)),
];

/// The delay between two sites (`provider/region`) that have no link of their own in the topology.
pub fn default_quality(a: &str, b: &str) -> LinkQuality {
    let delay_ms = if a == b {
        SAME_SITE_MS
    } else {
        match (place(a), place(b)) {
            (Some(from), Some(to)) => SAME_CITY_MS + distance_km(from, to) * DETOUR / FIBRE_KM_PER_MS,
            _ => UNKNOWN_MS,
        }
    };
    LinkQuality { delay_ms, ..LinkQuality::default() }
}

fn place(site: &str) -> Option<(f64, f64)> {
    let region = site.split_once('/').map_or(site, |(_, region)| region);
    PLACES.iter().find(|(regions, _)| regions.contains(&region)).map(|(_, place)| *place)
}

/// Great-circle distance by the haversine formula.
fn distance_km((lat_a, lon_a): (f64, f64), (lat_b, lon_b): (f64, f64)) -> f64 {
    const EARTH_RADIUS_KM: f64 = 6371.0;
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let h = half(lat_a, lat_b) + lat_a.to_radians().cos() * lat_b.to_radians().cos() * half(lon_a, lon_b);
    2.0 * EARTH_RADIUS_KM * h.sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_resemble_measured_ones() {
        let round_trip = |a, b| 2.0 * default_quality(a, b).delay_ms;
        assert!((3.0..4.0).contains(&round_trip("aws/ap-northeast-2", "azure/koreacentral")));
        assert!((140.0..180.0).contains(&round_trip("aws/ap-northeast-2", "gcp/us-central1")));
        assert!((0.1..1.0).contains(&round_trip("aws/ap-northeast-2", "aws/ap-northeast-2")));
        assert_eq!(round_trip("aws/moon-1", "gcp/us-central1"), 2.0 * UNKNOWN_MS);
    }
}
