//! What every stream to an administrator has in common: how it ends, whatever it tells.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use cladnet_model::KeyId;
use cladnet_store::Revision;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::{MissedTickBehavior, interval};
use tonic::Status;
use tracing::error;

use crate::{Service, auth::Caller, envelope, error::CallError, shares::Share};

/// Messages until the client, or one of us, has enough.
pub(super) type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Streams of one API key at this replica. A window of the page has one, and a second one while it shows a deployment that
/// runs; a program needs one of each. A handful of both fits, and nobody's key holds so many that others are in want.
pub(crate) const STREAMS: usize = 10;

/// A stream's place among those of its API key.
pub(super) struct Place {
    _share: Share<KeyId>,
}

impl Place {
    /// Taken before anything is read; refused to a key that has them all.
    pub(super) fn take(service: &Service, caller: &Caller) -> Result<Self, CallError> {
        let too_many = || {
            CallError::TooMany(format!(
                "this API key holds {STREAMS} streams at this replica already; end one, or ask from time to time instead"
            ))
        };
        service.streams.take(caller.key.clone()).map(|share| Self { _share: share }).ok_or_else(too_many)
    }
}

/// How long a stream may outlive its API key.
const LOOK: Duration = Duration::from_secs(1);

/// Ends `messages` when the replica stops, soon after the caller's API key was revoked or expired, and with a word when they
/// panic; then its place is free. The key was there at `since`.
pub(super) fn bounded<T: Send + 'static>(
    service: &Arc<Service>,
    caller: Caller,
    place: Place,
    since: Revision,
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Messages<T> {
    let end = end(service.clone(), caller, since);
    let messages = AssertUnwindSafe(messages).catch_unwind().map(|message| {
        message.unwrap_or_else(|panic| {
            error!(panic = envelope::message(&*panic), "a stream panicked");
            Err(Status::internal("something went wrong inside the service; its log has more"))
        })
    });
    let both = Some((Box::pin(messages), Box::pin(end), place));
    Box::pin(stream::unfold(both, |both| async move {
        let (mut messages, mut end, place) = both?;
        tokio::select! {
            biased;
            end = &mut end => Some((Err(end?), None)),
            message = messages.next() => Some((message?, Some((messages, end, place)))),
        }
    }))
}

/// Waits until there is a reason to end a stream; says it, unless the replica stops.
async fn end(service: Arc<Service>, caller: Caller, since: Revision) -> Option<Status> {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let revoked = async {
        while service.agents.admits(&caller.key, caller.session.as_ref(), since) {
            looks.tick().await;
        }
    };
    tokio::select! {
        () = revoked => Some(Status::unauthenticated("the session or the API key of this stream is over")),
        () = service.shutdown.cancelled() => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use cladnet_model::{KeyId, KeyTerms, Role};
    use cladnet_store::key;
    use jiff::Timestamp;
    use tokio::time::timeout;
    use tonic::Code;

    use super::*;
    use crate::{
        Clock,
        agents::testing::{DEADLINE, House, eventually},
    };

    #[tokio::test]
    async fn a_stream_that_panics_ends_with_a_word_and_the_replica_lives() {
        let house = House::new().await;
        let replica = house.replica().await;
        let caller = Caller { key: KeyId::generate([1; 10]), role: Role::Viewer, session: None };
        let messages = stream::iter([1, 2]).map(|number| if number == 2 { panic!("a bug") } else { Ok(number) });
        let place = Place::take(&replica.service, &caller).expect("a place");
        let mut bounded = bounded(&replica.service, caller, place, Revision::from(i64::MAX), messages);
        assert_eq!(bounded.next().await.expect("a message").expect("the first"), 1);
        let end = bounded.next().await.expect("a word").expect_err("panics");
        assert_eq!(end.code(), Code::Internal, "{end}");
        assert!(bounded.next().await.is_none());
        eventually("the replica still follows", async || replica.service.agents.is_current().then_some(())).await;
    }

    #[tokio::test]
    async fn a_stream_ends_with_the_key_that_opened_it() {
        static LATER: AtomicBool = AtomicBool::new(false);
        let hour = Duration::from_secs(3_600);
        let house = House::new().await;
        let now = move || Timestamp::now() + if LATER.load(Ordering::Relaxed) { 2 * hour } else { Duration::ZERO };
        let replica = house.replica_with_clock(Clock::new(now)).await;
        let mut streams = Vec::new();
        for (name, expires_at) in [("expires", Some(Timestamp::now() + hour)), ("revoked", None), ("stays", None)] {
            let terms = KeyTerms { name: name.to_owned(), role: Role::Viewer, expires_at };
            let (record, _) = replica.service.create_key(terms, "test").await.expect("a key");
            let caller = Caller { key: record.id.clone(), role: record.role, session: None };
            let place = Place::take(&replica.service, &caller).expect("a place");
            let since = house.store.list(&key::api_keys()).await.expect("lists").revision;
            streams.push((record.id, bounded::<()>(&replica.service, caller, place, since, stream::pending())));
        }
        for (_, stream) in &mut streams {
            timeout(2 * LOOK, stream.next()).await.expect_err("the key is good");
        }
        LATER.store(true, Ordering::Relaxed);
        replica.service.revoke_key(&streams[1].0, "test").await.expect("revokes");
        for (_, stream) in &mut streams[..2] {
            let end = timeout(DEADLINE, stream.next()).await.expect("goes on").expect("a word").expect_err("ends");
            assert_eq!(end.code(), Code::Unauthenticated, "{end}");
            assert!(stream.next().await.is_none());
        }
        timeout(2 * LOOK, streams[2].1.next()).await.expect_err("that key is good");
    }
}
