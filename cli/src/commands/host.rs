//! `cladnet host`.

mod locate;

use cladnet_proto::cladnet::v1::{
    CloudLocation, GetHostRequest, Host, ListHostsResponse, LocationField, RemoveHostRequest,
};
use clap::Subcommand;
use jiff::Timestamp;

use super::{confirm, lookup};
use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, Table, age},
};

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List the machines that run the agent
    ///
    ///   cladnet host list
    #[command(verbatim_doc_comment)]
    List,
    /// Show one machine: where it is, how it is reached, what it routes
    ///
    ///   cladnet host show vm-a
    #[command(verbatim_doc_comment)]
    Show {
        /// Id or name of the host.
        host: String,
    },
    /// Remove a machine: ends all its memberships and its identity at once
    ///
    ///   cladnet host remove vm-a --yes
    #[command(verbatim_doc_comment)]
    Remove {
        /// Id or name of the host.
        host: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Say where a machine is; what is not said stays as the machine found it
    ///
    ///   cladnet host locate vm-a --provider aws --region ap-northeast-2 --vpc vpc-0a1b
    ///   cladnet host locate vm-a --clear vpc --clear subnet
    ///   cladnet host locate --file hosts.csv
    #[command(verbatim_doc_comment)]
    Locate(locate::LocateArgs),
}

pub(super) async fn run(api: &Api, out: Output, command: HostCommand) -> Result<(), Failure> {
    match command {
        HostCommand::List => list(api, out).await,
        HostCommand::Show { host } => {
            let ask = GetHostRequest { host_id: lookup::host_id(api, &host).await? };
            out.show(api.hosts().get_host(request(ask)).await?.get_ref(), sheet)
        }
        HostCommand::Remove { host, yes } => {
            let host_id = lookup::host_id(api, &host).await?;
            confirm(yes, &format!("Remove host {host} from all its networks?"))?;
            api.hosts().remove_host(request(RemoveHostRequest { host_id })).await?;
            out.say(&format!("host {host} removed"))
        }
        HostCommand::Locate(args) => locate::run(api, out, args).await,
    }
}

async fn list(api: &Api, out: Output) -> Result<(), Failure> {
    let hosts = ListHostsResponse { hosts: lookup::hosts(api).await?, next_page_token: String::new() };
    let head = ["HOST", "NAME", "ONLINE", "LOCATION", "NETWORKS", "AGENT"];
    out.show(&hosts, |list| {
        let mut by_name: Vec<_> = list.hosts.iter().collect();
        by_name.sort_by_key(|host| (&host.host_name, &host.host_id));
        Table::of(head, "no hosts; let one join with: cladnet token create NETWORK", &by_name, |host| {
            [
                host.host_id.clone(),
                host.host_name.clone(),
                online(host.online).to_owned(),
                place(host.location.as_ref()),
                host.network_ids.join(" "),
                if host.problem.is_empty() { host.agent_version.clone() } else { host.problem.clone() },
            ]
        })
    })
}

fn sheet(host: &Host) -> Table {
    let endpoints: Vec<_> =
        host.endpoints.iter().map(|e| format!("{} ({}, {})", e.address, e.scope, e.source)).collect();
    let located = located(host.location.as_ref());
    let about = [
        ("host", host.host_id.clone()),
        ("name", host.host_name.clone()),
        ("online", online(host.online).to_owned()),
        ("networks", host.network_ids.join(" ")),
    ];
    let rest = [
        ("endpoints", endpoints.join(", ")),
        ("routes", host.routes.join(" ")),
        ("agent", host.agent_version.clone()),
        ("machine id", host.machine_id.clone()),
        ("enrolled", age(host.enrolled_at, Timestamp::now())),
    ];
    Table::sheet(about.into_iter().chain(located).chain(rest))
}

/// Each field of a location with whose word it is.
fn located(location: Option<&CloudLocation>) -> Vec<(&'static str, String)> {
    let Some(location) = location else { return Vec::new() };
    let fields = [
        ("provider", &location.provider),
        ("account", &location.account),
        ("region", &location.region),
        ("zone", &location.zone),
        ("vpc", &location.vpc),
        ("subnet", &location.subnet),
        ("instance", &location.instance),
    ];
    let known = fields.into_iter().filter_map(|(name, field)| Some((name, field.as_ref()?)));
    known.filter(|(_, field)| !field.value.is_empty()).map(|(name, field)| (name, sourced(field))).collect()
}

fn sourced(field: &LocationField) -> String {
    format!("{} ({})", field.value, field.source)
}

/// `aws ap-northeast-2 ap-northeast-2a`.
pub(super) fn place(location: Option<&CloudLocation>) -> String {
    let Some(location) = location else { return String::new() };
    let fields = [&location.provider, &location.region, &location.zone];
    fields
        .into_iter()
        .flatten()
        .map(|field| field.value.as_str())
        .filter(|v| !v.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

pub(super) fn online(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}
