//! `cladnet path`.

use cladnet_model::tariff::Price;
use cladnet_proto::cladnet::v1::{
    ExplainPathRequest, ExplainPathResponse, ListPathsRequest, ListPathsResponse, MeasurePathsRequest, Path,
    PathCandidate, TariffQuote, TariffQuotePart,
};
use clap::Subcommand;
use jiff::Timestamp;

use super::lookup::Names;
use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, Table, age, bytes, milliseconds},
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
    let head = ["FROM", "TO", "SCOPE", "ENDPOINT", "RTT", "USD/GB", "HANDSHAKE", "SENT", "RECEIVED"];
    let now = Timestamp::now();
    out.show_text(paths, |list| {
        let mut rows: Vec<_> = list.paths.iter().collect();
        rows.sort_by_key(|path| (names.of_host(&path.source), names.of_host(&path.destination)));
        let table = Table::of(head, "no paths", &rows, |path| {
            [
                names.of_host(&path.source).to_owned(),
                names.of_host(&path.destination).to_owned(),
                if path.endpoint.is_empty() { "none".to_owned() } else { path.scope.clone() },
                path.endpoint.clone(),
                milliseconds(path.rtt_us),
                if path.endpoint.is_empty() { String::new() } else { or_unknown(&path.usd_per_gb) },
                age(path.last_handshake_at, now),
                bytes(path.sent_bytes),
                bytes(path.received_bytes),
            ]
        });
        let table = table.sparing(&["HANDSHAKE", "RECEIVED", "SENT", "SCOPE", "RTT"]);
        let remarks = rows.iter().filter(|path| needs_remark(path)).map(|path| {
            let ends = [&path.source, &path.destination].map(|id| names.of_host(id));
            out.sentence(&format!("{} to {}: {}", ends[0], ends[1], path.detail))
        });
        let silent: Vec<_> = list.unreachable.iter().map(|id| names.of_host(id)).collect();
        let silent = (!silent.is_empty()).then(|| out.sentence(&format!("no answer from: {}", silent.join(", "))));
        std::iter::once(out.render(table)).chain(remarks).chain(silent).collect::<Vec<_>>().join("\n")
    })
}

/// Why there is no path, or no round trip; why a path was chosen is for `explain` to say.
fn needs_remark(path: &Path) -> bool {
    (path.endpoint.is_empty() || path.rtt_us == 0) && !path.detail.is_empty()
}

/// What is excluded has no rank.
fn rank(rank: u32) -> String {
    if rank == 0 { String::new() } else { rank.to_string() }
}

/// What is not known is never 0.
fn or_unknown(price: &str) -> String {
    if price.is_empty() { "unknown".to_owned() } else { price.to_owned() }
}

fn explanation(out: Output, explained: &ExplainPathResponse, names: &Names) -> String {
    let about = Table::sheet([
        ("from", names.of_host(&explained.source).to_owned()),
        ("to", names.of_host(&explained.destination).to_owned()),
        ("rule type", explained.rule_type.clone()),
        ("limits", explained.limits.clone()),
        ("encryption", explained.encryption.clone()),
        ("path rules", explained.rule_ids.join(", ")),
        ("prices", format!("tariff book {} of {}", explained.tariff_version, explained.tariff_date)),
    ]);
    let head = ["RANK", "ENDPOINT", "SCOPE", "STATE", "RTT", "LOSS", "USD/GB", "BACK"];
    let candidates = Table::of(head, "no candidates", &explained.candidates, |candidate| {
        [
            rank(candidate.rank),
            candidate.endpoint.clone(),
            candidate.scope.clone(),
            candidate.state.clone(),
            milliseconds(candidate.rtt_us),
            loss(candidate),
            usd_per_gb(candidate.price.as_ref()),
            usd_per_gb(candidate.return_price.as_ref()),
        ]
    });
    let reasons = Table::of(["ENDPOINT", "WHY"], "", &explained.candidates, |candidate| {
        [candidate.endpoint.clone(), candidate.reason.clone()]
    });
    let parts: Vec<_> = explained.candidates.iter().flat_map(parts).collect();
    let head = ["ENDPOINT", "WAY", "PAID BY", "CLASS", "USD/GB", "CONFIDENCE", "TARIFF RULE"];
    let parts = Table::of(head, "no prices", &parts, Clone::clone).ending_in_prose().sparing(&["CONFIDENCE", "CLASS"]);
    let basic = match &explained.basic {
        Some(basic) => format!(
            "rule type basic would use {} ({}): {} USD/GB there, {} back",
            basic.endpoint,
            basic.scope,
            usd_per_gb(basic.price.as_ref()),
            usd_per_gb(basic.return_price.as_ref())
        ),
        None => "rule type basic would have no path: there is no public address".to_owned(),
    };
    let summary = out.sentence(&explained.summary);
    let mut tables = vec![summary, out.render(about), out.render(candidates)];
    if !explained.candidates.is_empty() {
        tables.extend([out.render(reasons.ending_in_prose()), out.render(parts)]);
    }
    tables.push(out.sentence(&basic));
    tables.join("\n\n")
}

/// Of what was never measured nothing is said.
fn loss(candidate: &PathCandidate) -> String {
    if candidate.rtt_us == 0 { String::new() } else { format!("{:.1} %", candidate.loss_percent) }
}

/// In dollars; what is not known is never 0.
fn usd_per_gb(quote: Option<&TariffQuote>) -> String {
    quote.and_then(|quote| quote.per_gb_nano_usd).map_or("unknown".to_owned(), |nano| Price(nano).to_string())
}

/// What each side pays, both ways, and by which tariff rule, or why nobody knows.
fn parts(candidate: &PathCandidate) -> Vec<[String; 7]> {
    let quotes = [("there", &candidate.price), ("back", &candidate.return_price)];
    let parts = quotes.into_iter().flat_map(|(direction, quote)| {
        let parts = quote.iter().flat_map(|quote| &quote.parts);
        parts.map(move |part| (direction, part))
    });
    let row = |(direction, part): (&str, &TariffQuotePart)| {
        let rule = if part.per_gb_nano_usd.is_none() { &part.unpriced } else { &part.rule_id };
        [
            candidate.endpoint.clone(),
            direction.to_owned(),
            part.side.clone(),
            part.class.clone(),
            or_unknown(&part.per_gb_nano_usd.map(|nano| Price(nano).to_string()).unwrap_or_default()),
            part.confidence.clone(),
            rule.clone(),
        ]
    };
    parts.map(row).collect()
}
