//! A network's rules as they are enforced: by the receiver, whoever sends, on flows that live, within the deadline.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cladnet_tests::{
    wait::eventually,
    world::{Servers, World, story},
};

use crate::{clouds, encryption::wire::inside};

/// For failing, not a target.
const SOON: Duration = Duration::from_secs(30);
/// For what is refused: that long nothing comes about.
const MOMENT: Duration = Duration::from_secs(1);
const SHOP: u16 = 5432;
const OTHER: u16 = 7000;
/// An address of a host beside those of its networks.
const HIDDEN: &str = "198.51.100.9";
/// One that is another machine's.
const BEYOND: &str = "198.51.100.77";
/// Counts what a host forwards for its peers.
const WATCH: &str = "table ip watch {
  chain forward {
    type filter hook forward priority 0
    iifname \"cbnet*\" counter
  }
}
";

const RULES: &str = "default_access: deny
rules:
  - { id: shop, kind: access, action: allow, from: role=web, to: role=db, protocol: tcp, ports: ['5432'] }
tests:
  - 'expect: role=web may reach role=db:5432'
  - 'expect: role=web may not reach role=db:7000'
";

/// `gcp-1` runs plain WireGuard, which knows of no rules and sends whatever it is given.
#[test]
fn a_receiver_enforces_rules_that_a_sender_does_not_know() {
    story(&clouds::overlapping(), Servers::One, |world| {
        raise(world)?;
        let db = world.address("prod", "aws-1")?;
        let shop = listen(world, "aws-1", SHOP)?;
        let _other = listen(world, "aws-1", OTHER)?;
        connect(world, "gcp-1", db, SHOP)?;
        connect(world, "gcp-1", db, OTHER)?;

        world.admin().run(["peer", "update", "prod", "aws-1", "--label", "role=db"])?;
        apply(world, RULES)?;
        eventually("the rules to be in force", SOON, || refuses(world, "gcp-1", db, OTHER))?;
        refuses(world, "gcp-1", db, SHOP)?;
        asks(world, "gcp-1", "aws-1:5432", "denied")?;

        // A label lets the peer in, and cuts it off again.
        world.admin().run(["peer", "update", "prod", "gcp-1", "--label", "role=web"])?;
        let mut kept = eventually("the label to let the peer in", SOON, || connect(world, "gcp-1", db, SHOP))?;
        refuses(world, "gcp-1", db, OTHER)?;
        asks(world, "gcp-1", "aws-1:5432", "allowed")?;
        let mut accepted = accept(&shop, &kept)?;
        carries(&mut kept, &mut accepted, SOON)?;
        world.admin().run(["peer", "update", "prod", "gcp-1", "--remove-label", "role"])?;
        eventually("the label's end to cut the peer off", SOON, || refuses(world, "gcp-1", db, SHOP))?;
        ensure!(carries(&mut kept, &mut accepted, 2 * MOMENT).is_err(), "a flow that the peer opened goes on");
        Ok(())
    });
}

/// The kernel takes packets for every address that it has, and forwards others where that is on.
#[test]
fn a_hostile_sender_reaches_nothing_but_its_receivers_own_address() {
    story(&clouds::overlapping(), Servers::One, |world| {
        raise(world)?;
        let (db, sender) = (world.vm("aws-1")?, world.vm("gcp-1")?);
        let overlay = world.address("prod", "aws-1")?;
        let _shop = listen(world, "aws-1", SHOP)?;
        db.run(["ip", "address", "add", HIDDEN, "dev", "lo"])?;
        db.run(["sysctl", "-w", "net.ipv4.ip_forward=1"])?;
        db.write_file("/tmp/watch.nft", WATCH.as_bytes(), 0o600)?;
        db.run(["nft", "-f", "/tmp/watch.nft"])?;

        // What is behind the receiver, as the sender has it.
        let allowed = sender.run(["wg", "show", "wg0", "allowed-ips"])?;
        let receiver = allowed.lines().find(|line| line.contains(&format!("{overlay}/32")));
        let key = receiver.and_then(|line| line.split_whitespace().next()).context("no such peer")?;
        let all = format!("{overlay}/32,{HIDDEN}/32,{BEYOND}/32");
        sender.run(["wg", "set", "wg0", "peer", key, "allowed-ips", &all])?;
        for address in [HIDDEN, BEYOND] {
            sender.run(["ip", "route", "add", address, "dev", "wg0"])?;
        }
        connect(world, "gcp-1", overlay, SHOP)?;
        for address in [HIDDEN, BEYOND] {
            refuses(world, "gcp-1", address.parse()?, SHOP)?;
        }
        let forwarded = db.run(["nft", "list", "table", "ip", "watch"])?;
        ensure!(forwarded.contains("packets 0 "), "{forwarded}");
        Ok(())
    });
}

