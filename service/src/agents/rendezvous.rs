//! A channel without room: an item is made when the receiver waits for it, and not before. So whoever does not read costs
//! no memory, and gets what is newest when it does.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

/// Makes the two ends.
pub(crate) fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, items) = mpsc::channel(1);
    let wanted = Arc::new(Semaphore::new(0));
    (Sender { items: sender, wanted: wanted.clone() }, Receiver { items, wanted, waits: false })
}

/// The end that makes items.
#[derive(Debug)]
pub(crate) struct Sender<T> {
    items: mpsc::Sender<T>,
    /// One permit while the receiver waits.
    wanted: Arc<Semaphore>,
}

impl<T> Sender<T> {
    /// Waits until the receiver waits; none if it is gone.
    pub(crate) async fn wanted(&self) -> Option<Wanted<'_, T>> {
        tokio::select! {
            permit = self.wanted.acquire() => Some(Wanted { items: &self.items, permit: permit.ok()? }),
            () = self.items.closed() => None,
        }
    }
}

/// The receiver waits for one item. Dropped unused, it still does.
#[derive(Debug)]
pub(crate) struct Wanted<'a, T> {
    items: &'a mpsc::Sender<T>,
    permit: SemaphorePermit<'a>,
}

impl<T> Wanted<'_, T> {
    /// Hands it over; a receiver that is gone meanwhile does not get it.
    pub(crate) fn send(self, item: T) {
        self.permit.forget();
        let _ = self.items.try_send(item);
    }
}

/// The end that takes them. Ends when the sender is dropped.
#[derive(Debug)]
pub(crate) struct Receiver<T> {
    items: mpsc::Receiver<T>,
    wanted: Arc<Semaphore>,
    /// It has said so.
    waits: bool,
}

impl<T> Stream for Receiver<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let polled = self.items.poll_recv(context);
        let waits = polled.is_pending();
        if waits && !self.waits {
            self.wanted.add_permits(1);
        }
        self.waits = waits;
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};

    use super::*;

    #[tokio::test]
    async fn nothing_is_wanted_before_the_receiver_waits_and_one_item_each_time_it_does() {
        let (sender, mut receiver) = channel();
        assert!(sender.wanted().now_or_never().is_none());
        assert!(receiver.next().now_or_never().is_none());
        assert!(receiver.next().now_or_never().is_none(), "waiting twice is waiting");
        drop(sender.wanted().await.unwrap());
        sender.wanted().await.unwrap().send(1);
        assert!(sender.wanted().now_or_never().is_none());
        assert_eq!(receiver.next().await, Some(1));
        assert!(sender.wanted().now_or_never().is_none());
    }

    #[tokio::test]
    async fn each_end_learns_that_the_other_is_gone() {
        let (sender, receiver) = channel::<()>();
        drop(receiver);
        assert!(sender.wanted().await.is_none());
        let (sender, mut receiver) = channel::<()>();
        drop(sender);
        assert_eq!(receiver.next().await, None);
    }
}
