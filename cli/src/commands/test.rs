//! `cladnet test`.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use cladnet_proto::cladnet::v1::{
    ConnectivityRun, ConnectivityTest, ControlResult, GetConnectivityRunRequest, ListConnectivityRunsRequest,
    PairResult, RunConnectivityTestRequest,
};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{lookup::Names, peer::MARGIN};
use crate::{
    api::{Api, request, request_within},
    failure::Failure,
    output::{Output, Table, age, milliseconds, one_line},
    parse,
};

/// The longest deadline the service takes.
const LONGEST: Duration = Duration::from_secs(120);
/// The largest test has some 40 MB: a minute at 5 Mbit/s.
const TRANSFER: Duration = Duration::from_secs(300);
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
    /// List the last tests of a network, the newest first
    ///
    ///   cladnet test list prod
    #[command(verbatim_doc_comment)]
    List {
        /// Id of the network.
        network: String,
    },
    /// Show what a test measured, or has measured so far
    ///
    ///   cladnet test show prod run-000643f2a4dq0000-a4dqobyha4dqobyh
    #[command(verbatim_doc_comment)]
    Show {
        /// Id of the network.
        network: String,
        /// Id of the test's run, as `cladnet test list` shows it.
        run: String,
    },
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
    match command {
        TestCommand::Connectivity(args) => return connectivity(api, out, args).await,
        TestCommand::List { network } => list(api, out, network).await?,
        TestCommand::Show { network, run } => show(api, out, network, run).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn connectivity(api: &Api, out: Output, args: ConnectivityArgs) -> Result<ExitCode, Failure> {
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

async fn list(api: &Api, out: Output, network_id: String) -> Result<(), Failure> {
    let listed = api.tests().list_connectivity_runs(request(ListConnectivityRunsRequest { network_id })).await?;
    let now = Timestamp::now();
    out.show(&listed.into_inner(), |listed| {
        let head = ["RUN", "STARTED", "STATE", "ANSWERED", "MISSING", "LOSS", "MEDIAN"];
        Table::of(head, "no tests", &listed.runs, |run| {
            [
                run.run_id.clone(),
                age(run.started_at, now),
                state(run).to_owned(),
                format!("{} of {}", run.answered, run.asked),
                run.missing.len().to_string(),
                format!("{:.0} %", run.loss_percent),
                milliseconds(run.p50_us),
            ]
        })
    })
}

async fn show(api: &Api, out: Output, network_id: String, run_id: String) -> Result<(), Failure> {
    let names = Names::of(api, out, &network_id).await?;
    let ask = request_within(TRANSFER, GetConnectivityRunRequest { network_id, run_id });
    let shown = api.tests().get_connectivity_run(ask).await?;
    out.show_text(&shown.into_inner(), |run| {
        let test = ConnectivityTest {
            results: run.results.clone(),
            missing: run.missing.clone(),
            ..ConnectivityTest::default()
        };
        format!("{}\n\n{}", heading(run, Timestamp::now()), report(out, &test, &names))
    })
}

fn state(run: &ConnectivityRun) -> &'static str {
    if run.done { "done" } else { "running" }
}

/// "run-… is running, started 3s ago: 2 of 3 peers answered, 1 % lost, median 0.412 ms; 7 quick pairs are not kept".
fn heading(run: &ConnectivityRun, now: Timestamp) -> String {
    let ConnectivityRun { run_id, asked, answered, loss_percent, p50_us, left_out, .. } = run;
    let (state, started) = (state(run), age(run.started_at, now));
    let median = if *p50_us == 0 { String::new() } else { format!(", median {}", milliseconds(*p50_us)) };
    let rest = if *left_out == 0 { String::new() } else { format!("; {left_out} quick pairs are not kept") };
    format!(
        "{run_id} is {state}, started {started}: {answered} of {asked} peers answered, {loss_percent:.0} % lost{median}{rest}"
    )
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
    let missing = |missing: &ControlResult| {
        one_line(&format!("no answer from {}: {}", known.of_host(&missing.host_id), missing.detail))
    };
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
        assert_eq!(matrix(&names, &results).plain(), expected);
    }

    #[test]
    fn a_run_is_told_in_a_line() {
        let mut run = ConnectivityRun {
            run_id: "run-1".into(),
            started_at: Some(prost_types::Timestamp { seconds: 100, nanos: 0 }),
            asked: 3,
            answered: 2,
            loss_percent: 1.2,
            p50_us: 412,
            ..ConnectivityRun::default()
        };
        let now = Timestamp::from_second(103).unwrap();
        let told = "run-1 is running, started 3s ago: 2 of 3 peers answered, 1 % lost, median 0.412 ms";
        assert_eq!(heading(&run, now), told);
        (run.done, run.left_out, run.p50_us) = (true, 7, 0);
        let told = "run-1 is done, started 3s ago: 2 of 3 peers answered, 1 % lost; 7 quick pairs are not kept";
        assert_eq!(heading(&run, now), told);
    }

    #[test]
    fn one_silent_pair_or_peer_is_a_failure() {
        let test = |results, missing| ConnectivityTest { results, missing, ..ConnectivityTest::default() };
        assert!(all_reached(&test(vec![pair("a", "b", 1)], vec![])));
        assert!(!all_reached(&test(vec![pair("a", "b", 1), pair("b", "a", 0)], vec![])));
        assert!(!all_reached(&test(vec![], vec![Default::default()])));
    }
}
