//! Whether two hosts stand in one VPC. The same id says little: names repeat between accounts, regions and providers.

use crate::{CloudLocation, Located};

/// Why two hosts do not stand in one VPC, or are not known to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Apart {
    #[error("the {0} of one of the hosts is not known")]
    Unknown(&'static str),
    #[error("the hosts stand under different {field}s, {ours} and {theirs}")]
    Different { field: &'static str, ours: String, theirs: String },
    #[error("neither account nor region of both hosts is known, so the VPC {0} of one may not be that of the other")]
    Ambiguous(String),
}

/// Whether both stand in one VPC: one provider, one VPC id, and one account and region as far as they are known, at
/// least one of them being known of both. GCP's VPCs span regions: there the account alone decides where it is known.
pub fn same_vpc(ours: &CloudLocation, theirs: &CloudLocation) -> Result<(), Apart> {
    let provider = equal("provider", &ours.provider, &theirs.provider)?;
    let vpc = equal("VPC", &ours.vpc, &theirs.vpc)?;
    let account = equal_if_known("account", &ours.account, &theirs.account)?;
    if account && provider == "gcp" {
        return Ok(());
    }
    let region = equal_if_known("region", &ours.region, &theirs.region)?;
    if account || region { Ok(()) } else { Err(Apart::Ambiguous(vpc.to_owned())) }
}

/// The value of a field that both must have.
fn equal<'a>(field: &'static str, ours: &'a Option<Located>, theirs: &Option<Located>) -> Result<&'a str, Apart> {
    match (ours, theirs) {
        (Some(ours), Some(_)) => equal_if_known(field, &Some(ours.clone()), theirs).map(|_| ours.value.as_str()),
        _ => Err(Apart::Unknown(field)),
    }
}

/// Whether a field is known of both and equal; an error if it is known of both and differs.
fn equal_if_known(field: &'static str, ours: &Option<Located>, theirs: &Option<Located>) -> Result<bool, Apart> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours.value == theirs.value => Ok(true),
        (Some(ours), Some(theirs)) => {
            Err(Apart::Different { field, ours: ours.value.clone(), theirs: theirs.value.clone() })
        }
        _ => Ok(false),
    }
}
