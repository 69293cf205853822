//! `cladnet network`.

use cladnet_proto::cladnet::v1::{
    CreateNetworkRequest, DeleteNetworkRequest, GetNetworkRequest, ListNetworksRequest, Network,
    RecommendAddressSpacesRequest, Scopes, UpdateNetworkRequest,
};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::confirm;
use crate::{
    api::{Api, all_pages, request},
    failure::{Exit, Failure},
    output::{Output, Table, age},
};

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network
    ///
    /// Without --address-space the service takes the best one it would recommend.
    ///
    ///   cladnet network create prod --hosts 100
    ///   cladnet network create lab --address-space 172.20.0.0/24 --rule-type latency-prioritized
    #[command(verbatim_doc_comment)]
    Create(CreateArgs),
    /// List all networks
    ///
    ///   cladnet network list
    #[command(verbatim_doc_comment)]
    List,
    /// Show one network
    ///
    ///   cladnet network show prod --output json
    #[command(verbatim_doc_comment)]
    Show(NetworkArg),
    /// Change a network; what is not named stays
    ///
    /// An address space may grow as long as every address in use stays inside.
    ///
    ///   cladnet network update prod --address-space 172.20.0.0/23
    #[command(verbatim_doc_comment)]
    Update(UpdateArgs),
    /// Delete a network
    ///
    /// Refused while it has peers; --force removes them with it.
    ///
    ///   cladnet network delete lab --force --yes
    #[command(verbatim_doc_comment)]
    Delete(DeleteArgs),
    /// Recommend address spaces that overlap nothing in sight
    ///
    /// Routes of known hosts and other networks count by themselves; name the VPCs and subnets that
    /// are still to come.
    ///
    ///   cladnet network recommend --hosts 100 --avoid 10.0.0.0/16 --provider alibaba
    #[command(verbatim_doc_comment)]
    Recommend(RecommendArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NetworkArg {
    /// Id of the network.
    network: String,
}

/// What can be said of a network.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Name for people.
    #[arg(long)]
    name: Option<String>,
    /// IPv4 CIDR out of 10/8, 172.16/12 or 192.168/16, for example 172.20.0.0/24.
    #[arg(long, value_name = "CIDR")]
    address_space: Option<String>,
    /// How paths are ranked: basic, cost-prioritized, latency-prioritized or balanced.
    #[arg(long, value_name = "RULE")]
    rule_type: Option<String>,
    /// always, or public: clear text inside one VPC, encryption elsewhere.
    #[arg(long, value_name = "POLICY")]
    encryption: Option<String>,
    /// Remark for people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    paths: PathSettings,
}

/// What can be said of a network's paths.
#[derive(Debug, Args)]
struct PathSettings {
    /// What rule type balanced pays per GB for a millisecond less of round trip [default: 0.001].
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    usd_per_ms: Option<String>,
    /// What rule type balanced pays per GB for one percent less of loss [default: 0.01].
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    usd_per_loss_percent: Option<String>,
    /// Use no path with a longer round trip; 0: no limit.
    #[arg(long, value_name = "MS")]
    max_rtt_ms: Option<u32>,
    /// Use no path that costs more, or whose price is not known; none: no limit.
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    max_usd_per_gb: Option<String>,
    /// Send nothing by addresses of these scopes: private, public (by IPv6 too), public-v6; none: all may be used. May be
    /// repeated.
    #[arg(long, value_name = "SCOPE", value_delimiter = ',')]
    forbid: Vec<String>,
}

/// The word for what is not stated any more.
const NONE: &str = "none";

impl PathSettings {
    fn is_empty(&self) -> bool {
        let Self { usd_per_ms, usd_per_loss_percent, max_rtt_ms, max_usd_per_gb, forbid } = self;
        let texts = [usd_per_ms, usd_per_loss_percent, max_usd_per_gb];
        texts.iter().all(|text| text.is_none()) && max_rtt_ms.is_none() && forbid.is_empty()
    }

    fn max_usd_per_gb(&self) -> Option<String> {
        let stated = |text: &String| if text == NONE { String::new() } else { text.clone() };
        self.max_usd_per_gb.as_ref().map(stated)
    }

