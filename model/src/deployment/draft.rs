//! A deployment as a person asks for it: every fault of every machine is told at once, with the path of its field.
//! Names are not resolved here and nothing is connected to; what a name stands for is judged again when it is.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{
    AddressPolicy, DEFAULT_CONCURRENCY, DeploymentAction, DeploymentHost, MAX_CONCURRENCY, MAX_HOSTS, SSH_PORT,
    SshTarget, Via, check_private_key,
};
use crate::{
    CloudLocation, Labels, MachineName, location, space,
    validate::{Checks, InvalidInput},
};

/// Longest DNS name.
const MAX_DNS_NAME: usize = 253;
/// Longest name of a user: what Linux takes.
const MAX_USER: usize = 32;
/// Faults that are told; a list that is wrong as a whole is told by its first ones.
const MAX_FAULTS: usize = 20;

/// One machine, as it was sent. What is empty is absent.
#[derive(Debug, Clone, Default)]
pub struct MachineDraft<'a> {
    pub name: &'a str,
    pub address: &'a str,
    /// 0: [`SSH_PORT`].
    pub port: u32,
    pub user: &'a str,
    pub private_key: PrivateKeyText<'a>,
    pub host_key: &'a str,
    pub bastion: &'a str,
    pub labels: Labels,
    pub overlay_address: &'a str,
    /// Fields of [`CloudLocation`] by their names.
    pub location: Vec<(&'static str, &'a str)>,
}

/// The text of a private key, hidden from whoever prints a draft.
#[derive(Clone, Copy, Default)]
pub struct PrivateKeyText<'a>(pub &'a str);

impl std::fmt::Debug for PrivateKeyText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKeyText")
    }
}

/// A deployment, as it was sent.
#[derive(Debug, Clone, Default)]
pub struct DeploymentDraft<'a> {
    /// Empty: [`DeploymentAction::Install`].
    pub action: &'a str,
    /// 0: [`DEFAULT_CONCURRENCY`].
    pub concurrency: u32,
    pub hosts: Vec<MachineDraft<'a>>,
}

/// A [`DeploymentDraft`] whose fields are right. The machines are in the order of the draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSettings {
    pub action: DeploymentAction,
    pub concurrency: u32,
    pub hosts: Vec<DeploymentHost>,
}

/// Where the machines shall go.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The network's.
    pub space: Ipv4Net,
    /// Overlay addresses that somebody has or has asked for.
    pub taken: &'a BTreeMap<Ipv4Addr, Holder>,
    pub policy: &'a AddressPolicy,
}

/// Who has an overlay address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    pub name: String,
    /// Under which it can be reached.
    pub addresses: Vec<IpAddr>,
    /// When it has left: how long its address is kept back.
    pub until: Option<Timestamp>,
}

impl DeploymentDraft<'_> {
    /// All fields checked, all faults told.
    pub fn check(&self, around: &Surroundings<'_>) -> Result<DeploymentSettings, InvalidInput> {
        let mut checks = Checks::default();
        let action = match self.action {
            "" => Some(DeploymentAction::default()),
            action => checks.field("action", action.parse()),
        };
        let concurrency = checks.field("concurrency", concurrency(self.concurrency));
        if let Err(problem) = number_of_hosts(self.hosts.len()) {
            checks.field("hosts", Err::<(), _>(problem));
            return checks.conclude(None);
        }
        let names = self.names();
        let mut seen = Seen::default();
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for (index, draft) in self.hosts.iter().enumerate() {
            let place = Place { around, names: &names, drafts: &self.hosts, index, action: action.unwrap_or_default() };
            hosts.extend(place.check(draft, &mut seen, &mut checks));
        }
        let settings = action.zip(concurrency).map(|(action, concurrency)| (action, concurrency, hosts));
        let (action, concurrency, hosts) = checks.conclude(settings).map_err(first_ones)?;
        Ok(DeploymentSettings { action, concurrency, hosts })
    }

    /// Where each name stands first.
    fn names(&self) -> BTreeMap<&str, usize> {
        let mut names = BTreeMap::new();
        for (index, draft) in self.hosts.iter().enumerate() {
            names.entry(draft.name).or_insert(index);
        }
        names
    }
}

