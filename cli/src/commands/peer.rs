//! `cladnet peer`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use cladnet_proto::cladnet::v1::{
    Command as Wish, ControlPeersRequest, GetPeerRequest, ListPeersResponse, Peer, RemovePeerRequest, UpdatePeerRequest,
};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{
    confirm, export,
    host::{online, place},
    lookup::{self, Names},
};
use crate::{
    api::{Api, request, request_within},
    failure::Failure,
    output::{Output, Table, age, labels},
    parse,
};

/// How long the service waits for the agents if nothing is said; the service's own default.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a request may take beyond what it asks the service to wait.
pub(super) const MARGIN: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// List the peers of a network
    ///
    ///   cladnet peer list prod
    #[command(verbatim_doc_comment)]
    List {
        /// Id of the network.
        network: String,
    },
    /// Show one peer
    ///
    ///   cladnet peer show prod vm-a
    #[command(verbatim_doc_comment)]
    Show(PeerArg),
    /// Take peers up again
    ///
    ///   cladnet peer up prod vm-a vm-b
    #[command(verbatim_doc_comment)]
    Up(ControlArgs),
    /// Take peers down: they keep their address and carry no traffic
    ///
    /// An agent that is offline obeys when it returns.
    ///
    ///   cladnet peer down prod vm-a
    #[command(verbatim_doc_comment)]
    Down(ControlArgs),
    /// Label a peer, or give it a certain address
    ///
    ///   cladnet peer update prod vm-a --label role=db --address 172.20.0.10
    #[command(verbatim_doc_comment)]
    Update(UpdateArgs),
    /// End a host's membership; its address is kept back for a while, then reused
    ///
    ///   cladnet peer remove prod vm-a --yes
    #[command(verbatim_doc_comment)]
    Remove {
        #[command(flatten)]
        peer: PeerArg,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Add a machine that runs plain WireGuard, and write its wg-quick file
    ///
    /// The key is made here and only its public half is sent. With --public-key the machine keeps
    /// its own, and the file gets a place to put it.
    ///
    /// The file is a snapshot: it does not follow machines that join, move or leave later. The same
    /// name with the same --public-key writes it anew; its head says the command.
    ///
    ///   cladnet peer export prod laptop --file laptop.conf
    ///   wg-quick up ./laptop.conf                      # on the machine
    #[command(verbatim_doc_comment)]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PeerArg {
    /// Id of the network.
    network: String,
    /// Id or name of the host.
    host: String,
}

#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// Id of the network.
    network: String,
    /// Ids or names of hosts; all peers if none is named.
    hosts: Vec<String>,
    /// How long to wait for the agents, up to 60s [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    peer: PeerArg,
    /// Label to set; the others stay. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::label)]
    label: Vec<(String, String)>,
    /// Label to take away. May be repeated.
    #[arg(long, value_name = "KEY")]
    remove_label: Vec<String>,
    /// Overlay address to ask for, inside the network's address space and free.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Id of the network.
    pub(super) network: String,
    /// Name of the machine.
    pub(super) name: String,
    /// WireGuard public key of the machine, base64, if it has one already.
    #[arg(long, value_name = "KEY")]
    pub(super) public_key: Option<String>,
    /// Where other peers reach it, ADDRESS:PORT, if it has a fixed place.
    #[arg(long, value_name = "ENDPOINT", default_value = "", hide_default_value = true)]
    pub(super) endpoint: String,
    /// Label of the peer. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::label)]
    pub(super) label: Vec<(String, String)>,
    /// New file of mode 0600 to write; standard output if absent.
    #[arg(long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
}