    /// None if nothing is said of it.
    fn forbid(&self) -> Option<Vec<String>> {
        let stated = || self.forbid.iter().filter(|word| *word != NONE).cloned().collect();
        (!self.forbid.is_empty()).then(stated)
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Id, 1 to 63 characters of [a-z0-9-]; generated if absent.
    id: Option<String>,
    #[command(flatten)]
    settings: Settings,
    /// Hosts to make room for; an address space that is given must have it [default: 250 when none is given].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    hosts: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Id of the network.
    network: String,
    #[command(flatten)]
    settings: Settings,
    /// Refuse if the network has been changed since it had this generation.
    #[arg(long, value_name = "N")]
    expected_generation: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Id of the network.
    network: String,
    /// Remove its peers with it.
    #[arg(long)]
    force: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecommendArgs {
    /// Hosts that will join; head-room is added [default: 250].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    hosts: u32,
    /// Ranges to keep clear of: VPCs and subnets, existing or planned. May be repeated.
    #[arg(long, value_name = "CIDR", num_args = 1.., value_delimiter = ',')]
    avoid: Vec<String>,
    /// Providers that will be present, whose reserved ranges are avoided: aws, gcp, azure, alibaba, … May be repeated.
    #[arg(long, value_name = "PROVIDER", num_args = 1.., value_delimiter = ',')]
    provider: Vec<String>,
    /// How many to propose [default: 5].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u32,
}

pub(super) async fn run(api: &Api, out: Output, command: NetworkCommand) -> Result<(), Failure> {
    match command {
        NetworkCommand::Create(args) => create(api, out, args).await,
        NetworkCommand::List => list(api, out).await,
        NetworkCommand::Show(args) => {
            let ask = GetNetworkRequest { network_id: args.network };
            out.show(api.networks().get_network(request(ask)).await?.get_ref(), sheet)
        }
        NetworkCommand::Update(args) => update(api, out, args).await,
        NetworkCommand::Delete(args) => delete(api, out, args).await,
        NetworkCommand::Recommend(args) => recommend(api, out, args).await,
    }
}

async fn create(api: &Api, out: Output, args: CreateArgs) -> Result<(), Failure> {
    if args.id.as_deref() == Some("") {
        return Err(Failure::usage("the id is empty; use 1 to 63 characters of [a-z0-9-], or give none"));
    }
    let ask = CreateNetworkRequest {
        network_id: args.id.unwrap_or_default(),
        name: args.settings.name.unwrap_or_default(),
        ipv4_address_space: args.settings.address_space.unwrap_or_default(),
        description: args.settings.description.unwrap_or_default(),
        rule_type: args.settings.rule_type.unwrap_or_default(),
        encryption_policy: args.settings.encryption.unwrap_or_default(),
        expected_hosts: args.hosts.unwrap_or_default(),
        max_usd_per_gb: args.settings.paths.max_usd_per_gb().unwrap_or_default(),
        forbid: args.settings.paths.forbid().unwrap_or_default(),
        usd_per_ms: args.settings.paths.usd_per_ms.unwrap_or_default(),
        usd_per_loss_percent: args.settings.paths.usd_per_loss_percent.unwrap_or_default(),
        max_rtt_ms: args.settings.paths.max_rtt_ms.unwrap_or_default(),
    };
    out.show(api.networks().create_network(request(ask)).await?.get_ref(), sheet)
}

async fn list(api: &Api, out: Output) -> Result<(), Failure> {
    let fetch = |page_token| async {
        api.networks().list_networks(request(ListNetworksRequest { page_size: 0, page_token })).await
    };
    let head = ["NETWORK", "NAME", "ADDRESS SPACE", "PEERS", "RULE TYPE", "ENCRYPTION"];
    out.show(&all_pages(fetch).await?, |list| {
        Table::of(head, "no networks; make one with: cladnet network create ID", &list.networks, |network| {
            [
                network.network_id.clone(),
                network.name.clone(),
                network.ipv4_address_space.clone(),
                network.peer_count.to_string(),
                network.rule_type.clone(),
                network.encryption_policy.clone(),
            ]
        })
    })
}

async fn update(api: &Api, out: Output, args: UpdateArgs) -> Result<(), Failure> {
    let Settings { name, address_space, rule_type, encryption, description, paths } = args.settings;
    let texts = [&name, &address_space, &rule_type, &encryption, &description];
    if texts.iter().all(|setting| setting.is_none()) && paths.is_empty() {
        return Err(Failure::usage(
            "nothing to change; name a setting: --name, --address-space, --rule-type, --encryption, --description, \
             --usd-per-ms, --usd-per-loss-percent, --max-rtt-ms, --max-usd-per-gb or --forbid",
        ));
    }
    let ask = UpdateNetworkRequest {
        network_id: args.network,
        name,
        ipv4_address_space: address_space,
        description,
        rule_type,
        encryption_policy: encryption,
        expected_generation: args.expected_generation,
        max_usd_per_gb: paths.max_usd_per_gb(),
        forbid: paths.forbid().map(|scopes| Scopes { scopes }),
        usd_per_ms: paths.usd_per_ms,
        usd_per_loss_percent: paths.usd_per_loss_percent,
        max_rtt_ms: paths.max_rtt_ms,
    };
    out.show(api.networks().update_network(request(ask)).await?.get_ref(), sheet)
}

async fn delete(api: &Api, out: Output, args: DeleteArgs) -> Result<(), Failure> {
    let with = if args.force { " and remove its peers" } else { "" };
    confirm(args.yes, &format!("Delete network {}{with}?", args.network))?;
    let ask = DeleteNetworkRequest { network_id: args.network.clone(), force: args.force };
    let removed = api.networks().delete_network(request(ask)).await?.into_inner();
    out.show_text(&removed, |removed| match removed.removed_peers {
        0 => format!("network {} deleted", args.network),
        peers => format!("network {} deleted, {peers} peers removed", args.network),
    })
}

async fn recommend(api: &Api, out: Output, args: RecommendArgs) -> Result<(), Failure> {
    let ask = RecommendAddressSpacesRequest {
        hosts: args.hosts,
        avoid: args.avoid,
        providers: args.provider,
        limit: args.limit,
    };
    let proposed = api.networks().recommend_address_spaces(request(ask)).await?.into_inner();
    out.show_text(&proposed, |proposed| {
        let table = Table::of(
            ["ADDRESS SPACE", "CAPACITY", "REASON", "SHARES WITH"],
            "no address space is left",
            &proposed.address_spaces,
            |space| {
                [space.cidr.clone(), space.capacity.to_string(), space.reason.clone(), space.soft_conflicts.join(", ")]
            },
        );
        [out.render(table), proposed.message.clone()].join("\n")
    })?;
    match proposed.address_spaces.is_empty() {
        true => Err(Failure::new(Exit::Failed, "nothing to recommend; fewer hosts or fewer ranges to avoid may help")),
        false => Ok(()),
    }
}

fn limits(network: &Network) -> String {
    let rtt = (network.max_rtt_ms > 0).then(|| format!("at most {} ms", network.max_rtt_ms));
    let price = (!network.max_usd_per_gb.is_empty()).then(|| format!("at most {} USD/GB", network.max_usd_per_gb));
    let forbidden = network.forbid.iter().map(|scope| format!("nothing by {scope} addresses"));
    rtt.into_iter().chain(price).chain(forbidden).collect::<Vec<_>>().join(", ")
}

fn sheet(network: &Network) -> Table {
    Table::sheet([
        ("network", network.network_id.clone()),
        ("name", network.name.clone()),
        ("address space", network.ipv4_address_space.clone()),
        ("rule type", network.rule_type.clone()),
        ("encryption", network.encryption_policy.clone()),
        ("price of 1 ms", format!("{} USD/GB", network.usd_per_ms)),
        ("price of 1 % loss", format!("{} USD/GB", network.usd_per_loss_percent)),
        ("limits", limits(network)),
        ("description", network.description.clone()),
        ("peers", network.peer_count.to_string()),
        ("generation", network.generation.to_string()),
        ("created", age(network.created_at, Timestamp::now())),
    ])
}
