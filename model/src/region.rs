//! Regions of clouds: their names, and about where on earth they are. For maps and warnings: no path is chosen by it.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

/// A region of a provider.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Region {
    /// For people.
    pub name: String,
    #[serde(flatten)]
    pub place: Option<Coordinates>,
}

/// In degrees, north and east.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Coordinates {
    pub latitude: f64,
    pub longitude: f64,
}

type Regions = BTreeMap<String, BTreeMap<String, Region>>;

static REGIONS: LazyLock<Regions> =
    LazyLock::new(|| toml::from_str(include_str!("../data/regions.toml")).expect("the list is checked by test"));

/// A region by its provider's spelling.
pub fn region(provider: &str, region: &str) -> Option<&'static Region> {
    REGIONS.get(provider)?.get(region)
}

/// Whether regions of a provider are known.
pub fn knows_provider(provider: &str) -> bool {
    REGIONS.contains_key(provider)
}

/// What is odd about a region: its provider is not known to have it. Nothing, if no region of the provider is known.
pub fn doubt_region(provider: &str, name: &str) -> Option<String> {
    let known = REGIONS.get(provider)?;
    if known.contains_key(name) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let alike = known.keys().find(|region| region.to_ascii_lowercase() == lower || lower.starts_with(region.as_str()));
    let hint = alike.map(|region| format!("; perhaps {region} is meant")).unwrap_or_default();
    Some(format!("{name:?} is no region of {provider} that is known{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_has_a_name_and_a_place_on_earth_if_any() {
        assert!(REGIONS.values().map(BTreeMap::len).sum::<usize>() > 150);
        for (provider, regions) in REGIONS.iter() {
            for (id, region) in regions {
                assert!(!region.name.is_empty(), "{provider} {id}");
                let is_on_earth = |place: Coordinates| place.latitude.abs() <= 90.0 && place.longitude.abs() <= 180.0;
                assert!(region.place.is_none_or(is_on_earth), "{provider} {id}");
            }
        }
    }

    #[test]
    fn places_that_were_wrong_are_near_their_city() {
        for (provider, id, latitude, longitude) in [
            ("aws", "eu-north-1", 59.3, 18.1),
            ("azure", "spaincentral", 40.4, -3.7),
            ("alibaba", "eu-west-1", 51.5, -0.1),
            ("alibaba", "ap-northeast-2", 37.6, 127.0),
        ] {
            let place = region(provider, id).and_then(|region| region.place).expect("known");
            let is_near = (place.latitude - latitude).abs() < 0.5 && (place.longitude - longitude).abs() < 0.5;
            assert!(is_near, "{provider} {id} is at {place:?}");
        }
    }

    #[test]
    fn an_unknown_region_is_told_with_the_one_that_may_be_meant() {
        assert_eq!(doubt_region("aws", "eu-west-1"), None);
        assert_eq!(
            doubt_region("aws", "eu-west-1a").as_deref(),
            Some("\"eu-west-1a\" is no region of aws that is known; perhaps eu-west-1 is meant")
        );
        assert!(doubt_region("azure", "KoreaCentral").is_some_and(|doubt| doubt.contains("koreacentral")));
        assert_eq!(doubt_region("own-rack", "cellar"), None, "nothing is known of that provider");
    }
}
