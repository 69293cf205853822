//! Asking again, ever more rarely: a service that is busy, or on its way down, is no reason to give up.

use tokio::time::{Instant, sleep};
use tracing::info;

use super::EnrolError;
use crate::backoff::Backoff;

/// Repeats `attempt` while its failure may pass; none begins after `deadline`. Whoever is told when to come back comes
/// no sooner. A service that cannot be reached at all is told at once, but not once it has answered: it may be starting
/// anew.
pub(crate) async fn until<T, F>(deadline: Instant, attempt: impl Fn() -> F) -> Result<T, EnrolError>
where
    F: Future<Output = Result<T, EnrolError>>,
{
    let (mut backoff, mut said) = (Backoff::default(), None);
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let wait = error.retry_after().unwrap_or_default() + backoff.next(rand::random());
        let error = match said.take() {
            _ if error.may_pass() => error,
            Some(before) if error.is_unreachable() => before, // it may have done what it was asked before
            _ => return Err(error),
        };
        if Instant::now() + wait >= deadline {
            return Err(error);
        }
        info!(%error, ?wait, "the service cannot admit this host now; asking again");
        sleep(wait).await;
        said = Some(error);
    }
}
