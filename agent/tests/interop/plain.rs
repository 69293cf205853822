//! Our plain interface where `wireguard-go` could stand: the same `wg`, the same words.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use cladnet_tunnel::{PresharedKey, PrivateKey};

use crate::lab::{Lab, Side, eventually};

mod interface;

use interface::{Background, Interface, PORT, Program, answer};

/// Less than WireGuard's own retry takes.
const SOON: Duration = Duration::from_secs(4);

fn number(text: &str) -> u64 {
    text.parse().unwrap()
}

#[test]
fn both_families_pass_between_ours_and_wireguard_go_either_way() {
    for programs in [[Program::Ours, Program::WireguardGo], [Program::WireguardGo, Program::Ours]] {
        let Some(lab) = Lab::new() else { return };
        let [a, b] = Interface::pair(&lab, programs);
        for (from, to) in [(&a, "2"), (&b, "1")] {
            eventually("IPv4 passes", SOON, || from.pings(&format!("10.77.0.{to}")));
            assert!(from.pings(&format!("fd77::{to}")), "IPv6 passes");
        }
    }
}

#[test]
fn wg_reads_back_what_it_set_as_from_wireguard_go() {
    let Some(lab) = Lab::new() else { return };
    let [a, b] = [(Side::A, Program::Ours), (Side::B, Program::WireguardGo)]
        .map(|(side, program)| Interface::start(&lab, side, program));
    let [first, second] = [(); 2].map(|()| PrivateKey::generate(&mut rand::rng()));
    let preshared_key = PresharedKey::generate(&mut rand::rng()).reveal().to_string();
    let section = |key: &PrivateKey, more: &str| format!("[Peer]\nPublicKey = {}\n{more}", key.public_key());
    let told = [&a, &b].map(|it| {
        let peers = [
            section(
                &first,
                &format!(
                    "PresharedKey = {preshared_key}\nAllowedIPs = 10.1.0.0/16, fd01::/64\nPersistentKeepalive = 25\n"
                ),
            ),
            section(&second, "Endpoint = [fd00:2::9]:9\nAllowedIPs = 10.2.0.0/16\n"),
        ];
        let text = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {PORT}\nFwMark = 0xca6c\n{}",
            *it.key.reveal(),
            peers.concat()
        );
        it.set_file("setconf", &text);
        it.ip(&["link", "set", &it.name, "up"]);
        eventually("it is up", SOON, || it.rows()[0][2] == PORT.to_string());
        let mut rows = it.rows();
        rows[0].drain(..2);
        // What they have said by then is their own affair.
        rows[1..].iter_mut().for_each(|row| drop(row.drain(4..7)));
        rows[1..].sort();
        (rows, it.wg(&["showconf", &it.name]).replace(&*it.key.reveal(), "ITS KEY"))
    });
    assert_eq!(told[0].0, told[1].0);
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&told[0].1), lines(&told[1].1));

    a.set_file("syncconf", &a.file(&[section(&second, "AllowedIPs = 10.2.0.0/16, 10.1.0.0/16\n")]));
    let rows = a.rows();
    assert_eq!(rows.len(), 2, "the first is gone");
    assert_eq!(rows[1][2..4], ["[fd00:2::9]:9", "10.1.0.0/16,10.2.0.0/16"]);
    a.set(&["peer", &second.public_key().to_string(), "remove"]);
    assert_eq!(a.rows().len(), 1);
}

#[test]
fn both_ends_count_the_same() {
    for programs in [[Program::Ours, Program::Ours], [Program::Ours, Program::WireguardGo]] {
        let Some(lab) = Lab::new() else { return };
        let [a, b] = Interface::pair(&lab, programs);
        eventually("a session", SOON, || a.pings("10.77.0.2"));
        // What was sent before the other end had heard that it is up, only one has counted.
        let counted = || [&a, &b].map(|it| it.peer()).map(|peer| [5, 6].map(|field| number(&peer[field])));
        let before = counted();
        for _ in 0..5 {
            assert!(a.pings("10.77.0.2") && b.pings("fd77::1"));
        }
        eventually("both ends agree", SOON, || {
            let now = counted();
            let [a, b] = [0, 1].map(|end| [0, 1].map(|way: usize| now[end][way] - before[end][way]));
            a[0] == b[1] && a[1] == b[0] && a[0] > 1000
        });
        let handshakes = [&a, &b].map(|it| number(&it.peer()[4]));
        assert!(handshakes[0].abs_diff(handshakes[1]) <= 1, "{handshakes:?}");
        a.ip(&["link", "set", &a.name, "down"]);
        eventually("the other end hears nothing", SOON, || !b.pings("10.77.0.1"));
        let before = a.peer();
        assert!(!b.pings("10.77.0.1"));
        assert_eq!(a.peer()[5..7], before[5..7], "who is down neither hears nor forgets");
        a.ip(&["link", "set", &a.name, "up"]);
        eventually("it is back", SOON, || a.pings("10.77.0.2"));
        assert!(number(&a.peer()[5]) > number(&before[5]));
    }
}

