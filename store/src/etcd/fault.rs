//! What an error of etcd means: try another member, or tell the caller; and whether a write may have happened.

use etcd_client::Error;
use tonic::Code;

use super::options::option;
use crate::StoreError;

/// Why one attempt at one member failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Another member, or the same a little later, may do better. A write may have happened all the same.
    Passing(String),
    /// No other member would answer differently, and nothing has happened.
    Final(StoreError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::GRpcStatus(status) => from_status(&status),
            Error::InvalidArgs(reason) => Self::Final(option("--etcd", reason)),
            Error::InvalidUri(error) => Self::Final(option("--etcd", error.to_string())),
            Error::TransportError(error) => Self::Passing(with_sources(error.to_string(), &error)),
            other => Self::Passing(other.to_string()),
        }
    }
}

fn from_status(status: &tonic::Status) -> Fault {
    let message = status.message();
    let says = |part: &str| message.contains(part);
    match status.code() {
        Code::NotFound if says("lease not found") => Fault::Final(StoreError::LeaseEnded),
        Code::OutOfRange if says("compacted") => Fault::Final(StoreError::Compacted),
        Code::OutOfRange => Fault::Final(StoreError::Refused { reason: message.to_owned() }),
        Code::ResourceExhausted if says("space exceeded") => Fault::Final(StoreError::Full {
            reason: "etcd has used up its quota: compact, defragment and disarm its NOSPACE alarm".to_owned(),
        }),
        Code::InvalidArgument if says("too large") || says("too many operations") => {
            Fault::Final(StoreError::Refused { reason: message.to_owned() })
        }
        Code::PermissionDenied | Code::Unauthenticated => denied(message),
        Code::InvalidArgument if says("authentication failed") || says("user name is empty") => denied(message),
        Code::FailedPrecondition if says("authentication is not enabled") => {
            Fault::Final(option("--etcd-user", "this etcd has no authentication enabled: leave it out".to_owned()))
        }
        _ => Fault::Passing(with_sources(message.to_owned(), status)),
    }
}

fn denied(message: &str) -> Fault {
    Fault::Final(StoreError::Denied { reason: message.trim_start_matches("etcdserver: ").to_owned() })
}

/// What was said, and all it came from: tonic keeps the interesting part, say of a refused certificate, at the bottom.
fn with_sources(mut text: String, error: &dyn std::error::Error) -> String {
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(code: Code, message: &str) -> Fault {
        Error::GRpcStatus(tonic::Status::new(code, message)).into()
    }

    #[test]
    fn faults_of_a_member_are_passing_and_answers_are_final() {
        assert!(matches!(fault(Code::Unavailable, "etcdserver: no leader"), Fault::Passing(_)));
        assert!(matches!(fault(Code::Unknown, "http2 error"), Fault::Passing(_)));
        assert!(matches!(
            fault(Code::NotFound, "etcdserver: requested lease not found"),
            Fault::Final(StoreError::LeaseEnded)
        ));
        assert!(matches!(
            fault(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Fault::Final(StoreError::Full { .. })
        ));
        assert!(matches!(
            fault(Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password"),
            Fault::Final(StoreError::Denied { .. })
        ));
        assert!(matches!(
            fault(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Fault::Final(StoreError::Compacted)
        ));
    }
}
