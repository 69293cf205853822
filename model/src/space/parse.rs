//! Reading the address space of a network from text, with an answer to everything that is not one.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::capacity;

/// The private blocks of RFC 1918, largest first; networks live in them and nowhere else.
pub const PRIVATE_BLOCKS: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// A network of one host is none.
const LEAST_HOSTS: u32 = 2;

const ALLOWED: &str = "use a range inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16";

/// Why a text is no address space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressSpaceError {
    #[error("is empty; use a CIDR such as 10.64.0.0/16")]
    Empty,
    #[error("is {0:?}, which is no CIDR; use an address and a prefix length, such as 10.64.0.0/16")]
    Malformed(String),
    #[error("is {0:?}, which is IPv6; {ALLOWED}")]
    Ipv6(String),
    #[error("has host bits set: {given} lies in {right}; use that or another network address")]
    HostBits { given: Ipv4Net, right: Ipv4Net },
    #[error("is {given}, larger than the private block {block} in it; {ALLOWED}")]
    TooLarge { given: Ipv4Net, block: Ipv4Net },
    #[error("is {given}, which is {what}; {ALLOWED}")]
    NotPrivate { given: Ipv4Net, what: &'static str },
    #[error(
        "is {given}, which has room for {hosts} hosts, and a network needs {LEAST_HOSTS}; use /30 or a shorter prefix"
    )]
    TooSmall { given: Ipv4Net, hosts: u32 },
}

/// Reads an address space: an IPv4 CIDR in its one right spelling, private, with room for at least two hosts.
pub fn parse(text: &str) -> Result<Ipv4Net, AddressSpaceError> {
    let given = parse_cidr(text)?;
    if given.addr() != given.network() {
        return Err(AddressSpaceError::HostBits { given, right: given.trunc() });
    }
    if !PRIVATE_BLOCKS.iter().any(|block| block.contains(&given)) {
        let inside = PRIVATE_BLOCKS.into_iter().find(|block| given.contains(block));
        return Err(match inside {
            Some(block) => AddressSpaceError::TooLarge { given, block },
            None => AddressSpaceError::NotPrivate { given, what: what_it_is(given) },
        });
    }
    match capacity(given) {
        hosts if hosts < LEAST_HOSTS => Err(AddressSpaceError::TooSmall { given, hosts }),
        _ => Ok(given),
    }
}

/// Reads any IPv4 CIDR; of spellings such as `010.0.0.0/08`, which others read otherwise, none passes.
fn parse_cidr(text: &str) -> Result<Ipv4Net, AddressSpaceError> {
    /// More of a wrong text than this helps nobody.
    const SHOWN: usize = 60;
    let shown = || text.chars().take(SHOWN).collect();
    if text.is_empty() {
        return Err(AddressSpaceError::Empty);
    }
    match text.parse::<IpNet>() {
        Ok(IpNet::V4(net)) if net.to_string() == text => Ok(net),
        Ok(IpNet::V6(_)) => Err(AddressSpaceError::Ipv6(shown())),
        Err(_) if text.parse::<Ipv6Addr>().is_ok() => Err(AddressSpaceError::Ipv6(shown())),
        _ => Err(AddressSpaceError::Malformed(shown())),
    }
}

/// What a range outside the private blocks is, for the person who tried it.
fn what_it_is(net: Ipv4Net) -> &'static str {
    const SPECIAL: [(Ipv4Net, &str); 11] = [
        (block(0, 0, 8), "\"this network\" (0.0.0.0/8)"),
        (block(100, 64, 10), "carrier-grade NAT space (100.64.0.0/10), used inside some clouds"),
        (block(127, 0, 8), "loopback space (127.0.0.0/8)"),
        (block(169, 254, 16), "link-local space (169.254.0.0/16), used by instance metadata"),
        (Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 0, 0), 24), "reserved by the IETF (192.0.0.0/24)"),
        (Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24), "reserved for documentation (192.0.2.0/24)"),
        (block(198, 18, 15), "reserved for benchmarks (198.18.0.0/15)"),
        (Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24), "reserved for documentation (198.51.100.0/24)"),
        (Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24), "reserved for documentation (203.0.113.0/24)"),
        (block(224, 0, 4), "multicast space (224.0.0.0/4)"),
        (block(240, 0, 4), "reserved space (240.0.0.0/4)"),
    ];
    SPECIAL.into_iter().find(|(special, _)| special.contains(&net)).map_or("public address space", |(_, what)| what)
}

const fn block(first: u8, second: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(first, second, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn private_ranges_with_room_for_two_pass() {
        for text in
            ["10.0.0.0/8", "10.1.2.0/30", "172.16.0.0/12", "172.31.255.252/30", "192.168.0.0/16", "192.168.7.0/24"]
        {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_cidr_is_told_with_an_example() {
        let malformed = [
            "abc",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "10.0.0.0/-1",
            " 10.0.0.0/8",
            "10.0.0.0/8\n",
            "010.0.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.256/8",
            "10.0.0.0/255.0.0.0",
            "/8",
            "1/8",
        ];
        for text in malformed {
            assert_eq!(parse(text), Err(AddressSpaceError::Malformed(text.to_owned())), "{text:?}");
        }
        assert_eq!(
            told("abc"),
            "is \"abc\", which is no CIDR; use an address and a prefix length, such as 10.64.0.0/16"
        );
        assert_eq!(told(""), "is empty; use a CIDR such as 10.64.0.0/16");
        assert!(told(&"9".repeat(5000)).len() < 200);
    }

    #[test]
    fn host_bits_are_told_with_the_right_base() {
        assert_eq!(
            told("10.1.2.3/16"),
            "has host bits set: 10.1.2.3/16 lies in 10.1.0.0/16; use that or another network address"
        );
    }

    #[test]
    fn ipv6_is_told_as_such() {
        for text in ["fd00::/64", "::/0", "fd00::1", "::ffff:10.0.0.0/104"] {
            assert_eq!(parse(text), Err(AddressSpaceError::Ipv6(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn what_is_not_private_is_called_by_its_name() {
        let allowed = "use a range inside 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16";
        assert_eq!(told("8.8.8.0/24"), format!("is 8.8.8.0/24, which is public address space; {allowed}"));
        for (text, what) in [
            ("169.254.0.0/24", "link-local"),
            ("127.0.0.0/8", "loopback"),
            ("100.64.0.0/16", "carrier-grade"),
            ("224.0.0.0/8", "multicast"),
            ("203.0.113.0/25", "documentation"),
            ("172.32.0.0/16", "public"),
            ("192.169.0.0/16", "public"),
            ("11.0.0.0/8", "public"),
            ("0.0.0.0/8", "this network"),
            ("128.0.0.0/2", "public"),
        ] {
            assert!(
                matches!(parse(text), Err(AddressSpaceError::NotPrivate { .. } | AddressSpaceError::TooLarge { .. })),
                "{text}"
            );
            assert!(told(text).contains(what) || text == "128.0.0.0/2", "{}", told(text));
        }
    }

    #[test]
    fn too_large_and_too_small_are_told() {
        for text in ["10.0.0.0/7", "0.0.0.0/0", "172.0.0.0/8", "192.0.0.0/8", "192.168.0.0/15"] {
            assert!(matches!(parse(text), Err(AddressSpaceError::TooLarge { .. })), "{text}");
        }
        assert_eq!(
            told("10.0.0.0/31"),
            "is 10.0.0.0/31, which has room for 0 hosts, and a network needs 2; use /30 or a shorter prefix"
        );
        assert!(matches!(parse("10.0.0.1/32"), Err(AddressSpaceError::TooSmall { hosts: 0, .. })));
    }
}