#[test]
fn an_allowed_ip_moves_between_peers_with_sessions() {
    let Some(lab) = Lab::new() else { return };
    let [a, b] = Interface::pair(&lab, [Program::Ours, Program::WireguardGo]);
    eventually("a session", SOON, || a.pings("10.77.0.2"));
    let other = PrivateKey::generate(&mut rand::rng()).public_key().to_string();
    let handshake = a.peer()[4].clone();
    a.set(&["peer", &other, "allowed-ips", "10.77.0.2/32"]);
    assert!(!a.pings("10.77.0.2"), "it is another's now");
    assert!(a.pings("fd77::2"), "which the other prefix does not notice");
    a.set(&["peer", &b.public_key(), "allowed-ips", "10.77.0.2/32,fd77::2/128"]);
    assert!(a.pings("10.77.0.2"));
    let rows = a.rows();
    let row = |key: &str| rows.iter().find(|row| row[0] == key).unwrap();
    assert_eq!(row(&other)[3], "(none)");
    assert_eq!(row(&b.public_key())[4], handshake, "all on one session");
    let hex = data_encoding::HEXLOWER.encode(b.key.public_key().as_bytes());
    let removed = a.ask(&format!("set=1\npublic_key={hex}\nupdate_only=true\nallowed_ip=-10.77.0.2/32\n\n"));
    assert_eq!(removed, "errno=0\n\n");
    assert!(!a.pings("10.77.0.2") && a.pings("fd77::2"));
}

#[test]
fn a_preshared_key_changes_without_losing_the_session() {
    let Some(lab) = Lab::new() else { return };
    let [a, b] = Interface::pair(&lab, [Program::Ours, Program::WireguardGo]);
    eventually("a session", SOON, || a.pings("10.77.0.2"));
    let handshake = number(&a.peer()[4]);
    let key = lab.path("preshared");
    fs::write(&key, &*PresharedKey::generate(&mut rand::rng()).reveal()).unwrap();
    for (it, other) in [(&a, &b), (&b, &a)] {
        it.set(&["peer", &other.public_key(), "preshared-key", key.to_str().unwrap()]);
        assert!(a.pings("10.77.0.2") && b.pings("10.77.0.1"));
    }
    assert_eq!(number(&a.peer()[4]), handshake, "over the session there was");
    assert_eq!(a.peer()[1], fs::read_to_string(&key).unwrap());
    // The other end forgets the session, so that a handshake has to agree on the key.
    b.ip(&["link", "set", &b.name, "down"]);
    b.ip(&["link", "set", &b.name, "up"]);
    eventually("a session with the new key", Duration::from_secs(15), || b.pings("10.77.0.1"));
    assert!(number(&a.peer()[4]) >= handshake);
}

#[test]
fn a_mark_is_on_what_is_sent_and_survives_another_port() {
    let Some(lab) = Lab::new() else { return };
    let [a, _b] = Interface::pair(&lab, [Program::Ours, Program::Ours]);
    let rules = "add table ip t; add chain ip t out { type filter hook output priority 0 ; }
        add rule ip t out oifname wire udp dport 51820 meta mark 0x1234 counter name marked";
    let rules = rules.replace("add rule", "add counter ip t marked ; add rule");
    assert!(lab.run(Side::A, "nft", &[&rules]).status.success());
    let marked = || {
        let output = lab.run(Side::A, "nft", &["list", "counter", "ip", "t", "marked"]).stdout;
        let text = String::from_utf8(output).unwrap();
        let mut words = text.split_ascii_whitespace().skip_while(|word| *word != "packets");
        number(words.nth(1).unwrap())
    };
    eventually("a session", SOON, || a.pings("10.77.0.2"));
    assert_eq!(marked(), 0);
    a.set(&["fwmark", "0x1234"]);
    assert_eq!(a.rows()[0][3], "0x1234");
    assert!(a.pings("10.77.0.2"));
    let first = marked();
    assert!(first > 0);
    a.set(&["listen-port", "51999"]);
    assert!(a.pings("10.77.0.2"));
    let second = marked();
    assert!(second > first);
    a.set(&["fwmark", "0"]);
    assert!(a.pings("10.77.0.2"));
    assert_eq!((marked(), a.rows()[0][3].as_str()), (second, "off"));
}

