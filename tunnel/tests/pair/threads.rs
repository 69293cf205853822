//! Data threads at work on one peer while its session is renewed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::sim::{between, carry, friends, strangers};

#[test]
fn no_packet_is_lost_or_doubled_while_the_session_is_renewed() {
    let (mut a, b) = friends();
    let delivered = AtomicUsize::new(0);
    for round in 0..4u8 {
        thread::scope(|scope| {
            for thread in 0..3u8 {
                let (a, b, delivered) = (&a, &b, &delivered);
                scope.spawn(move || {
                    for train in 0..20u8 {
                        let packets: Vec<_> =
                            (0..8).map(|packet| between(1, 2, &[round, thread, train, packet])).collect();
                        let sealed = a.seal_train(&packets).unwrap().datagrams;
                        let datagrams: Vec<_> = sealed.into_iter().map(|(_, datagram)| datagram).collect();
                        let opened = b.open_train(a.endpoint(), &datagrams).packets;
                        let expected: Vec<_> = packets.into_iter().map(|packet| (b.interface, packet)).collect();
                        assert_eq!(opened, expected);
                        delivered.fetch_add(opened.len(), Ordering::Relaxed);
                        assert!(b.open_train(a.endpoint(), &datagrams).packets.is_empty());
                    }
                });
            }
            carry(&a, &b, a.initiate(&[b.public_key()]));
        });
        a.now += Duration::from_secs(1);
    }
    assert_eq!(delivered.into_inner(), 4 * 3 * 20 * 8);
}

#[test]
fn no_packet_is_forgotten_while_the_first_session_opens() {
    for _ in 0..20 {
        let (a, b) = strangers();
        let delivered = AtomicUsize::new(0);
        thread::scope(|scope| {
            for thread in 0..3u8 {
                let (a, b, delivered) = (&a, &b, &delivered);
                scope.spawn(move || {
                    for number in 0..8u8 {
                        let packets = carry(a, b, a.seal(&between(1, 2, &[thread, number])).unwrap());
                        delivered.fetch_add(packets.len(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(delivered.into_inner(), 3 * 8);
    }
}
