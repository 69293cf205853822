//! `cladnet path`.

use cladnet_proto::cladnet::v1::{
    ExplainPathRequest, ExplainPathResponse, ListPathsRequest, ListPathsResponse, MeasurePathsRequest, Path,
};
use clap::Subcommand;
use jiff::Timestamp;

use super::lookup::Names;
use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, Table, age, bytes, milliseconds, one_line},
};

#[derive(Debug, Subcommand)]
pub(crate) enum PathCommand {
    /// List the path in use between every pair of peers
    ///
    ///   cladnet path list prod --measure
    #[command(verbatim_doc_comment)]
    List {
        /// Id of the network.
        network: String,
        /// Let the agents measure every round trip first; a viewer's key may not.
        #[arg(long)]
        measure: bool,
    },
    /// Explain the path from one peer to another: every candidate, and why it won or lost
    ///
    ///   cladnet path explain prod vm-a vm-b
    #[command(verbatim_doc_comment)]
    Explain {
        /// Id of the network.
        network: String,
        /// Id or name of the host that sends.
        from: String,
        /// Id or name of the host that receives.
        to: String,
    },
}

pub(super) async fn run(api: &Api, out: Output, command: PathCommand) -> Result<(), Failure> {
    match command {
        PathCommand::List { network, measure } => {
            let names = Names::of(api, out, &network).await?;
            let paths = match measure {
                true => {
                    api.paths()
                        .measure_paths(request(MeasurePathsRequest { network_id: network, sources: Vec::new() }))
                        .await?
                }
                false => {
                    api.paths()
                        .list_paths(request(ListPathsRequest { network_id: network, sources: Vec::new() }))
                        .await?
                }
            };
            list(out, &paths.into_inner(), &names)
        }
        PathCommand::Explain { network, from, to } => {
            let names = Names::of(api, out, &network).await?;
            let ask = ExplainPathRequest { network_id: network, source: from, destination: to };
            let explained = api.paths().explain_path(request(ask)).await?.into_inner();
            out.show_text(&explained, |explained| explanation(out, explained, &names))
        }
    }
}

fn list(out: Output, paths: &ListPathsResponse, names: &Names) -> Result<(), Failure> {
    let head = ["FROM", "TO", "SCOPE", "ENDPOINT", "RTT", "HANDSHAKE", "SENT", "RECEIVED", "DETAIL"];
    let now = Timestamp::now();
    out.show_text(paths, |list| {
        let mut rows: Vec<_> = list.paths.iter().collect();
        rows.sort_by_key(|path| (names.of_host(&path.source), names.of_host(&path.destination)));
        let table = Table::of(head, "no paths", &rows, |path| {
            [
                names.of_host(&path.source).to_owned(),
                names.of_host(&path.destination).to_owned(),
                path.scope.clone(),
                path.endpoint.clone(),
                milliseconds(path.rtt_us),
                age(path.last_handshake_at, now),
                bytes(path.sent_bytes),
                bytes(path.received_bytes),
                remark(path),
            ]
        });
        match list.unreachable.as_slice() {
            [] => out.render(table),
            silent => {
                let silent: Vec<_> = silent.iter().map(|id| names.of_host(id)).collect();
                format!("{}\nno answer from: {}", out.render(table), one_line(&silent.join(", ")))
            }
        }
    })
}

/// Why there is no path, or no round trip; why a path was chosen is for `explain` to say.
fn remark(path: &Path) -> String {
    if path.endpoint.is_empty() || path.rtt_us == 0 { path.detail.clone() } else { String::new() }
}

/// What is excluded has no rank.
fn rank(rank: u32) -> String {
    if rank == 0 { String::new() } else { rank.to_string() }
}

fn explanation(out: Output, explained: &ExplainPathResponse, names: &Names) -> String {
    let about = Table::sheet([
        ("from", names.of_host(&explained.source).to_owned()),
        ("to", names.of_host(&explained.destination).to_owned()),
        ("rule type", explained.rule_type.clone()),
        ("encryption", explained.encryption.clone()),
    ]);
    let head = ["RANK", "ENDPOINT", "SCOPE", "STATE", "RTT", "REASON"];
    let candidates = Table::of(head, "no candidates", &explained.candidates, |candidate| {
        [
            rank(candidate.rank),
            candidate.endpoint.clone(),
            candidate.scope.clone(),
            candidate.state.clone(),
            milliseconds(candidate.rtt_us),
            candidate.reason.clone(),
        ]
    });
    [out.render(about), out.render(candidates), one_line(&explained.summary)].join("\n\n")
}
