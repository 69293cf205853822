//! `cladnet test`.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use cladnet_proto::cladnet::v1::{ConnectivityTest, ControlResult, PairResult, RunConnectivityTestRequest};
use clap::{Args, Subcommand};

use super::{lookup::Names, peer::MARGIN};
use crate::{
    api::{Api, request_within},
    failure::Failure,
    output::{Output, Table, milliseconds},
    parse,
};

/// The longest deadline the service takes.
const LONGEST: Duration = Duration::from_secs(120);
/// More columns than this do not fit a screen.
const MATRIX_LIMIT: usize = 12;

#[derive(Debug, Subcommand)]
pub(crate) enum TestCommand {
    /// Let peers ping each other over the overlay
    ///
    /// Exits with 1 if any pair got no reply at all.
    ///
    ///   cladnet test connectivity prod
    ///   cladnet test connectivity prod --hosts vm-a,vm-b --count 20 --interval 50ms
    #[command(verbatim_doc_comment)]
    Connectivity(ConnectivityArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConnectivityArgs {
    /// Id of the network.
    network: String,
    /// Ids or names of hosts, with commas between them; all peers if absent.
    #[arg(long, value_name = "HOST", num_args = 1.., value_delimiter = ',')]
    hosts: Vec<String>,
    /// Pings per pair, up to 100 [default: 3].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    count: u32,
    /// Between two pings, at least 10ms [default: 200ms].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    interval: Option<Duration>,
    /// When to answer with what is there, up to 120s [default: what the count needs and 5s more].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    deadline: Option<Duration>,
}

pub(super) async fn run(api: &Api, out: Output, command: TestCommand) -> Result<ExitCode, Failure> {
    let TestCommand::Connectivity(args) = command;
    let names = Names::of(api, out, &args.network).await?;
    let ask = RunConnectivityTestRequest {
        network_id: args.network,
        hosts: args.hosts,
        count: args.count,
        interval: args.interval.map(parse::to_proto).transpose()?,
        deadline: args.deadline.map(parse::to_proto).transpose()?,
    };
    let wait = args.deadline.unwrap_or(LONGEST) + MARGIN;
    let done = api.tests().run_connectivity_test(request_within(wait, ask)).await?.into_inner();
    out.show_text(&done, |done| report(out, done, &names))?;
    Ok(if all_reached(&done) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn all_reached(test: &ConnectivityTest) -> bool {
    test.missing.is_empty() && test.results.iter().all(|pair| pair.received > 0)
}

fn report(out: Output, test: &ConnectivityTest, known: &Names) -> String {
    let mut parts = Vec::new();
    let names: BTreeSet<_> = test.results.iter().flat_map(|pair| [source(pair), destination(pair)]).collect();
    if (1..=MATRIX_LIMIT).contains(&names.len()) {
        parts.push(out.render(matrix(&names, &test.results)));
    }
    parts.push(out.render(pairs(&test.results)));
    let missing =
        |missing: &ControlResult| format!("no answer from {}: {}", known.of_host(&missing.host_id), missing.detail);
    parts.extend(test.missing.iter().map(missing));
    let reached = test.results.iter().filter(|pair| pair.received > 0).count();
    parts.push(format!("{reached} of {} pairs answered", test.results.len()));
    parts.join("\n\n")
}

/// Average round trips, sources down, destinations across.
fn matrix(names: &BTreeSet<&str>, results: &[PairResult]) -> Table {
    let head = std::iter::once("FROM \\ TO").chain(names.iter().copied());
    let mut table = Table::new(head, "");
    for from in names {
        let cell = |to: &&str| results.iter().find(|pair| source(pair) == *from && destination(pair) == *to).map(short);
        let cells = names.iter().map(|to| cell(to).unwrap_or_default());
        table.row(std::iter::once((*from).to_owned()).chain(cells));
    }
    table
}

fn short(pair: &PairResult) -> String {
    match pair.received {
        0 => "lost".to_owned(),
        _ => milliseconds(pair.avg_us.max(1)),
    }
}

fn pairs(results: &[PairResult]) -> Table {
    let mut results: Vec<_> = results.iter().collect();
    results.sort_by_key(|pair| (source(pair), destination(pair)));
    let head = ["FROM", "TO", "SENT", "RECEIVED", "LOSS", "MIN", "AVG", "MAX", "STDDEV", "P50", "P90", "P99", "ERROR"];
    Table::of(head, "no pairs", &results, |pair| {
        let measured =
            |us: u32| if pair.received == 0 { String::new() } else { format!("{:.3}", f64::from(us) / 1_000.0) };
        [
            source(pair).to_owned(),
            destination(pair).to_owned(),
            pair.sent.to_string(),
            pair.received.to_string(),
            format!("{:.0} %", pair.loss_percent),
            measured(pair.min_us),
            measured(pair.avg_us),
            measured(pair.max_us),
            measured(pair.stddev_us),
            measured(pair.p50_us),
            measured(pair.p90_us),
            measured(pair.p99_us),
            pair.error.clone(),
        ]
    })
}

fn source(pair: &PairResult) -> &str {
    if pair.source_name.is_empty() { &pair.source } else { &pair.source_name }
}

fn destination(pair: &PairResult) -> &str {
    if pair.destination_name.is_empty() { &pair.destination } else { &pair.destination_name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source: &str, destination: &str, received: u32) -> PairResult {
        PairResult {
            source_name: source.into(),
            destination_name: destination.into(),
            sent: 3,
            received,
            avg_us: 1_500,
            ..PairResult::default()
        }
    }

    #[test]
    fn the_matrix_tells_who_was_lost() {
        let results = [pair("a", "b", 3), pair("b", "a", 0)];
        let names = BTreeSet::from(["a", "b"]);
        let expected = "FROM \\ TO  a     b\na          -     1.500 ms\nb          lost  -";
        assert_eq!(matrix(&names, &results).render(false), expected);
    }

    #[test]
    fn one_silent_pair_or_peer_is_a_failure() {
        let test = |results, missing| ConnectivityTest { results, missing, ..ConnectivityTest::default() };
        assert!(all_reached(&test(vec![pair("a", "b", 1)], vec![])));
        assert!(!all_reached(&test(vec![pair("a", "b", 1), pair("b", "a", 0)], vec![])));
        assert!(!all_reached(&test(vec![], vec![Default::default()])));
    }
}
