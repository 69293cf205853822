//! The socket against the kernel's own, over the loopback interface.

use std::cell::RefCell;

use cladnet_tunnel::{LANES, QUEUES};

use super::*;

const POLICIES: [OffloadPolicy; 2] = [OffloadPolicy::WherePossible, OffloadPolicy::Never];

fn bound(policy: OffloadPolicy) -> (UdpSocket, u16) {
    let socket = UdpSocket::bind(0, policy).unwrap();
    let port = socket.local_port().unwrap();
    (socket, port)
}

fn send(socket: &UdpSocket, datagrams: &[(SocketAddr, Vec<u8>)]) -> Vec<SocketAddr> {
    let mut trains = Trains::new();
    let mut refused = Vec::new();
    for (to, datagram) in datagrams {
        assert!(trains.push(*to, datagram));
    }
    socket.send_trains(&mut trains, |to, _| refused.push(to));
    assert!(trains.is_empty());
    refused
}

fn receive(socket: &UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    receive_by_queue(socket, count).into_iter().map(|(_, from, datagram)| (from, datagram)).collect()
}

/// Each with the queue it waited in.
fn receive_by_queue(socket: &UdpSocket, count: usize) -> Vec<(usize, SocketAddr, Vec<u8>)> {
    let queues: Vec<_> = (0..socket.queue_count()).collect();
    let (mut waiting, mut inbox) = (socket.waiting(queues).unwrap(), Inbox::new());
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        for queue in waiting.wait(socket, &inbox).unwrap() {
            socket.receive(queue, &mut inbox).unwrap();
            for Arrival { train, .. } in inbox.arrivals() {
                let cut = trains::cut(train.datagrams, train.segment_size);
                datagrams.extend(cut.map(|datagram| (queue, train.from, datagram.to_vec())));
            }
        }
    }
    datagrams
}

#[test]
fn a_busy_port_is_named_with_its_holder() {
    let (_first, port) = bound(OffloadPolicy::Never);
    let message = UdpSocket::bind(port, OffloadPolicy::Never).unwrap_err().to_string();
    assert!(message.contains(&format!("UDP port {port} is in use by ")), "{message}");
    assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");
}

#[test]
fn both_families_reach_the_socket_under_their_own_addresses() {
    for policy in POLICIES {
        let (socket, port) = bound(policy);
        for address in ["127.0.0.1", "::1"] {
            let Ok(client) = std::net::UdpSocket::bind((address, 0)) else { continue };
            client.send_to(b"hello", (address, port)).unwrap();
            let from = client.local_addr().unwrap();
            assert_eq!(receive(&socket, 1), [(from, b"hello".to_vec())]);
            socket.send(from, b"back").unwrap();
            assert!(send(&socket, &[(from, b"again".to_vec())]).is_empty());
            let mut buffer = [0; 16];
            assert_eq!([(); 2].map(|()| client.recv(&mut buffer).unwrap()), [4, 5]);
        }
    }
}

#[test]
fn trains_arrive_as_the_datagrams_they_were_made_of() {
    for (sending, receiving) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let ((sender, from), (receiver, port)) = (bound(POLICIES[sending]), bound(POLICIES[receiving]));
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            if std::net::UdpSocket::bind((address, 0)).is_err() {
                continue;
            }
            let lens = [1400, 1400, 1400, 300, 1400, 0, 20, 20];
            let to = SocketAddr::new(address, port);
            let sent: Vec<_> = lens.iter().zip(1..).map(|(len, byte)| (to, vec![byte; *len])).collect();
            assert!(send(&sender, &sent).is_empty());
            let expected: Vec<_> =
                sent.into_iter().map(|(_, datagram)| (SocketAddr::new(address, from), datagram)).collect();
            assert_eq!(receive(&receiver, expected.len()), expected);
        }
    }
}

#[test]
fn a_destination_that_refuses_stops_no_other() {
    for policy in POLICIES {
        let (socket, port) = bound(policy);
        let good = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Broadcast is refused on a socket that has not asked for it.
        let bad = SocketAddr::from((Ipv4Addr::BROADCAST, port));
        let datagrams = [good, bad, bad, good].map(|to| (to, vec![7; 100]));
        assert_eq!(send(&socket, &datagrams), [bad, bad]);
        assert_eq!(receive(&socket, 2).len(), 2);
        assert_eq!(socket.offloads().segment, policy == OffloadPolicy::WherePossible);
    }
}