pub(super) async fn run(api: &Api, out: Output, command: PeerCommand) -> Result<ExitCode, Failure> {
    match command {
        PeerCommand::List { network } => list(api, out, &network).await?,
        PeerCommand::Show(peer) => {
            let host_id = lookup::peer_id(api, &peer.network, &peer.host).await?;
            let ask = GetPeerRequest { network_id: peer.network, host_id };
            out.show(api.peers().get_peer(request(ask)).await?.get_ref(), sheet)?;
        }
        PeerCommand::Up(args) => return control(api, out, args, Wish::Up).await,
        PeerCommand::Down(args) => return control(api, out, args, Wish::Down).await,
        PeerCommand::Update(args) => update(api, out, args).await?,
        PeerCommand::Remove { peer, yes } => remove(api, out, peer, yes).await?,
        PeerCommand::Export(args) => export::run(api, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(api: &Api, out: Output, network: &str) -> Result<(), Failure> {
    let peers = ListPeersResponse { peers: lookup::peers(api, network).await?, next_page_token: String::new() };
    let head = ["HOST", "NAME", "ADDRESS", "STATE", "ONLINE", "LOCATION", "LABELS"];
    out.show(&peers, |list| {
        Table::of(
            head,
            "no peers; let a machine join with: cladnet token create NETWORK",
            &by_name(&list.peers),
            |peer| {
                [
                    peer.host_id.clone(),
                    peer.host_name.clone(),
                    peer.ipv4_address.clone(),
                    state(peer),
                    presence(peer).to_owned(),
                    place(peer.location.as_ref()),
                    labels(&peer.labels),
                ]
            },
        )
    })
}

/// Programs get the order of the API.
fn by_name(peers: &[Peer]) -> Vec<&Peer> {
    let mut sorted: Vec<_> = peers.iter().collect();
    sorted.sort_by_key(|peer| (&peer.host_name, &peer.host_id));
    sorted
}

async fn control(api: &Api, out: Output, args: ControlArgs, wish: Wish) -> Result<ExitCode, Failure> {
    let host_ids = lookup::peer_ids(api, &args.network, &args.hosts).await?;
    let names = Names::of(api, out, &args.network).await?;
    let wait = args.timeout.unwrap_or(CONTROL_TIMEOUT);
    let ask = ControlPeersRequest {
        network_id: args.network,
        command: wish.into(),
        host_ids,
        timeout: args.timeout.map(parse::to_proto).transpose()?,
    };
    let done = api.peers().control_peers(request_within(wait + MARGIN, ask)).await?.into_inner();
    out.show(&done, |done| {
        let mut results: Vec<_> = done.results.iter().collect();
        results.sort_by_key(|result| names.of_host(&result.host_id));
        Table::of(["HOST", "OUTCOME", "DETAIL"], "no peers", &results, |result| {
            [names.of_host(&result.host_id).to_owned(), result.outcome.clone(), result.detail.clone()]
        })
    })?;
    let failed = done.results.iter().any(|result| matches!(result.outcome.as_str(), "failed" | "timed-out"));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn update(api: &Api, out: Output, args: UpdateArgs) -> Result<(), Failure> {
    if args.label.is_empty() && args.remove_label.is_empty() && args.address.is_none() {
        return Err(Failure::usage("nothing to change; name --label, --remove-label or --address"));
    }
    let host_id = lookup::peer_id(api, &args.peer.network, &args.peer.host).await?;
    out.show(api.peers().update_peer(request(wish(host_id, args))).await?.get_ref(), sheet)
}

/// Names what is to change and nothing else: what another admin changes at the same moment stays.
fn wish(host_id: String, args: UpdateArgs) -> UpdatePeerRequest {
    UpdatePeerRequest {
        network_id: args.peer.network,
        host_id,
        labels: args.label.into_iter().collect(),
        add_labels: true,
        remove_labels: args.remove_label,
        ipv4_address: args.address,
        clear_labels: false,
    }
}

async fn remove(api: &Api, out: Output, peer: PeerArg, yes: bool) -> Result<(), Failure> {
    let PeerArg { network, host } = peer;
    let host_id = lookup::peer_id(api, &network, &host).await?;
    confirm(yes, &format!("Remove {host} from network {network}?"))?;
    api.peers().remove_peer(request(RemovePeerRequest { network_id: network.clone(), host_id })).await?;
    out.say(&format!("{host} removed from network {network}"))
}

fn sheet(peer: &Peer) -> Table {
    let endpoints: Vec<_> =
        peer.endpoints.iter().map(|e| format!("{} ({}, {})", e.address, e.scope, e.source)).collect();
    Table::sheet([
        ("host", peer.host_id.clone()),
        ("name", peer.host_name.clone()),
        ("network", peer.network_id.clone()),
        ("address", peer.ipv4_address.clone()),
        ("state", state(peer)),
        ("wanted", peer.desired_state.clone()),
        ("online", presence(peer).to_owned()),
        ("endpoints", endpoints.join(", ")),
        ("location", place(peer.location.as_ref())),
        ("labels", labels(&peer.labels)),
        ("public key", peer.public_key.clone()),
        ("agent", if peer.plain { "plain WireGuard".to_owned() } else { peer.agent_version.clone() }),
        ("joined", age(peer.joined_at, Timestamp::now())),
    ])
}

/// The state and its reason.
fn state(peer: &Peer) -> String {
    match peer.state_reason.as_str() {
        "" => peer.state.clone(),
        reason => format!("{}: {reason}", peer.state),
    }
}

/// Of a machine without an agent nobody knows.
fn presence(peer: &Peer) -> &'static str {
    if peer.plain { "plain" } else { online(peer.online) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_are_not_named_are_left_to_others() {
        let pair = |name: &str| (name.to_owned(), "x".to_owned());
        let args = UpdateArgs {
            peer: PeerArg { network: "prod".to_owned(), host: "vm-a".to_owned() },
            label: vec![pair("role"), pair("zone")],
            remove_label: vec!["rack".to_owned()],
            address: None,
        };
        let wish = wish("host-a".to_owned(), args);
        assert!(wish.add_labels && !wish.clear_labels, "{wish:?}");
        assert_eq!(wish.labels.keys().collect::<Vec<_>>(), ["role", "zone"]);
        assert_eq!((wish.remove_labels, wish.ipv4_address), (vec!["rack".to_owned()], None));
    }
}
