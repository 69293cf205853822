//! Which machine this is: its name, and an id that a copy of its disk does not have.

use std::fs;

use cladnet_model::validate::check_text;
use data_encoding::HEXLOWER;
use ring::hmac;

/// Who asks, so that the machine's real id stays on it (machine-id(5): "should be considered confidential").
const APPLICATION: &[u8] = b"cladnet-agent machine id 1";
const FILES: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// RFC 1035.
const MAX_NAME: usize = 253;

/// The host's name; empty if it has none, or one that nobody should print.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| check_text(name, MAX_NAME).is_ok()).unwrap_or_default()
}

/// A keyed hash of the machine id, hex; empty on a machine without one.
pub(crate) fn machine_id() -> String {
    let usable = |text: &String| text.trim().len() == 32 && text.trim().bytes().all(|b| b.is_ascii_hexdigit());
    let id = FILES.iter().filter_map(|file| fs::read_to_string(file).ok()).find(usable);
    id.map(|id| derive(id.trim())).unwrap_or_default()
}

fn derive(id: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, APPLICATION), id.as_bytes());
    HEXLOWER.encode(&tag.as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_stable_differs_by_machine_and_does_not_show_the_real_one() {
        let (a, b) = (derive("0123456789abcdef0123456789abcdef"), derive("0123456789abcdef0123456789abcdee"));
        assert_eq!(a, derive("0123456789abcdef0123456789abcdef"));
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert!(!a.contains("01234567"));
    }
}