#[test]
fn a_train_that_cannot_be_cut_is_sent_one_by_one_and_nothing_is_lost() {
    // What cannot be done on this path may be done on another; what cannot be done at all is not tried again.
    for (code, goes_on) in [(libc::EMSGSIZE, true), (libc::EINVAL, true), (libc::EIO, false)] {
        let (socket, _) = bound(OffloadPolicy::WherePossible);
        let sent = RefCell::new(Vec::new());
        let narrow = |trains: &[Train<'_>]| match trains[0].is_single() {
            true => {
                sent.borrow_mut().push((inward(trains[0].to), trains[0].bytes.to_vec()));
                Ok(1)
            }
            false => Err(io::Error::from_raw_os_error(code)),
        };
        let to = SocketAddr::from(([192, 0, 2, 1], 8055));
        let datagrams: Vec<_> = (0..45).map(|byte| vec![byte; if byte == 44 { 100 } else { 1452 }]).collect();
        let train = Train { to, bytes: &datagrams.concat(), segment: 1452 };
        socket.send_each_by(&narrow, iter::once(train), &mut |_, error| panic!("{error}"));
        assert_eq!(sent.take(), datagrams.into_iter().map(|datagram| (to, datagram)).collect::<Vec<_>>());
        assert_eq!(socket.offloads().segment, goes_on, "{code}");
    }
}

#[test]
fn what_must_stay_whole_is_refused_where_the_link_is_too_narrow_and_other_datagrams_are_not() {
    let (socket, port) = bound(OffloadPolicy::Never);
    let mut long = vec![7; 60_000];
    for address in ["127.0.0.1", "::1"] {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        if std::net::UdpSocket::bind((address, 0)).is_err() {
            continue;
        }
        // The loopback interface takes 65536 bytes, headers included.
        long.resize(60_000, 7);
        assert!(socket.send_whole(to, &long).unwrap());
        assert_eq!(receive(&socket, 1)[0].1, long);
        long.resize(65_507, 7);
        let takes_all = address == "127.0.0.1";
        assert_eq!(socket.send_whole(to, &long).unwrap(), takes_all);
        if takes_all {
            receive(&socket, 1);
        }
        assert!(send(&socket, &[(to, long.clone())]).is_empty(), "it may be cut");
        assert_eq!(receive(&socket, 1)[0].1, long);
    }
}

#[test]
fn wake_ends_the_wait_of_every_thread_once() {
    let (socket, port) = bound(OffloadPolicy::WherePossible);
    let mut waits = [vec![0, 2], vec![1]].map(|queues| socket.waiting(queues).unwrap());
    socket.wake().unwrap();
    for waiting in &mut waits {
        assert_eq!(waiting.wait(&socket, &Inbox::new()).unwrap().count(), 0);
    }
    socket.send(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &[4, 0, 0, 0, 0, 1]).unwrap();
    socket.send(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &[4, 0, 0, 0, 0, 0]).unwrap();
    let woken = waits.each_mut().map(|waiting| waiting.wait(&socket, &Inbox::new()).unwrap().collect::<Vec<_>>());
    assert_eq!(woken, [[2], [1]]);
}

#[test]
fn data_waits_by_its_lane_and_apart_from_all_else() {
    let (socket, port) = bound(OffloadPolicy::WherePossible);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut messages: Vec<Vec<u8>> = (0..=255).map(|index| vec![4, 0, 0, 0, 7, index, 7, 7]).collect();
    messages.extend((0..=255).map(|number| vec![0xc2, 0, 0, 0, number, 3, 7, 7]));
    messages.extend(
        [&[1, 0, 0, 0, 7, 3][..], &[0xc1, 0, 0, 0, 7, 3], &[4, 0, 0, 1, 7, 3], &[4, 0, 0, 0, 7], &[4], b""]
            .map(<[u8]>::to_vec),
    );
    for message in messages {
        client.send_to(&message, ("127.0.0.1", port)).unwrap();
        let expected = cladnet_tunnel::queue(&message).map_or(0, |queue| queue + 1);
        assert_eq!(receive_by_queue(&socket, 1)[0].0, expected, "{message:?}");
    }
}

#[test]
fn it_is_known_how_long_data_waited_that_one_turn_does_not_take() {
    let (socket, _) = bound(OffloadPolicy::WherePossible);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut inbox = Inbox::new();
    // Also on another port.
    for _ in 0..2 {
        for (count, queue, message) in
            [(BATCH, 1, [4, 0, 0, 0, 0, 0]), (BATCH - 1, 1, [4, 0, 0, 0, 0, 0]), (LONG_MESSAGES, 0, [1; 6])]
        {
            let sent_at = std::time::Instant::now();
            for _ in 0..count {
                client.send_to(&message, ("127.0.0.1", socket.local_port().unwrap())).unwrap();
            }
            socket.receive(queue, &mut inbox).unwrap();
            let waited: Vec<_> = inbox.arrivals().map(|arrival| arrival.waited).collect();
            assert_eq!(waited.len(), count);
            let is_told = count == BATCH && queue > 0;
            assert!(waited.iter().all(|waited| (*waited > Duration::ZERO) == is_told), "{waited:?}");
            assert!(waited.iter().all(|waited| *waited <= sent_at.elapsed()), "{waited:?}");
        }
        socket.rebind(0).unwrap();
    }
}

