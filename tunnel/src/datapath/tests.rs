//! Two keypairs that mirror each other.

use std::ops::Range;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::index::SessionIndices;
use crate::interface::InterfaceId;

fn pair() -> (Keypair, Keypair) {
    let (indices, mut rng, now) = (Arc::new(SessionIndices::default()), rand::rng(), Instant::now());
    let (here, there) = (indices.assign(1, &mut rng), indices.assign(2, &mut rng));
    let (one, two) = ([1; 32], [2; 32]);
    let (here_index, there_index) = (here.value(), there.value());
    let a = SessionKeys { send: &one, receive: &two, remote_index: there_index, role: Role::Initiator };
    let b = SessionKeys { send: &two, receive: &one, remote_index: here_index, role: Role::Responder };
    (Keypair::new(now, here, &a), Keypair::new(now, there, &b))
}

/// Datagrams of `packets` as one train, and their stride.
fn sealed(keypair: &Keypair, packets: &[Vec<u8>]) -> (Vec<u8>, usize) {
    let mut space = vec![0xaa; 1 << 16];
    let mut train = Train::new(InterfaceId(0), 1420, &mut space);
    assert!(packets.iter().all(|packet| train.push(packet)));
    keypair.seal_train(&mut train).unwrap();
    (train.datagrams().to_vec(), train.stride())
}

/// Where the inner packets lie.
fn opened(keypair: &Keypair, datagrams: &mut [u8], stride: usize) -> Vec<Result<Range<usize>, Discard>> {
    let mut results = Vec::new();
    keypair.open_run(datagrams, stride, |result| results.push(result.map(|it| it.at..it.at + it.packet.len())));
    results
}

#[test]
fn a_train_comes_out_in_order_with_consecutive_counters() {
    let (a, b) = pair();
    let packets: Vec<_> = (0..40u8).map(|n| vec![n; 1000]).collect();
    let (mut datagrams, stride) = sealed(&a, &packets);
    let counters: Vec<_> = datagrams.chunks(stride).map(|datagram| message::data_counter(datagram).unwrap()).collect();
    assert_eq!(counters, (0..40).collect::<Vec<_>>());
    for (result, packet) in opened(&b, &mut datagrams, stride).into_iter().zip(&packets) {
        assert_eq!(datagrams[result.unwrap()][..packet.len()], packet[..]);
    }
}

#[test]
fn a_train_opens_once_also_when_it_is_longer_than_a_run() {
    let (a, b) = pair();
    let trains: Vec<_> = (0..3).map(|_| sealed(&a, &vec![vec![1; 16]; 64])).collect();
    let stride = trains[0].1;
    let mut datagrams: Vec<u8> = trains.into_iter().flat_map(|(bytes, _)| bytes).collect();
    let mut copy = datagrams.clone();
    assert!(opened(&b, &mut datagrams, stride).iter().all(Result::is_ok));
    assert_eq!(opened(&b, &mut copy, stride), vec![Err(Discard::Replay); 192]);
}

#[test]
fn no_counter_is_used_beyond_the_last() {
    let (a, _) = pair();
    a.counter.0.store(REJECT_AFTER_MESSAGES - 2, Ordering::Relaxed);
    assert_eq!(a.reserve(3), Err(Discard::CounterExhausted));
    assert_eq!(a.reserve(2), Ok(REJECT_AFTER_MESSAGES - 2));
    assert_eq!(a.reserve(1), Err(Discard::CounterExhausted));
}

#[test]
fn a_session_wears_out_by_use_for_both_and_by_age_for_its_initiator() {
    let (a, b) = pair();
    let now = a.created;
    assert!(!a.is_worn(now) && !a.is_worn(now + REKEY_AFTER_TIME / 2));
    assert!(a.is_worn(now + REKEY_AFTER_TIME) && !b.is_worn(now + REKEY_AFTER_TIME));
    b.counter.0.store(REKEY_AFTER_MESSAGES, Ordering::Relaxed);
    assert!(b.is_worn(now));
}

#[test]
fn threads_never_share_a_counter() {
    let (a, _) = pair();
    let mut counters: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..1000).flat_map(|_| (a.reserve(3).unwrap()..).take(3)).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    counters.sort_unstable();
    assert_eq!(counters, (0..12_000).collect::<Vec<_>>());
}

#[test]
fn a_session_is_small_enough_for_a_thousand_peers() {
    assert!(size_of::<Keypair>() <= 3 << 10, "{} bytes", size_of::<Keypair>());
    assert_eq!(std::mem::offset_of!(Keypair, counter) % 64, 0);
}

proptest! {
    #[test]
    fn bytes_of_any_shape_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), stride in 1usize..200) {
        let (a, _) = pair();
        prop_assert!(opened(&a, &mut bytes, stride).iter().all(Result::is_err));
    }
}
