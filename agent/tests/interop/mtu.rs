//! What the path carries is found and used: narrow paths, black holes, jumbo frames, and those who send too much.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

use crate::hosts::{Pair, Peer};
use crate::lab::{Lab, Process, Side, TooLong, eventually, ip};

/// A search in which every second size is refused, and much room for a slow machine.
const FOUND: Duration = Duration::from_secs(60);
/// A transfer that had to wait for another MTU is over by then.
const OVER: Duration = Duration::from_secs(30);
const PORT: u16 = 5002;
const MEBIBYTE: usize = 1 << 20;
/// The narrow link of these tests, and what it leaves of a packet: IPv4, UDP and WireGuard take 60.
const NARROW: u16 = 1300;
const LEFT: u16 = 1240;

/// Two of ours that answer each other's probes, between routers.
fn start(lab: &Lab, behind_b: Option<&str>) -> [Process; 2] {
    let pair = Pair::new();
    [Side::A, Side::B].map(|side| {
        let other = side.other();
        let behind = behind_b.filter(|_| other == Side::B).map(str::to_owned);
        let endpoint = Some(format!("10.{}.0.2:8055", other.number()));
        pair.start_ours(lab, side, &Peer { endpoint, probes: true, behind, ..pair.peer(other) })
    })
}

/// Sends this many bytes through the tunnel; the result is the sender's segment size at the end.
fn transfer(lab: &Lab, sender: Side, bytes: usize) -> u32 {
    let receiver = SocketAddr::new(sender.other().overlay(), PORT);
    let listener = lab.inside(sender.other(), move || TcpListener::bind(receiver)).join().unwrap();
    let received = lab.inside(sender.other(), move || receive(&listener));
    let segment = lab.inside(sender, move || send(receiver, bytes)).join().unwrap();
    assert_eq!(received.join().unwrap(), bytes);
    segment
}

fn send(to: SocketAddr, bytes: usize) -> io::Result<u32> {
    let mut stream = TcpStream::connect_timeout(&to, OVER)?;
    stream.set_write_timeout(Some(OVER))?;
    stream.set_read_timeout(Some(OVER))?;
    stream.write_all(&vec![7; bytes])?;
    let segment = getsockopt(&stream, TcpMaxSeg)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // Until the other side has all.
    let _ = stream.read(&mut [0])?;
    Ok(segment)
}

fn receive(listener: &TcpListener) -> io::Result<usize> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(OVER))?;
    let (mut chunk, mut bytes) = (vec![0; MEBIBYTE], 0);
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(bytes),
            len => bytes += len,
        }
    }
}

/// The MTU of a side's route to the other side's overlay address; none if it is the network's.
fn route_mtu(lab: &Lab, side: Side) -> Option<String> {
    let routes = lab.run(side, "ip", &["route", "show", "exact", &side.other().overlay().to_string()]);
    word_after("mtu", &String::from_utf8(routes.stdout).unwrap())
}

fn word_after(word: &str, text: &str) -> Option<String> {
    text.split_ascii_whitespace().skip_while(|it| *it != word).nth(1).map(str::to_owned)
}

fn wait_for_mtu(lab: &Lab, side: Side, mtu: u16) {
    eventually("the MTU is found", FOUND, || route_mtu(lab, side) == Some(mtu.to_string()));
}

#[test]
fn a_transfer_outlives_a_black_hole() {
    let Some(lab) = Lab::behind_router(NARROW, TooLong::BlackHole) else { return };
    let _running = start(&lab, None);
    let segment = transfer(&lab, Side::A, 4 * MEBIBYTE);
    assert!(segment < u32::from(LEFT), "segments of {segment}");
    wait_for_mtu(&lab, Side::A, LEFT);
    // Without headers of IPv4 and TCP, and the latter's timestamps. The other end may know less of the way back.
    let segment = transfer(&lab, Side::A, MEBIBYTE);
    assert!(segment <= u32::from(LEFT) - 52, "segments of {segment} do not follow the route");
    // The other way a veth drops what is too long, without a word; it takes a little more than its MTU says.
    eventually("the way back is found narrow", FOUND, || route_mtu(&lab, Side::B).is_some());
    transfer(&lab, Side::B, 4 * MEBIBYTE);
}

