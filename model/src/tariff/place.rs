//! Places of a tariff: a region, regions that begin alike, a named group of regions. And sites: provider, region, VPC.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::CloudLocation;

/// Regions of one provider that a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    Region(String),
    /// Regions that begin so, written with a star at the end: `us-*`.
    Prefix(String),
    /// A group of the provider, written with an at sign: `@europe`.
    Group(String),
}

/// The text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {0:?}; use a region, a beginning of regions such as us-*, or a group such as @europe")]
pub struct PlaceError(String);

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let place = match (text.strip_prefix('@'), text.strip_suffix('*')) {
            (Some(group), _) => Self::Group(group.to_owned()),
            (None, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            (None, None) => Self::Region(text.to_owned()),
        };
        let (Self::Region(name) | Self::Prefix(name) | Self::Group(name)) = &place;
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if is_name { Ok(place) } else { Err(PlaceError(text.chars().take(60).collect())) }
    }
}

impl TryFrom<String> for Place {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => f.pad(region),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Group(group) => write!(f, "@{group}"),
        }
    }
}

/// A provider, a region of it, or a VPC in a region: `aws`, `aws/eu-west-1`, `aws/eu-west-1/vpc-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Site {
    pub provider: String,
    pub region: Option<String>,
    pub vpc: Option<String>,
}

impl Site {
    /// Whether a host stands there, as far as is known.
    pub fn holds(&self, location: &CloudLocation) -> bool {
        let is = |wanted: &str, field: &str| location.get(field).is_some_and(|located| located.value == wanted);
        is(&self.provider, "provider")
            && self.region.as_ref().is_none_or(|region| is(region, "region"))
            && self.vpc.as_ref().is_none_or(|vpc| is(vpc, "vpc"))
    }
}

/// The text names no site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {0:?}; use provider, provider/region or provider/region/vpc, such as aws/eu-west-1")]
pub struct SiteError(String);

impl FromStr for Site {
    type Err = SiteError;

    fn from_str(text: &str) -> Result<Self, SiteError> {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let site = Self { provider: parts.next().unwrap_or_default(), region: parts.next(), vpc: parts.next() };
        let is_named = |part: &Option<String>| part.as_ref().is_none_or(|part| !part.is_empty());
        let is_site = !site.provider.is_empty() && is_named(&site.region) && is_named(&site.vpc);
        if is_site { Ok(site) } else { Err(SiteError(text.chars().take(60).collect())) }
    }
}

impl TryFrom<String> for Site {
    type Error = SiteError;

    fn try_from(text: String) -> Result<Self, SiteError> {
        text.parse()
    }
}

impl From<Site> for String {
    fn from(site: Site) -> Self {
        site.to_string()
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        [&self.region, &self.vpc].into_iter().flatten().try_for_each(|part| write!(f, "/{part}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_sites_are_read_as_they_are_written() {
        for text in ["eu-west-1", "us-*", "@europe"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "*", "@", "a b", "a/b"] {
            assert!(text.parse::<Place>().is_err(), "{text:?}");
        }
        for text in ["aws", "aws/eu-west-1", "gcp/us-east4/projects/p/global/networks/n"] {
            assert_eq!(text.parse::<Site>().unwrap().to_string(), text);
        }
        for text in ["", "/", "aws/", "aws//vpc"] {
            assert!(text.parse::<Site>().is_err(), "{text:?}");
        }
    }
}
