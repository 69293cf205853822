//! The operator's file: fields of the cloud location that no metadata service can know, or gets wrong. It wins field by
//! field.
//!
//! ```toml
//! provider = "openstack"
//! region = "kr-pub-1"
//! vpc = "11111111-2222-3333-4444-555555555555"
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cladnet_model::{
    CloudLocation, Located, LocationSource,
    validate::{TextError, check_text},
};
use serde::Deserialize;

use super::metadata::MAX_VALUE;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocationFileError {
    #[error("cannot read location file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("location file {}: {}", path.display(), source.to_string().trim_end())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("location file {}: {field}", path.display())]
    Value { path: PathBuf, field: &'static str, source: TextError },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Option<String>,
    account: Option<String>,
    region: Option<String>,
    zone: Option<String>,
    vpc: Option<String>,
    subnet: Option<String>,
    instance: Option<String>,
}

/// What the operator wrote; nothing, if there is no file.
pub(crate) fn read(path: &Path) -> Result<CloudLocation, LocationFileError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(CloudLocation::default()),
        Err(source) => return Err(LocationFileError::Read { path: path.to_owned(), source }),
    };
    let File { provider, account, region, zone, vpc, subnet, instance } = toml::from_str(&text)
        .map_err(|source| LocationFileError::Parse { path: path.to_owned(), source: Box::new(source) })?;
    let located = |field: &'static str, value: Option<String>| {
        let value = value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        if let Some(value) = &value {
            check_text(value, MAX_VALUE).map_err(|source| LocationFileError::Value {
                path: path.to_owned(),
                field,
                source,
            })?;
        }
        Ok::<_, LocationFileError>(value.map(|value| Located { value, source: LocationSource::Operator }))
    };
    Ok(CloudLocation {
        provider: located("provider", provider.map(|provider| provider.to_ascii_lowercase()))?,
        account: located("account", account)?,
        region: located("region", region)?,
        zone: located("zone", zone)?,
        vpc: located("vpc", vpc)?,
        subnet: located("subnet", subnet)?,
        instance: located("instance", instance)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CloudLocation, LocationFileError> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("location.toml");
        fs::write(&path, text).expect("write");
        read(&path)
    }

    #[test]
    fn the_operator_wins_field_by_field() {
        let operator = parse("provider = \"OpenStack\"\nvpc = \"net-a\"\nzone = \"\"").expect("valid");
        let metadata = |value: &str| Some(Located { value: value.into(), source: LocationSource::Metadata });
        let under = CloudLocation { zone: metadata("nova"), vpc: metadata("net-b"), ..CloudLocation::default() };
        let merged = operator.merged(&under);
        assert_eq!(merged.provider.map(|field| field.value).as_deref(), Some("openstack"));
        assert_eq!(merged.vpc.map(|field| field.value).as_deref(), Some("net-a"));
        assert_eq!(merged.zone.map(|field| field.value).as_deref(), Some("nova"));
    }

    #[test]
    fn no_file_says_nothing_and_a_bad_one_is_refused_with_its_line() {
        assert_eq!(read(Path::new("/nonexistent")).expect("nothing"), CloudLocation::default());
        let error = parse("vpc = \"a\"\nvnet = \"b\"").expect_err("unknown key").to_string();
        assert!(error.contains("line 2") && error.contains("vnet"), "{error}");
        let error = parse("vpc = \"a\\u001b[2J\"").expect_err("obeyed by terminals").to_string();
        assert!(error.contains("vpc"), "{error}");
    }
}
