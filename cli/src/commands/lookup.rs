//! People say host names where the API wants ids. Ids win; a name that two hosts share is refused.

use std::collections::BTreeMap;

use cladnet_proto::cladnet::v1::{Host, ListHostsRequest, ListPeersRequest, Peer};

use crate::{
    api::{Api, all_pages, request},
    failure::{Exit, Failure},
    output::{Format, Output},
};

/// Every peer of a network.
pub(super) async fn peers(api: &Api, network_id: &str) -> Result<Vec<Peer>, Failure> {
    let fetch = |page_token| async {
        let ask = ListPeersRequest { network_id: network_id.to_owned(), page_size: 0, page_token };
        api.peers().list_peers(request(ask)).await
    };
    Ok(all_pages(fetch).await?.peers)
}

/// Every host.
pub(super) async fn hosts(api: &Api) -> Result<Vec<Host>, Failure> {
    let fetch =
        |page_token| async { api.hosts().list_hosts(request(ListHostsRequest { page_size: 0, page_token })).await };
    Ok(all_pages(fetch).await?.hosts)
}

/// The ids of the peers that these words mean.
pub(super) async fn peer_ids(api: &Api, network_id: &str, words: &[String]) -> Result<Vec<String>, Failure> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let peers = peers(api, network_id).await?;
    let names: Vec<_> = peers.iter().map(|peer| (peer.host_id.as_str(), peer.host_name.as_str())).collect();
    words.iter().map(|word| find(word, &names, &format!("network {network_id} has no peer {word:?}"))).collect()
}

/// The id of the peer that this word means.
pub(super) async fn peer_id(api: &Api, network_id: &str, word: &str) -> Result<String, Failure> {
    let mut ids = peer_ids(api, network_id, &[word.to_owned()]).await?;
    Ok(ids.remove(0))
}

/// The id of the host that this word means.
pub(super) async fn host_id(api: &Api, word: &str) -> Result<String, Failure> {
    host_among(&hosts(api).await?, word)
}

/// The id of that of these hosts which this word means.
pub(super) fn host_among(hosts: &[Host], word: &str) -> Result<String, Failure> {
    let names: Vec<_> = hosts.iter().map(|host| (host.host_id.as_str(), host.host_name.as_str())).collect();
    find(word, &names, &format!("there is no host {word:?}"))
}

/// What people call the peers of a network.
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// Asks only where people look on; programs get ids.
    pub(super) async fn of(api: &Api, out: Output, network_id: &str) -> Result<Self, Failure> {
        match out.format() {
            Format::Table => Ok(Self::from_peers(peers(api, network_id).await?)),
            Format::Json | Format::Yaml => Ok(Self(BTreeMap::new())),
        }
    }

    fn from_peers(peers: Vec<Peer>) -> Self {
        let mut holders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        peers.into_iter().for_each(|peer| holders.entry(peer.host_name).or_default().push(peer.host_id));
        let unique = holders.into_iter().filter(|(_, ids)| ids.len() == 1);
        Self(unique.flat_map(|(name, ids)| ids.into_iter().map(move |id| (id, name.clone()))).collect())
    }

    /// The name of a host, or its id if the name is unknown or shared.
    pub(super) fn of_host<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).filter(|name| !name.is_empty()).map_or(id, String::as_str)
    }
}

fn find(word: &str, hosts: &[(&str, &str)], unknown: &str) -> Result<String, Failure> {
    if let Some((id, _)) = hosts.iter().find(|(id, _)| *id == word) {
        return Ok((*id).to_owned());
    }
    let named: Vec<&str> = hosts.iter().filter(|(_, name)| *name == word).map(|(id, _)| *id).collect();
    match named.as_slice() {
        [] => Err(Failure::new(Exit::NotFound, unknown)),
        [id] => Ok((*id).to_owned()),
        several => {
            Err(Failure::usage(format!("{word:?} is the name of several hosts; say one of {}", several.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_called_by_its_name_unless_another_has_it_too() {
        let peer = |id: &str, name: &str| Peer { host_id: id.into(), host_name: name.into(), ..Peer::default() };
        let names = Names::from_peers(vec![peer("host-a", "db"), peer("host-b", "vm"), peer("host-c", "vm")]);
        assert_eq!(["host-a", "host-b", "host-x"].map(|id| names.of_host(id)), ["db", "host-b", "host-x"]);
    }

    #[test]
    fn an_id_wins_over_a_name_and_a_shared_name_is_refused() {
        let hosts = [("host-a", "vm"), ("host-b", "vm"), ("host-c", "host-a"), ("host-d", "db")];
        assert_eq!(find("host-a", &hosts, "").unwrap(), "host-a");
        assert_eq!(find("db", &hosts, "").unwrap(), "host-d");
        assert_eq!(find("vm", &hosts, "").unwrap_err().exit, Exit::Usage);
        assert_eq!(find("x", &hosts, "no x").unwrap_err().exit, Exit::NotFound);
    }
}