fn concurrency(given: u32) -> Result<u32, String> {
    match given {
        0 => Ok(DEFAULT_CONCURRENCY),
        1..=MAX_CONCURRENCY => Ok(given),
        _ => Err(format!("is {given}; at most {MAX_CONCURRENCY} machines are worked on at a time")),
    }
}

fn number_of_hosts(count: usize) -> Result<(), String> {
    match count {
        0 => Err("is empty; give at least one machine".to_owned()),
        1..=MAX_HOSTS => Ok(()),
        _ => Err(format!("has {count} machines; at most {MAX_HOSTS} are allowed, so make several deployments")),
    }
}

fn first_ones(mut input: InvalidInput) -> InvalidInput {
    let more = input.0.len().saturating_sub(MAX_FAULTS);
    if more > 0 {
        input.0.truncate(MAX_FAULTS);
        input.0.extend(InvalidInput::new("hosts", format!("has {more} more faults")).0);
    }
    input
}

/// What earlier machines of the list have taken: `address:port` with the bastion before it, and overlay addresses, by index.
#[derive(Default)]
struct Seen {
    places: BTreeMap<(String, String), usize>,
    overlay: BTreeMap<Ipv4Addr, usize>,
}

/// Where a machine stands in its list.
struct Place<'a> {
    around: &'a Surroundings<'a>,
    names: &'a BTreeMap<&'a str, usize>,
    drafts: &'a [MachineDraft<'a>],
    index: usize,
    action: DeploymentAction,
}

