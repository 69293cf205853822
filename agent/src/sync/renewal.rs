//! Renewing the host's certificate on the way: at half of its life, and also when it has run out.

use std::time::Duration;

use cladnet_pki::{Credentials, HostKey};
use cladnet_proto::cladnet::v1::{RenewCertificateRequest, agent_service_client::AgentServiceClient};
use jiff::Timestamp;
use tonic::transport::Channel;

use super::SyncError;
use crate::state::Identity;

/// Between attempts, while the old one is still good.
pub(super) const RETRY: Duration = Duration::from_secs(600);
/// The clock may be set; half-lives are looked at anew at least this often.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long until the certificate is to be renewed; zero, if it is time.
pub(super) fn due_in(credentials: &Credentials, now: Timestamp) -> Duration {
    credentials.validity().map_or(Duration::ZERO, |(from, until)| half_life_in(from, until, now)).min(LONGEST)
}

fn half_life_in(from: Timestamp, until: Timestamp, now: Timestamp) -> Duration {
    let half = from.as_second() + (until.as_second() - from.as_second()) / 2;
    Duration::from_secs(u64::try_from(half - now.as_second()).unwrap_or(0))
}

/// Asks for a certificate for the same key.
pub(super) async fn renew(client: &mut AgentServiceClient<Channel>, identity: &Identity) -> Result<String, SyncError> {
    let key = HostKey::from_pem(&identity.key)?;
    let request = RenewCertificateRequest { certificate_request: key.request()? };
    let certificate = client.renew_certificate(request).await?.into_inner().certificate;
    Credentials::of_host(&certificate, &key)?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_and_after_its_end() {
        let at = |second| Timestamp::from_second(second).expect("timestamp");
        assert_eq!(half_life_in(at(1000), at(2000), at(1100)), Duration::from_secs(400));
        assert_eq!(half_life_in(at(1000), at(2000), at(1500)), Duration::ZERO);
        assert_eq!(half_life_in(at(1000), at(2000), at(9999)), Duration::ZERO);
    }
}
