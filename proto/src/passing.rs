//! Which failures pass by themselves: the one list for whoever repeats a call.

use tonic::{Code, Status};

/// Whether the same call may go better soon. The service says so itself (`Unavailable`, `Aborted`, `ResourceExhausted`), or
/// the connection broke while it was replaced, for which tonic has several words. Everything else is an answer.
pub fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
    )
}