impl Place<'_> {
    /// The machine's record; if it is absent, a fault was noted.
    fn check(&self, draft: &MachineDraft<'_>, seen: &mut Seen, checks: &mut Checks) -> Option<DeploymentHost> {
        let at = |field: &str| format!("hosts[{}].{field}", self.index);
        let name = checks.field(&at("name"), self.name(draft.name));
        let via = if draft.bastion.is_empty() { Via::Direct } else { Via::Bastion };
        let address = checks.field(&at("address"), self.address(draft.address, via));
        let port = checks.field(&at("port"), port(draft.port));
        let user = checks.field(&at("user"), user(draft.user));
        checks.field(&at("private_key"), check_private_key(draft.private_key.0));
        let host_key =
            checks.optional(&at("host_key"), Some(draft.host_key).filter(|key| !key.is_empty()).map(str::parse));
        let bastion = (!draft.bastion.is_empty()).then(|| self.bastion(draft.bastion));
        let bastion = checks.optional(&at("bastion"), bastion);
        checks.labels(&at("labels"), &draft.labels);
        let overlay = Some(draft.overlay_address).filter(|text| !text.is_empty());
        let overlay_address =
            checks.optional(&at("overlay_address"), overlay.map(|text| self.overlay(text, draft, &mut seen.overlay)));
        let location = self.location(draft, checks);
        let ssh = SshTarget { address: address?, port: port?, user: user?, host_key };
        checks.field(&at("address"), self.place(&ssh, draft.bastion, &mut seen.places))?;
        let labels = draft.labels.clone();
        let name = name?;
        Some(DeploymentHost {
            name,
            ssh,
            bastion,
            labels,
            overlay_address,
            location,
            confirmed: None,
            confirmed_by: None,
        })
    }

    fn name(&self, name: &str) -> Result<MachineName, String> {
        match self.names.get(name) {
            Some(first) if *first != self.index => {
                Err(format!("is {name:?}, as that of hosts[{first}] already; give every machine a name of its own"))
            }
            _ => name.parse().map_err(|error: crate::IdError| error.to_string()),
        }
    }

    /// The address in one spelling.
    fn address(&self, text: &str, via: Via) -> Result<String, String> {
        if text.is_empty() {
            return Err("is empty; give an IP address or a DNS name".to_owned());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let refused = |refused: super::AddressRefused| format!("is refused: {refused}");
            return self
                .around
                .policy
                .check(address, via)
                .map(|()| address.to_canonical().to_string())
                .map_err(refused);
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let shown: String = text.chars().take(60).collect();
        match via {
            _ if !is_dns_name(&name) => {
                Err(format!("is {shown:?}; use an IP address, without a port, or a DNS name such as vm-1.example.org"))
            }
            Via::Bastion => {
                Err(format!("is {shown:?}, a name; behind a bastion use the IP address that the bastion reaches"))
            }
            Via::Direct => Ok(name),
        }
    }

    /// Clouds overlap: the same private address behind another bastion is another machine.
    fn place(
        &self,
        ssh: &SshTarget,
        bastion: &str,
        places: &mut BTreeMap<(String, String), usize>,
    ) -> Result<(), String> {
        let place = (ssh.place(), bastion.to_owned());
        match places.get(&place) {
            Some(first) => Err(format!("is {}, as that of hosts[{first}] already; name every machine once", place.0)),
            None => {
                places.insert(place, self.index);
                Ok(())
            }
        }
    }

    /// One hop is what clouds need; chains and circles are refused alike.
    fn bastion(&self, name: &str) -> Result<MachineName, String> {
        let shown: String = name.chars().take(60).collect();
        let Some(found) = self.names.get(name) else {
            return Err(format!("is {shown:?}, which is no machine of this list; add it, with its own key"));
        };
        let behind = self.drafts[*found].bastion;
        match *found {
            index if index == self.index => Err(format!("is {shown:?}, the machine itself; name another one")),
            _ if !behind.is_empty() => Err(format!(
                "is {shown:?}, which stands behind a bastion itself; name a machine that is reached directly"
            )),
            _ => name.parse().map_err(|error: crate::IdError| error.to_string()),
        }
    }

    fn overlay(
        &self,
        text: &str,
        draft: &MachineDraft<'_>,
        seen: &mut BTreeMap<Ipv4Addr, usize>,
    ) -> Result<Ipv4Addr, String> {
        let address: Ipv4Addr =
            text.parse().map_err(|_| "is no IPv4 address; write one such as 10.9.0.20".to_owned())?;
        space::check_usable(self.around.space, address).map_err(|error| format!("is {address}, which {error}"))?;
        if let Some(first) = seen.insert(address, self.index) {
            return Err(format!("is {address}, which hosts[{first}] asks for already; choose another"));
        }
        match self.around.taken.get(&address) {
            Some(Holder { name, until: Some(until), .. }) if self.action == DeploymentAction::Install => Err(format!(
                "is {address}, which is kept back until {until:.0} because {name} has left; choose another, or wait"
            )),
            Some(holder) if self.action == DeploymentAction::Install && !holder.may_be(draft) => {
                Err(format!("is {address}, which belongs to {} already; choose another", holder.name))
            }
            _ => Ok(address),
        }
    }

    fn location(&self, draft: &MachineDraft<'_>, checks: &mut Checks) -> CloudLocation {
        let mut known = CloudLocation::default();
        for (name, value) in &draft.location {
            let path = format!("hosts[{}].location.{name}", self.index);
            let located = checks.field(&path, location::injected(name, value)).flatten();
            if let Some(slot) = known.slot(name) {
                *slot = located;
            }
        }
        known
    }
}

impl Holder {
    /// Whether it looks like the machine itself, which keeps its address when it is installed again.
    fn may_be(&self, draft: &MachineDraft<'_>) -> bool {
        let address = draft.address.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.name == draft.name || address.is_some_and(|address| self.addresses.contains(&address))
    }
}

fn port(given: u32) -> Result<u16, String> {
    match given {
        0 => Ok(SSH_PORT),
        _ => u16::try_from(given).map_err(|_| format!("is {given}; ports end at 65535")),
    }
}

fn user(name: &str) -> Result<String, String> {
    let is_right = (1..=MAX_USER).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    match name {
        "" => Err("is empty; give the user to log in as, such as debian".to_owned()),
        _ if is_right => Ok(name.to_owned()),
        _ => Err(format!("is no user's name; use at most {MAX_USER} of [A-Za-z0-9._-], not beginning with . or -")),
    }
}

/// A DNS name that no resolver takes for an address: `127.1` and `0x7f000001` are some to old ones.
fn is_dns_name(name: &str) -> bool {
    let is_part = |part: &str| {
        (1..=63).contains(&part.len())
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= MAX_DNS_NAME
        && name.split('.').all(is_part)
        && !last.bytes().all(|b| b.is_ascii_digit())
        && !last.starts_with("0x")
}

#[cfg(test)]
mod tests;