#[test]
fn a_path_that_cuts_datagrams_is_known_for_what_it_is() {
    let Some(lab) = Lab::behind_router(NARROW, TooLong::AsItShould) else { return };
    let _running = start(&lab, None);
    transfer(&lab, Side::A, MEBIBYTE);
    wait_for_mtu(&lab, Side::A, LEFT);
}

#[test]
fn a_path_that_becomes_narrow_is_noticed() {
    let Some(lab) = Lab::behind_router(1500, TooLong::BlackHole) else { return };
    let _running = start(&lab, None);
    transfer(&lab, Side::A, MEBIBYTE);
    assert_eq!(route_mtu(&lab, Side::A), None, "what is usual needs no route");
    ip(&["-n", &lab.router(), "link", "set", "to-b", "mtu", &NARROW.to_string()]);
    transfer(&lab, Side::A, 4 * MEBIBYTE);
    wait_for_mtu(&lab, Side::A, LEFT);
}

#[test]
fn who_sends_too_much_is_told_how_much_passes() {
    let Some(mut lab) = Lab::behind_router(NARROW, TooLong::BlackHole) else { return };
    let behind = lab.add_host_behind_a();
    let _running = start(&lab, Some("10.88.0.0/24"));
    transfer(&lab, Side::A, MEBIBYTE);
    wait_for_mtu(&lab, Side::A, LEFT);
    // The kernel tells of the peer itself; of a subnet behind it, to which the route is somebody else's, the tunnel does.
    ip(&["-n", &lab.namespace(Side::A), "route", "add", "10.88.0.0/24", "dev", "cbnet0"]);
    for to in [Side::B.overlay().to_string(), "10.88.0.1".to_owned()] {
        let ping = ["netns", "exec", &behind, "ping", "-c", "1", "-W", "5", "-M", "do", "-s", "1300", &to];
        let output = std::process::Command::new("ip").args(ping).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(&format!("Frag needed and DF set (mtu = {LEFT})")), "to {to}: {said}");
    }
}

#[test]
fn jumbo_frames_are_used_where_both_ends_and_the_path_carry_them() {
    let Some(lab) = Lab::new() else { return };
    for side in [Side::A, Side::B] {
        ip(&["-n", &lab.namespace(side), "link", "set", "wire", "mtu", "9001"]);
    }
    let pair = Pair::new();
    let knows = |side| Peer { probes: true, ..pair.peer(side) };
    let _a = pair.start_ours(&lab, Side::A, &knows(Side::B));
    let _b = pair.start_ours(&lab, Side::B, &knows(Side::A));
    transfer(&lab, Side::A, MEBIBYTE);
    for side in [Side::A, Side::B] {
        wait_for_mtu(&lab, side, 8941);
        let link = lab.run(side, "ip", &["link", "show", "dev", "cbnet0"]);
        assert_eq!(word_after("mtu", &String::from_utf8_lossy(&link.stdout)), Some("8941".into()));
        let network = lab.run(side, "ip", &["route", "show", "exact", "10.77.0.0/24"]);
        let network = String::from_utf8_lossy(&network.stdout).into_owned();
        assert_eq!(word_after("mtu", &network), Some("1420".into()), "others get what is usual: {network}");
        assert_eq!(network.lines().count(), 1, "{network}");
    }
    let segment = transfer(&lab, Side::A, 16 * MEBIBYTE);
    assert!(segment > 8800, "segments of {segment}");

    // Routes that are gone with a state of the interface come back.
    let namespace = lab.namespace(Side::A);
    ip(&["-n", &namespace, "link", "set", "cbnet0", "down"]);
    ip(&["-n", &namespace, "link", "set", "cbnet0", "up"]);
    wait_for_mtu(&lab, Side::A, 8941);
}