#[test]
fn the_first_deny_cuts_what_peers_have_open() {
    story(&clouds::overlapping(), Servers::One, |world| {
        raise(world)?;
        let (db, plain) = (world.address("prod", "aws-1")?, world.address("prod", "gcp-1")?);
        let (shop, other) = (listen(world, "aws-1", SHOP)?, listen(world, "gcp-1", OTHER)?);
        let mut theirs = connect(world, "gcp-1", db, SHOP)?;
        let mut served = accept(&shop, &theirs)?;
        carries(&mut theirs, &mut served, SOON)?;
        let mut ours = connect(world, "aws-1", plain, OTHER)?;
        let mut answered = accept(&other, &ours)?;
        carries(&mut ours, &mut answered, SOON)?;

        apply(world, "default_access: deny\n")?;
        eventually("the rules to be in force", SOON, || refuses(world, "gcp-1", db, SHOP))?;
        served.write_all(b"more").context("our own end goes on speaking")?;
        ensure!(carries(&mut theirs, &mut served, 2 * MOMENT).is_err(), "a flow that a peer opened before goes on");
        carries(&mut answered, &mut ours, SOON).context("a flow that this host opened is cut")
    });
}

#[test]
fn what_a_host_asks_is_answered_whatever_the_rules_say() {
    story(&clouds::overlapping(), Servers::One, |world| {
        raise(world)?;
        let (db, plain) = (world.address("prod", "aws-1")?, world.address("prod", "gcp-1")?);
        let listener = listen(world, "gcp-1", OTHER)?;
        let _refused = listen(world, "aws-1", OTHER)?;
        apply(world, "default_access: deny\n")?;
        eventually("the rules to be in force", SOON, || refuses(world, "gcp-1", db, OTHER))?;

        let mut asked = connect(world, "aws-1", plain, OTHER)?;
        let mut accepted = accept(&listener, &asked)?;
        carries(&mut accepted, &mut asked, SOON)?;
        world.ping("aws-1", plain)?;
        world.never_reaches("gcp-1", db).context("a ping that nobody asked for arrives")?;
        closed_port_is_told(world, plain)?;

        apply(world, "default_access: deny\nrules: [{ kind: access, action: allow, protocol: icmp }]\n")?;
        world.ping_soon("gcp-1", db)?;
        carries(&mut accepted, &mut asked, SOON).context("a change of rules has cut what this host opened")
    });
}

#[test]
fn fragments_follow_the_fate_of_their_datagram() {
    story(&clouds::overlapping(), Servers::One, |world| {
        raise(world)?;
        let db = world.address("prod", "aws-1")?;
        let receiver = inside(&world.vm("aws-1")?, || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SHOP))?))?;
        receiver.set_read_timeout(Some(SOON))?;
        let sender = inside(&world.vm("gcp-1")?, || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        // Three fragments at least.
        let large = |byte: u8| vec![byte; 4000];
        let arrives = |byte: u8| -> Result<()> {
            sender.send_to(&large(byte), (db, SHOP))?;
            let mut buffer = vec![0; 8000];
            let len = receiver.recv(&mut buffer).context("nothing arrives")?;
            ensure!(buffer[..len] == large(byte), "{len} bytes of something else arrive");
            Ok(())
        };
        arrives(1)?;
        receiver.set_read_timeout(Some(MOMENT))?;
        apply(world, "default_access: deny\n")?;
        eventually("fragments to be refused", SOON, || {
            ensure!(arrives(2).is_err(), "they arrive");
            Ok(())
        })?;
        let allowed =
            "default_access: deny\nrules: [{ kind: access, action: allow, protocol: udp, ports: ['5432'] }]\n";
        apply(world, allowed)?;
        eventually("fragments to arrive", SOON, || arrives(3))
    });
}

#[test]
fn what_is_wrong_with_rules_is_told_and_those_in_force_stay() {
    story(&clouds::control_only(), Servers::One, |world| {
        world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
        apply(world, RULES)?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("rules.yaml");
        for (text, told) in [
            ("rules: [{ kind: access, action: allow, from: 'role in web' }]", "at character 9"),
            ("rules: [{ kind: access, action: allow, form: role=web }]", "form"),
            ("rules: [{ kind: advertise, prefix: 10.0.0.0/33, via: role=gw }]", "no CIDR"),
            ("tests: ['web reaches db']", "at character 1"),
        ] {
            fs::write(&file, text)?;
            let answer = world.admin().ask(["rule", "apply", "prod", "-f", &file.display().to_string()])?;
            ensure!(answer.code == 2 && answer.stderr.contains(told), "{text}: {answer:?}");
        }
        let listed = world.admin().run(["rule", "list", "prod"])?;
        ensure!(listed.contains("shop") && listed.contains("matches nobody now"), "{listed}");
        let rules = world.admin().json(["rule", "list", "prod"])?;
        ensure!(rules["generation"] == "1", "{rules}");

        // What is printed as a document is what is applied.
        fs::write(&file, world.admin().run(["rule", "list", "prod", "--document"])?)?;
        world.admin().run(["rule", "apply", "prod", "-f", &file.display().to_string()])?;
        ensure!(world.admin().json(["rule", "list", "prod"])?["generation"] == "1", "nothing has changed");
        world.admin().run([
            "rule",
            "add",
            "prod",
            "access",
            "--id",
            "ping",
            "--action",
            "allow",
            "--protocol",
            "icmp",
        ])?;
        world.admin().run(["rule", "remove", "prod", "ping"])?;
        let unknown = world.admin().ask(["rule", "remove", "prod", "ping"])?;
        ensure!(unknown.code == 3, "{unknown:?}");
        Ok(())
    });
}

