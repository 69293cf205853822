//! A path that is narrower than the tunnel's datagrams: the kernel cuts no trains for it, and fragments each datagram.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;

use crate::hosts::Pair;
use crate::lab::{Lab, Side, eventually};

const STARTUP: Duration = Duration::from_secs(10);
const PORT: u16 = 5002;
const LEN: usize = 1372;
const COUNT: u8 = 20;

#[test]
fn a_train_on_a_narrow_path_arrives_whole() {
    let Some(lab) = Lab::new() else { return };
    for side in [Side::A, Side::B] {
        assert!(lab.run(side, "ip", &["link", "set", "wire", "mtu", "1300"]).status.success());
    }
    let pair = Pair::new();
    let _b = pair.start_ours(&lab, Side::B, &pair.peer(Side::A));
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    eventually("a tunnel", STARTUP, || lab.pings(Side::A));

    let to = SocketAddr::new(Side::B.overlay(), PORT);
    let receiver = lab.inside(Side::B, move || UdpSocket::bind(to)).join().unwrap();
    receiver.set_read_timeout(Some(STARTUP)).unwrap();
    let sent: Vec<Vec<u8>> = (0..COUNT).map(|number| vec![number; LEN]).collect();
    let train = sent.concat();
    let sender = lab.inside(Side::A, move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        setsockopt(&socket, UdpGsoSegment, &(LEN as i32))?;
        socket.send_to(&train, to)
    });
    assert_eq!(sender.join().unwrap(), usize::from(COUNT) * LEN);
    let mut datagram = [0; 2 * LEN];
    let received: Vec<_> =
        sent.iter().map(|_| receiver.recv(&mut datagram).map(|len| datagram[..len].to_vec())).collect();
    assert_eq!(received.into_iter().collect::<Result<Vec<_>, _>>().unwrap(), sent);
    assert!(fragmented(&lab, Side::A) >= usize::from(COUNT), "the path was not narrow");
}

/// How many datagrams were cut into fragments, as `/proc/net/snmp` has it: a line of names, and one of values.
fn fragmented(lab: &Lab, side: Side) -> usize {
    let text = String::from_utf8(lab.run(side, "cat", &["/proc/net/snmp"]).stdout).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:")).map(str::split_ascii_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    names.zip(values).find_map(|(name, value)| (name == "FragOKs").then_some(value)).unwrap().parse().unwrap()
}