#[test]
fn a_turn_takes_as_much_time_whatever_the_messages_length() {
    let (socket, port) = bound(OffloadPolicy::WherePossible);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut inbox = Inbox::new();
    let mut turn = |len: usize| {
        for _ in 0..BATCH {
            client.send_to(&[&[4, 0, 0, 0, 0, 1][..], &vec![0; len]].concat(), ("127.0.0.1", port)).unwrap();
        }
        let mut taken = Vec::new();
        while taken.iter().sum::<usize>() < BATCH {
            socket.receive(2, &mut inbox).unwrap();
            taken.push(inbox.arrivals().count());
        }
        taken
    };
    assert_eq!([turn(100), turn(60_000), turn(60_000)], [vec![8], vec![8], vec![2; 4]]);
    assert_eq!([turn(100), turn(100)], [vec![2, 6], vec![8]]);
}

#[test]
fn both_queues_of_a_lane_are_read_by_one_thread_and_what_may_overtake_first() {
    for lane in 1..=LANES {
        assert_eq!(UdpSocket::group(lane), UdpSocket::group(LANES + lane));
    }
    let (socket, port) = bound(OffloadPolicy::WherePossible);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let queues: Vec<_> = (0..socket.queue_count()).collect();
    let mut waiting = socket.waiting(queues).unwrap();
    let overtakes = LANES as u8;
    for byte in [0, 1, 1 | overtakes, overtakes] {
        client.send_to(&[4, 0, 0, 0, 0, byte], ("127.0.0.1", port)).unwrap();
    }
    let mut turns = || {
        let mut turns: Vec<_> = waiting.wait(&socket, &Inbox::new()).unwrap().collect();
        let (last, light) = turns.split_last_mut().unwrap();
        light.sort_unstable();
        (light.to_vec(), *last)
    };
    assert_eq!([turns(), turns(), turns()], [(vec![9, 10], 1), (vec![9, 10], 2), (vec![9, 10], 1)]);
}

#[test]
fn the_first_datagram_of_a_train_can_be_dropped() {
    let (mut inbox, from) = (Inbox::new(), SocketAddr::from(([192, 0, 2, 1], 8055)));
    inbox.bytes[..250].copy_from_slice(&[[1; 100].as_slice(), &[2; 100], &[3; 50]].concat());
    inbox.received[0] = Received { len: 250, from: Some(from), segment: Some(100), at: None };
    inbox.count = 1;
    let mut arrival = inbox.arrivals().next().unwrap();
    arrival.drop_first();
    assert_eq!((arrival.start, arrival.train.datagrams.len(), arrival.train.datagrams[0]), (100, 150, 2));
    arrival.drop_first();
    arrival.drop_first();
    arrival.drop_first();
    assert_eq!((arrival.start, arrival.train.datagrams.len()), (250, 0));
}

#[test]
fn what_floods_one_queue_is_lost_there_and_nowhere_else() {
    let (socket, port) = bound(OffloadPolicy::WherePossible);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let message = |lane: u8| [[4, 0, 0, 0, 0, lane, 0, 0].as_slice(), &[0; 60_000]].concat();
    let flood = 2 * RECEIVE_BUFFER.div_ceil(60_000) + 200;
    for _ in 0..flood {
        client.send_to(&message(0), ("127.0.0.1", port)).unwrap();
    }
    for queue in 1..QUEUES as u8 {
        client.send_to(&message(queue), ("127.0.0.1", port)).unwrap();
    }
    let mut inbox = Inbox::new();
    for queue in 2..=QUEUES {
        socket.receive(queue, &mut inbox).unwrap();
        assert_eq!(inbox.arrivals().count(), 1, "queue {queue}");
    }
}

#[test]
fn a_reader_follows_the_socket_to_another_port() {
    for policy in POLICIES {
        let (socket, old) = bound(policy);
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| receive(&socket, 1));
            socket.rebind(0).unwrap();
            let port = socket.local_port().unwrap();
            assert_ne!(port, old);
            client.send_to(b"hello", ("127.0.0.1", port)).unwrap();
            assert_eq!(reader.join().unwrap(), [(client.local_addr().unwrap(), b"hello".to_vec())]);
        });
        assert!(UdpSocket::bind(old, policy).is_ok(), "the old port is free");
        let message = socket.rebind(client.local_addr().unwrap().port()).unwrap_err().to_string();
        assert!(message.contains("is in use by "), "{message}");
    }
}
