//! The socket against the kernel's own, over the loopback interface.

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
    let mut inbox = Inbox::new();
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        socket.receive(&mut inbox).unwrap();
        for (_, train) in inbox.trains() {
            datagrams.extend(
                trains::cut(train.datagrams, train.segment_size).map(|datagram| (train.from, datagram.to_vec())),
            );
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
fn wake_ends_a_wait() {
    let (socket, _) = bound(OffloadPolicy::WherePossible);
    socket.wake().unwrap();
    let mut inbox = Inbox::new();
    socket.receive(&mut inbox).unwrap();
    assert!(inbox.trains().all(|(_, train)| train.datagrams.is_empty()));
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