/// A network of an agent, another one, and a machine with plain WireGuard.
fn raise(world: &World) -> Result<()> {
    world.admin().run(["network", "create", "prod", "--hosts", "10"])?;
    world.join_all(&["aws-1", "aws-2"], "prod")?;
    let file = world.admin().run(["peer", "export", "prod", "gcp-1"])?;
    let vm = world.vm("gcp-1")?;
    vm.write_file("/etc/wireguard/wg0.conf", file.as_bytes(), 0o600)?;
    vm.run(["wg-quick", "up", "wg0"]).context("wg-quick refused the file")?;
    world.wait_mesh("prod", &["aws-1", "aws-2", "gcp-1"])
}

pub(crate) fn apply(world: &World, rules: &str) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("rules.yaml");
    fs::write(&file, rules)?;
    world.admin().run(["rule", "apply", "prod", "-f", &file.display().to_string()]).map(drop)
}

/// Asks the service what the rules say.
fn asks(world: &World, from: &str, to: &str, verdict: &str) -> Result<()> {
    let answer = world.admin().ask(["rule", "test", "prod", from, to])?;
    ensure!(answer.stdout.starts_with(verdict), "{answer:?}");
    Ok(())
}

pub(crate) fn listen(world: &World, vm: &str, port: u16) -> Result<TcpListener> {
    let listener = inside(&world.vm(vm)?, || Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

pub(crate) fn connect(world: &World, from: &str, to: Ipv4Addr, port: u16) -> Result<TcpStream> {
    connect_within(world, from, to, port, SOON)
}

fn connect_within(world: &World, from: &str, to: Ipv4Addr, port: u16, patience: Duration) -> Result<TcpStream> {
    inside(&world.vm(from)?, || Ok(TcpStream::connect_timeout(&SocketAddr::from((to, port)), patience)?))
        .with_context(|| format!("{from} does not reach {to}:{port}"))
}

/// Holds if a connection does not come about, and `aws-1` has refused something meanwhile: a busy machine may be late.
fn refuses(world: &World, from: &str, to: Ipv4Addr, port: u16) -> Result<()> {
    let before = refused(world)?;
    ensure!(connect_within(world, from, to, port, MOMENT).is_err(), "{from} reaches {to}:{port}");
    ensure!(refused(world)? > before, "nothing from {from} to {to}:{port} was refused");
    Ok(())
}

/// The other end of a connection.
pub(crate) fn accept(listener: &TcpListener, of: &TcpStream) -> Result<TcpStream> {
    let wanted = of.local_addr()?;
    eventually("the connection to be accepted", SOON, || {
        loop {
            let (stream, from) = listener.accept().context("nobody has connected")?;
            if from == wanted {
                return Ok(stream);
            }
        }
    })
}

/// Holds if what one end writes arrives at the other.
pub(crate) fn carries(from: &mut TcpStream, to: &mut TcpStream, patience: Duration) -> Result<()> {
    to.set_nonblocking(false)?;
    to.set_read_timeout(Some(patience))?;
    from.write_all(b"goods")?;
    let mut read = [0; 5];
    to.read_exact(&mut read).context("nothing arrives")?;
    ensure!(&read == b"goods", "{read:?} arrives");
    Ok(())
}

/// Holds if the error about a datagram to a closed port reaches its sender.
fn closed_port_is_told(world: &World, to: Ipv4Addr) -> Result<()> {
    let socket = inside(&world.vm("aws-1")?, || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    socket.connect((to, 9))?;
    socket.set_read_timeout(Some(MOMENT))?;
    eventually("an error about a closed port", SOON, || {
        socket.send(b"anybody?").err();
        let error = socket.recv(&mut [0; 8]).err().context("somebody answers")?;
        ensure!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
        Ok(())
    })
}

fn refused(world: &World) -> Result<u64> {
    Ok(world.agent("aws-1", ["status"])?["discards"]["refused"].as_u64().unwrap_or_default())
}
