//! The nftables table as text for `nft -f -`. Pure: equal gateways give equal text. It takes the table away and makes it
//! anew in one transaction, so that no packet meets half of it; flows keep the translation that they began with.

use std::fmt::Write as _;

use ipnet::Ipv4Net;

use super::Gateway;

/// Family and name of the table. Everything in it is ours.
pub(super) const TABLE: &str = "ip cladnet";

/// The table for these gateways; without any there is none.
pub(super) fn ruleset(gateways: &[Gateway], keeps_sources: bool) -> String {
    // Declaring it first makes the deletion succeed where there is none.
    let mut text = format!("table {TABLE}\ndelete table {TABLE}\n");
    if gateways.is_empty() {
        return text;
    }
    let mut chains = [
        ("prerouting", "nat", "dstnat", String::new()),
        ("forward", "filter", "filter", String::new()),
        ("postrouting", "nat", "srcnat", String::new()),
    ];
    for gateway in gateways {
        let [(.., to_real), (.., forward), (.., from_host)] = &mut chains;
        to_real.push_str(&mapped_destinations(gateway));
        // A host behind us knows nothing of the tunnel's MTU, and its cloud may drop the message that would tell it.
        let _ = writeln!(
            forward,
            "    oifname \"{}\" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu",
            gateway.interface
        );
        if !keeps_sources {
            from_host.push_str(&masqueraded(gateway));
        }
        from_host.push_str(&mapped_sources(gateway));
    }
    let _ = writeln!(text, "table {TABLE} {{");
    for (name, kind, priority, rules) in chains {
        let _ = writeln!(text, "  chain {name} {{\n    type {kind} hook {name} priority {priority}; policy accept;");
        let _ = writeln!(text, "{rules}  }}");
    }
    text.push_str("}\n");
    text
}

/// What the others know by another prefix gets its own addresses.
fn mapped_destinations(gateway: &Gateway) -> String {
    let map = gateway.subnets.iter().filter(|subnet| subnet.is_mapped());
    let map: Vec<_> = map.map(|subnet| format!("{} : {}", subnet.prefix, subnet.real)).collect();
    match map.as_slice() {
        [] => String::new(),
        map => {
            let (interface, map) = (&gateway.interface, map.join(", "));
            format!("    iifname \"{interface}\" dnat ip prefix to ip daddr map {{ {map} }}\n")
        }
    }
}

/// What comes from the network takes this host's address on, so that the subnet needs no route back.
fn masqueraded(gateway: &Gateway) -> String {
    let to: Vec<_> = gateway.subnets.iter().filter(|subnet| subnet.snat).map(|subnet| subnet.real).collect();
    match to.as_slice() {
        [] => String::new(),
        to => format!("    ip saddr {} ip daddr {} masquerade\n", set(&gateway.sources), set(to)),
    }
}

/// What a mapped subnet sends of its own accord is known by the other prefix as well; by the first, where it has several.
fn mapped_sources(gateway: &Gateway) -> String {
    let mapped: Vec<_> = gateway.subnets.iter().filter(|subnet| subnet.is_mapped()).collect();
    let overlap = |one: &Ipv4Net, other: &Ipv4Net| one.contains(other) || other.contains(one);
    let is_first = |place: usize| !mapped[..place].iter().any(|before| overlap(&before.real, &mapped[place].real));
    let map = mapped.iter().enumerate().filter(|(place, _)| is_first(*place));
    let map: Vec<_> = map.map(|(_, subnet)| format!("{} : {}", subnet.real, subnet.prefix)).collect();
    match map.as_slice() {
        [] => String::new(),
        map => {
            let (interface, map) = (&gateway.interface, map.join(", "));
            format!("    oifname \"{interface}\" snat ip prefix to ip saddr map {{ {map} }}\n")
        }
    }
}

/// Aggregated: nft refuses intervals that overlap.
fn set(prefixes: &[Ipv4Net]) -> String {
    let prefixes: Vec<_> = Ipv4Net::aggregate(&prefixes.to_vec()).iter().map(ToString::to_string).collect();
    format!("{{ {} }}", prefixes.join(", "))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;
    use crate::subnets::Subnet;

    fn prefix(text: &str) -> Ipv4Net {
        text.parse().expect("a prefix")
    }

    fn gateway() -> Gateway {
        let subnet = |known_as: &str, real: &str, snat| Subnet { prefix: prefix(known_as), real: prefix(real), snat };
        Gateway {
            interface: "cbnet0".into(),
            sources: vec![prefix("10.77.0.0/16"), prefix("172.16.0.0/24")],
            subnets: vec![
                subnet("10.1.0.0/16", "10.1.0.0/16", true),
                subnet("10.200.0.0/16", "10.2.0.0/16", true),
                subnet("192.168.0.0/24", "192.168.0.0/24", false),
                subnet("10.201.0.0/24", "10.2.0.0/24", true),
            ],
        }
    }

    #[test]
    fn without_gateways_the_table_is_taken_away() {
        assert_eq!(ruleset(&[], false), "table ip cladnet\ndelete table ip cladnet\n");
    }

    #[test]
    fn what_is_translated_is_what_was_asked_for() {
        let text = ruleset(&[gateway()], false);
        for line in [
            "iifname \"cbnet0\" dnat ip prefix to ip daddr map { 10.200.0.0/16 : 10.2.0.0/16, 10.201.0.0/24 : 10.2.0.0/24 }",
            "ip saddr { 10.77.0.0/16, 172.16.0.0/24 } ip daddr { 10.1.0.0/16, 10.2.0.0/16 } masquerade",
            "oifname \"cbnet0\" snat ip prefix to ip saddr map { 10.2.0.0/16 : 10.200.0.0/16 }",
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "{line} is not in\n{text}");
        }
        assert!(!ruleset(&[gateway()], true).contains("masquerade"));
    }

    #[test]
    fn nft_takes_it_again_and_again() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            eprintln!("NOT RUN: this test needs root");
            return;
        }
        let second = Gateway { interface: "cbnet1".into(), ..gateway() };
        let text = ruleset(&[gateway(), second], false);
        let mut child = Command::new("unshare")
            .args(["--net", "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare and nft are there");
        let twice = format!("{text}{text}{}", ruleset(&[], false));
        child.stdin.take().expect("is piped").write_all(twice.as_bytes()).expect("nft reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
}