#[test]
fn a_port_changes_under_a_living_session() {
    let Some(lab) = Lab::new() else { return };
    let [a, b] = Interface::pair(&lab, [Program::Ours, Program::WireguardGo]);
    eventually("a session", SOON, || a.pings("10.77.0.2"));
    let handshake = a.peer()[4].clone();
    a.set(&["listen-port", "51999"]);
    assert!(a.pings("10.77.0.2"), "the answer comes to the new port");
    assert_eq!((b.peer()[2].as_str(), a.peer()[4].as_str()), ("192.0.2.1:51999", handshake.as_str()));
    assert!(b.pings("10.77.0.1"));

    let taken = lab.inside(Side::A, || std::net::UdpSocket::bind("0.0.0.0:52000")).join().unwrap();
    let refused = lab.run(Side::A, "wg", &["set", &a.name, "listen-port", "52000"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Address already in use"), "{refused:?}");
    assert_eq!(a.rows()[0][2], "51999");
    assert!(b.pings("10.77.0.1"), "on the port it had");
    drop(taken);
    a.set(&["listen-port", "0"]);
    assert!(!["0", "51999"].contains(&a.rows()[0][2].as_str()));
    assert!(a.pings("10.77.0.2"));
}

#[test]
fn another_private_key_keeps_peers_and_counters() {
    let Some(lab) = Lab::new() else { return };
    let [mut a, b] = Interface::pair(&lab, [Program::Ours, Program::WireguardGo]);
    eventually("a session", SOON, || a.pings("10.77.0.2"));
    let before = a.peer();
    let old = std::mem::replace(&mut a.key, PrivateKey::generate(&mut rand::rng())).public_key().to_string();
    fs::write(lab.path("key"), &*a.key.reveal()).unwrap();
    a.set(&["private-key", lab.path("key").to_str().unwrap()]);
    assert_eq!(a.rows()[0][1], a.public_key());
    assert_eq!(a.peer()[..7], before[..7]);
    assert!(!a.pings("10.77.0.2"), "nobody knows it yet");
    b.set(&["peer", &old, "remove", "peer", &a.public_key(), "allowed-ips", "10.77.0.1/32,fd77::1/128"]);
    eventually("a session under the new key", Duration::from_secs(15), || a.pings("10.77.0.2"));
    a.set(&["private-key", "/dev/null"]);
    assert_eq!(a.rows()[0][..2], ["(none)", "(none)"]);
    assert!(!a.pings("10.77.0.2"), "without a key there is no tunnel");
}

#[test]
fn the_mtu_is_followed() {
    let Some(lab) = Lab::new() else { return };
    let [a, b] = Interface::pair(&lab, [Program::Ours, Program::WireguardGo]);
    let mtu = lab.run(Side::A, "ip", &["-o", "link", "show", &a.name]).stdout;
    assert!(String::from_utf8_lossy(&mtu).contains(" mtu 1420 "));
    for it in [&a, &b] {
        it.ip(&["link", "set", "wire", "mtu", "9000"]);
        it.ip(&["link", "set", &it.name, "mtu", "8000"]);
    }
    // One datagram a packet: an echo of full length, which must not be fragmented, says that both ends carry it.
    let full = || lab.run(Side::A, "ping", &["-c", "1", "-W", "1", "-M", "do", "-s", "7972", "10.77.0.2"]);
    eventually("packets of full length pass", SOON, || full().status.success());
}

/// The three ways to end it, each of which takes interface and socket away.
#[test]
fn it_ends_with_its_interface_with_its_socket_and_when_told() {
    for end in ["link", "socket", "TERM", "INT"] {
        let Some(lab) = Lab::new() else { return };
        let mut a = Interface::start(&lab, Side::A, Program::Ours);
        let socket = fs::metadata(a.socket()).unwrap();
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
        match end {
            "link" => a.ip(&["link", "del", &a.name]),
            "socket" => fs::remove_file(a.socket()).unwrap(),
            signal => assert!(
                lab.run(Side::A, "kill", &[&format!("-{signal}"), &a.process.id().to_string()]).status.success()
            ),
        }
        eventually("the program ends", SOON, || a.process.is_over());
        assert!(!a.exists() && !a.socket().exists(), "{end}");
    }
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let agent = env!("CARGO_BIN_EXE_cladnet-agent");
    let refusal = |side: Side, name: &str| {
        let output = lab.run(side, agent, &["wireguard", name]);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let wire = refusal(Side::A, "wire");
    assert!(wire.contains("interface wire exists already"), "{wire}");
    let a = Interface::start(&lab, Side::A, Program::Ours);
    let again = refusal(Side::A, &a.name);
    assert!(again.contains("exists already"), "{again}");
    let elsewhere = refusal(Side::B, &a.name);
    assert!(elsewhere.contains("answers already"), "{elsewhere}");
    assert!(!lab.run(Side::B, "ip", &["link", "show", &a.name]).status.success(), "nothing is left of it");
    assert_eq!(a.rows().len(), 1, "and the first one goes on");
}

#[test]
fn a_killed_one_is_replaced() {
    let Some(lab) = Lab::new() else { return };
    let a = Interface::start(&lab, Side::A, Program::Ours);
    let socket = a.socket();
    let name = a.name.clone();
    let pid = a.process.id().to_string();
    assert!(lab.run(Side::A, "kill", &["-KILL", &pid]).status.success());
    eventually("the interface is gone", SOON, || !a.exists());
    assert!(socket.exists(), "it had no time to take its socket away");
    let started = lab.run(Side::A, env!("CARGO_BIN_EXE_cladnet-agent"), &["wireguard", &name]);
    assert!(started.status.success(), "{started:?}");
    a.ip(&["link", "del", &name]);
    eventually("the socket is gone", SOON, || !socket.exists());
}

#[test]
fn in_the_background_it_answers_at_once_and_holds_nobody() {
    let Some(lab) = Lab::new() else { return };
    let name = format!("p{}a", lab.id);
    let program = lab.path("cladnet-wireguard");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cladnet-agent"), &program).unwrap();
    let background = Background::of(&name);
    // `output` reads to the end of both streams: what goes on in the background must have let go of them.
    let started = lab.run(Side::A, program.to_str().unwrap(), &[&name]);
    assert!(started.status.success() && started.stdout.is_empty() && started.stderr.is_empty(), "{started:?}");
    let shown = lab.run(Side::A, "wg", &["show", &name, "listen-port"]);
    assert!(shown.status.success());
    assert!(lab.run(Side::A, "ip", &["link", "del", &name]).status.success());
    eventually("the socket is gone", SOON, || background.is_over());
}

#[test]
fn wg_quick_raises_and_lowers_it() {
    let Some(lab) = Lab::new() else { return };
    let b = Interface::start(&lab, Side::B, Program::WireguardGo);
    let key = PrivateKey::generate(&mut rand::rng());
    let peer = format!("[Peer]\nPublicKey = {}\nAllowedIPs = 10.77.0.1/32, fd77::1/128\n", key.public_key());
    b.set_file("setconf", &b.file(&[peer]));
    b.raise();
    let name = format!("p{}a", lab.id);
    let file = lab.path(&format!("{name}.conf"));
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.77.0.1/24, fd77::1/64\nMTU = 1380\n\
         [Peer]\nPublicKey = {}\nAllowedIPs = 10.77.0.0/24, fd77::/64, 203.0.113.0/24\nEndpoint = 192.0.2.2:{PORT}\n",
        *key.reveal(),
        b.public_key()
    );
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cladnet-agent"), lab.path("cladnet-wireguard")).unwrap();
    let quick = quick_without_kernel(&lab);
    let file = file.to_str().unwrap();
    let run = |what: &str| {
        let mut command = lab.command(Side::A, "unshare");
        let output = command
            .args(["--mount", "sh", "-c", "mount -t tmpfs none /sys/module && exec \"$@\"", "sh", &quick, what, file])
            .env("WG_QUICK_USERSPACE_IMPLEMENTATION", "cladnet-wireguard")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "wg-quick {what}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let pings = |address: &str| lab.run(Side::A, "ping", &["-c", "1", "-W", "2", address]).status.success();
    let background = Background::of(&name);
    run("up");
    eventually("IPv4 passes", SOON, || pings("10.77.0.2"));
    assert!(pings("fd77::2"));
    let route = lab.run(Side::A, "ip", &["route", "get", "203.0.113.9"]).stdout;
    assert!(String::from_utf8_lossy(&route).contains(&name));
    run("down");
    assert!(!lab.run(Side::A, "ip", &["link", "show", &name]).status.success());
    eventually("the socket is gone", SOON, || background.is_over());
    // All there is goes through the tunnel but the tunnel itself, which the mark keeps out.
    let everything =
        fs::read_to_string(file).unwrap().replace("10.77.0.0/24, fd77::/64, 203.0.113.0/24", "0.0.0.0/0, ::/0");
    fs::write(file, everything).unwrap();
    run("up");
    eventually("it is back", SOON, || pings("10.77.0.2"));
    assert!(pings("fd77::2"));
    let route = lab.run(Side::A, "ip", &["route", "get", "198.51.100.1"]).stdout;
    assert!(String::from_utf8_lossy(&route).contains(&name));
    run("down");
}

/// `wg-quick` prefers the kernel's WireGuard, where there is one: beside the copy that is returned stands an `ip` that
/// knows of none.
fn quick_without_kernel(lab: &Lab) -> String {
    let copy = lab.path("wg-quick");
    fs::copy("/usr/bin/wg-quick", &copy).unwrap();
    let ip = lab.path("ip");
    let script = "#!/bin/sh\ncase \"$*\" in 'link add '*' type wireguard') echo 'Unknown device type.' >&2; exit 2;; esac\n\
                  PATH=/usr/sbin:/usr/bin:/sbin:/bin exec ip \"$@\"\n";
    fs::write(&ip, script).unwrap();
    fs::set_permissions(&ip, fs::Permissions::from_mode(0o755)).unwrap();
    copy.to_str().unwrap().to_owned()
}

#[test]
fn a_thousand_peers_are_set_and_shown() {
    let Some(lab) = Lab::new() else { return };
    let a = Interface::start(&lab, Side::A, Program::Ours);
    a.set_file("setconf", &a.file(&[]));
    a.raise();
    eventually("it is up", SOON, || lab.run(Side::A, "ip", &["link", "show", &a.name, "up"]).stdout.len() > 1);
    let mut rng = rand::rng();
    let keys: Vec<String> = (0..1000)
        .map(|_| PrivateKey::generate(&mut rng).public_key())
        .map(|key| data_encoding::HEXLOWER.encode(key.as_bytes()))
        .collect();
    let request: String = keys
        .iter()
        .enumerate()
        .map(|(n, key)| {
            let (high, low) = (n / 250, n % 250);
            format!("public_key={key}\nendpoint=192.0.2.9:{}\nreplace_allowed_ips=true\nallowed_ip=10.78.{high}.{low}/32\nallowed_ip=fd78::{n:x}/128\n", 1000 + n)
        })
        .collect();
    let timed = |request: &str| {
        let start = Instant::now();
        assert_eq!(a.ask(request), "errno=0\n\n");
        start.elapsed()
    };
    let first = timed(&format!("set=1\nreplace_peers=true\n{request}\n"));
    let again = timed(&format!("set=1\n{request}\n"));
    let start = Instant::now();
    let rows = a.rows();
    println!("1,000 peers set in {first:?}, again in {again:?}, shown in {:?}", start.elapsed());
    assert_eq!(rows.len(), 1001);
    assert!(rows[1..].iter().all(|row| row[3].split(',').count() == 2));
}

/// More callers than are heard at once, of whom none says a word.
#[test]
fn a_crowd_that_says_nothing_is_sent_away() {
    let Some(lab) = Lab::new() else { return };
    let a = Interface::start(&lab, Side::A, Program::Ours);
    let mut crowd: Vec<UnixStream> = (0..40).map(|_| a.connect()).collect();
    let mut heard = a.connect();
    // They have ten seconds each, and those who found no place at first have theirs after that.
    heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(answer(&mut heard, "get=1\n\n").ends_with("errno=0\n\n"));
    assert!(crowd.iter_mut().any(|caller| caller.read_to_end(&mut Vec::new()).is_ok()));
}

#[test]
fn callers_who_say_nothing_too_much_or_nonsense_harm_nobody() {
    let Some(lab) = Lab::new() else { return };
    let a = Interface::start(&lab, Side::A, Program::Ours);
    let silent: Vec<UnixStream> = (0..20).map(|_| a.connect()).collect();
    let mut endless = a.connect();
    let refused = answer(&mut endless, &"x".repeat(1 << 16));
    assert_eq!(refused, format!("errno=-{}\n\n", libc::EMSGSIZE));
    let mut patient = a.connect();
    for (request, errno) in [
        ("nonsense\n\n", libc::EPROTO),
        ("set=1\nlisten_port=nonsense\n\n", libc::EINVAL),
        ("set=1\nnonsense\n\n", libc::EPROTO),
        ("get=1\nset=1\n\n", libc::EINVAL),
    ] {
        assert_eq!(answer(&mut patient, request), format!("errno=-{errno}\n\n"), "{request}");
    }
    assert!(answer(&mut patient, "get=1\n\n").ends_with("errno=0\n\n"), "the same caller may go on");
    assert_eq!(a.rows().len(), 1, "and others are heard beside it");
    drop(silent);
}
