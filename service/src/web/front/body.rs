//! A request's body on its way to the service, which may not take for ever.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Body, Bytes},
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// How long a body may take. The service has given up those that it reads by then, and says so; this ends what it left.
const DEADLINE: Duration = Duration::from_secs(15);

/// The body took too long.
#[derive(Debug, thiserror::Error)]
#[error("the body took longer than {} s", DEADLINE.as_secs())]
struct TooSlow;

/// A body that fails when its time is over.
pub(super) struct Hurried {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl Hurried {
    /// The time begins now.
    pub(super) fn new(body: Body) -> Self {
        Self { body, deadline: Box::pin(sleep(DEADLINE)) }
    }
}

impl hyper::body::Body for Hurried {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(TooSlow.into())));
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tokio::time::{Instant, interval};
    use tokio_stream::wrappers::IntervalStream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_for_ever_is_given_up() {
        let drops = IntervalStream::new(interval(Duration::from_secs(1))).map(|_| Ok::<_, Infallible>("."));
        let begun = Instant::now();
        let gathered = Hurried::new(Body::from_stream(drops)).collect().await;
        assert!(gathered.expect_err("it has no end").is::<TooSlow>());
        assert_eq!(begun.elapsed(), DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_comes_in_time_comes_whole() {
        let pieces = stream::iter(["a", "b", "c"]).map(Ok::<_, Infallible>);
        let gathered = Hurried::new(Body::from_stream(pieces)).collect().await.expect("a body");
        assert_eq!(gathered.to_bytes(), "abc");
    }
}
