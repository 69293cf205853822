//! Delay, loss, black holes and captures of the WAN.

use std::time::Duration;

use cladnet_sandbox::LinkQuality;

use crate::support::{demo, eventually, one_vpc, pings, receive, round_trip_ms, sandbox, udp};

/// What the machine's load may add to the shortest of several round trips.
const TOLERANCE_MS: f64 = 3.0;

#[test]
fn a_round_trip_takes_twice_the_delay() {
    let sandbox = demo();
    let control = sandbox.vm("control").expect("it exists").public_address().expect("it has one");
    for (name, expected) in [("aws-1", 3.2), ("azure-2", 3.6), ("gcp-1", 150.0)] {
        let measured = round_trip_ms(&sandbox.vm(name).expect("it exists"), control);
        assert!((expected..expected + TOLERANCE_MS).contains(&measured), "{name}: {measured} ms, not {expected}");
    }
    let quality = LinkQuality { delay_ms: 20.0, ..LinkQuality::default() };
    sandbox.set_link("internet/seoul", "aws/ap-northeast-2", quality).expect("both sites exist");
    let measured = round_trip_ms(&sandbox.vm("aws-1").expect("it exists"), control);
    assert!((40.0..40.0 + TOLERANCE_MS).contains(&measured), "{measured} ms after the change");
}

#[test]
fn loss_takes_its_share_and_order_is_kept() {
    const SENT: usize = 4000;
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let quality = LinkQuality { delay_ms: 2.0, jitter_ms: 1.0, loss_percent: 20.0, blackhole: false };
    sandbox.set_link("aws/ap-northeast-2", "internet/seoul", quality).expect("both sites exist");
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let (sender, receiver) = (udp(&vm, 8055), udp(&out, 7000));
    let to = (out.public_address().expect("it has one"), 7000);
    let numbers: Vec<usize> = std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..SENT {
                sender.send_to(number.to_string().as_bytes(), to).expect("it is sent");
                if number % 20 == 0 {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
        });
        std::iter::from_fn(|| receive(&receiver)).map(|(text, _)| text.parse().expect("a number")).collect()
    });
    assert!(numbers.is_sorted(), "packets of one pair never overtake each other");
    let lost = (SENT - numbers.len()) as f64 / SENT as f64 * 100.0;
    // Five standard deviations of a binomial distribution.
    assert!((lost - 20.0).abs() < 3.2, "{lost} % were lost");
}

#[test]
fn what_one_way_loses_the_way_back_keeps() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let (home, away) = ("aws/ap-northeast-2", "internet/seoul");
    let open = sandbox.link(home, away).expect("both sites exist");
    let lossy = LinkQuality { loss_percent: 100.0, ..open };
    sandbox.set_link_one_way(home, away, lossy).expect("both sites exist");
    let links = [(home, away), (away, home)].map(|(from, to)| sandbox.link(from, to).expect("both sites exist"));
    assert_eq!(links, [lossy, open]);
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let (sender, receiver) = (udp(&out, 7000), udp(&vm, 8055));
    sender.send_to(b"there", (vm.public_address().expect("it has one"), 8055)).expect("it is sent");
    let (text, from) = receive(&receiver).expect("the way back is whole");
    assert_eq!(text, "there");
    receiver.send_to(b"back", from).expect("it is sent");
    assert!(receive(&sender).is_none());
    sandbox.set_link(home, away, open).expect("both sites exist");
    receiver.send_to(b"back", from).expect("it is sent");
    assert_eq!(receive(&sender).expect("both ways are whole").0, "back");
}

#[test]
fn a_black_hole_between_sites_swallows_everything_until_it_is_closed() {
    let sandbox = demo();
    let (gcp, control) = (sandbox.vm("gcp-1").expect("it exists"), sandbox.vm("control").expect("it exists"));
    let to = control.public_address().expect("it has one");
    let open = sandbox.link("gcp/us-central1", "internet/seoul").expect("both sites exist");
    sandbox.set_link("gcp/us-central1", "internet/seoul", LinkQuality { blackhole: true, ..open }).expect("they exist");
    assert!(!pings(&gcp, to));
    assert!(pings(&sandbox.vm("aws-1").expect("it exists"), to), "other pairs go on");
    sandbox.set_link("gcp/us-central1", "internet/seoul", open).expect("both sites exist");
    assert!(pings(&gcp, to));
    assert!(sandbox.set_link("gcp/nowhere", "internet/seoul", open).is_err());
}

#[test]
fn a_capture_holds_what_crossed_the_wan_and_nothing_later() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let (vm, out) = (sandbox.vm("vm").expect("it exists"), sandbox.vm("out-1").expect("it exists"));
    let (sender, receiver) = (udp(&vm, 8055), udp(&out, 7000));
    let send = |text: &str| {
        sender.send_to(text.as_bytes(), (out.public_address().expect("it has one"), 7000)).expect("it is sent");
        assert_eq!(receive(&receiver).expect("it arrives").0, text);
    };
    let file = sandbox.directory().join("capture.pcap");
    sandbox.start_capture(&file).expect("it can be captured");
    assert!(sandbox.start_capture(&file).is_err(), "one capture at a time");
    send("planted plaintext");
    sandbox.stop_capture().expect("it was started");
    send("after the end");
    let bytes = std::fs::read(&file).expect("the file is there");
    let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(contains("planted plaintext") && !contains("after the end"));
    let packets = std::process::Command::new("tcpdump").args(["-n", "-r"]).arg(&file).output().expect("tcpdump runs");
    let text = String::from_utf8_lossy(&packets.stdout).into_owned();
    assert!(text.contains(".8055 > 203.0.113.1.7000"), "{text}");
}

#[test]
fn what_does_not_belong_on_the_wan_is_dropped_and_counted() {
    let sandbox = sandbox(&one_vpc("  - { name: vm, vpc: home, subnet: one }"));
    let vm = sandbox.vm("vm").expect("it exists");
    let before = sandbox.wan_statistics().expect("the WAN runs");
    assert_eq!(before.foreign_source, 0, "an idle WAN is silent");
    assert!(!pings(&vm, "192.0.2.250"), "an address of nobody");
    eventually("unroutable packets are counted", || {
        sandbox.wan_statistics().expect("the WAN runs").unroutable >= before.unroutable + 3
    });
    let out = sandbox.vm("out-1").expect("it exists");
    out.run(["ip", "address", "add", "198.51.100.77/32", "dev", "eth0"]).expect("it may");
    let spoofed = out.exec(["ping", "-c1", "-W1", "-I", "198.51.100.77", "203.0.113.2"]).expect("ping runs");
    assert!(!spoofed.status.success());
    assert!(sandbox.wan_statistics().expect("the WAN runs").foreign_source > before.foreign_source);
}
