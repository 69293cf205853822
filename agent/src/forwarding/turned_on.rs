//! The interfaces on which the agent turned IPv4 forwarding on: there, and nowhere else, it turns it off again. Pure; kept on
//! disk, because an agent may be killed.

use std::{collections::BTreeMap, fs, io};

use serde::{Deserialize, Serialize};

use crate::netlink::Link;

/// By index: another interface may have the name later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TurnedOn {
    /// Of the kernel that was told; the next one knows nothing of it.
    boot_id: String,
    interfaces: BTreeMap<u32, String>,
}

impl TurnedOn {
    pub(super) fn new(boot_id: String) -> Self {
        Self { boot_id, interfaces: BTreeMap::new() }
    }

    /// What still holds of it: nothing after a reboot.
    pub(super) fn since(self, boot_id: String) -> Self {
        if self.boot_id == boot_id { self } else { Self::new(boot_id) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.interfaces.is_empty()
    }

    pub(super) fn insert(&mut self, link: &Link) {
        self.interfaces.insert(link.index, link.name.clone());
    }

    pub(super) fn remove(&mut self, link: &Link) {
        self.interfaces.remove(&link.index);
    }

    /// Forgets interfaces that are gone, and those where it was turned off since.
    pub(super) fn retain(&mut self, links: &[Link]) {
        let holds =
            |link: &Link, index: u32, name: &str| (link.index, link.name.as_str()) == (index, name) && link.forwards;
        self.interfaces.retain(|index, name| links.iter().any(|link| holds(link, *index, name)));
    }

    /// Those that are needed no more.
    pub(super) fn beyond<'a>(&self, needed: &[&str], links: &'a [Link]) -> Vec<&'a Link> {
        let is_beyond =
            |link: &&Link| self.interfaces.contains_key(&link.index) && !needed.contains(&link.name.as_str());
        links.iter().filter(is_beyond).collect()
    }
}

/// Differs after every boot.
pub(super) fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, forwards: bool) -> Link {
        Link { index, name: name.into(), mtu: 1500, up: true, forwards }
    }

    fn turned_on(links: &[Link]) -> TurnedOn {
        let mut turned_on = TurnedOn::new("first".into());
        links.iter().for_each(|link| turned_on.insert(link));
        turned_on
    }

    #[test]
    fn what_is_needed_no_more_is_turned_off_and_nothing_else() {
        let links = [link(2, "eth0", true), link(3, "eth1", true), link(4, "docker0", true)];
        let beyond = |needed: &[&str]| {
            let turned_on = turned_on(&links[..2]);
            turned_on.beyond(needed, &links).into_iter().map(|link| link.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(beyond(&["eth0", "eth1", "docker0"]), [""; 0]);
        assert_eq!(beyond(&["eth1"]), ["eth0"]);
        assert_eq!(beyond(&[]), ["eth0", "eth1"], "somebody else has docker0 forward");
    }

    #[test]
    fn nothing_is_left_of_it_after_a_reboot_or_where_the_interface_is_another() {
        let before = [link(2, "eth0", true), link(3, "eth1", true), link(4, "eth2", true)];
        let mut after_a_restart = turned_on(&before).since("first".into());
        assert_eq!(after_a_restart, turned_on(&before));
        after_a_restart.retain(&[link(2, "eth0", true), link(3, "eth9", true), link(4, "eth2", false)]);
        assert_eq!(after_a_restart, turned_on(&before[..1]));
        assert!(turned_on(&before).since("second".into()).is_empty());
    }
}
