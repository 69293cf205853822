//! `cladnet cost`.

mod reconcile;
mod what_if;

use std::io;

use cladnet_model::tariff::{Figure, NanoUsd};
use cladnet_proto::cladnet::v1::{
    Budget, CostLine, CostReport, GetCostReportRequest, ListBudgetsRequest, RemoveBudgetRequest, SetBudgetRequest,
};
use clap::{Args, Subcommand, ValueEnum};
use jiff::civil::Date;

use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, Table, bytes, one_line},
};
use reconcile::ReconcileArgs;
use what_if::WhatIfArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum CostCommand {
    /// Show what bytes cost, beside what they would have cost over public addresses
    ///
    ///   cladnet cost report --by pair
    ///   cladnet cost report --network prod --from 2026-11-01 --to 2026-11-30 --by day --csv
    #[command(verbatim_doc_comment)]
    Report(ReportArgs),
    /// Price the traffic of the last 30 days, or of a file, as it would go otherwise
    ///
    ///   cladnet cost what-if --rule-type basic --rule-type cost-prioritized
    ///   cladnet cost what-if --move db-1=gcp/asia-northeast3
    ///   cladnet cost what-if --matrix matrix.csv --move aws/us-east-1=aws/eu-west-1
    #[command(name = "what-if", verbatim_doc_comment)]
    WhatIf(WhatIfArgs),
    /// Lay our bytes beside a provider's bill
    ///
    ///   cladnet cost reconcile --aws-cur cur-2026-11.csv
    ///   cladnet cost reconcile --azure-export usage-details.csv
    #[command(verbatim_doc_comment)]
    Reconcile(ReconcileArgs),
    /// Budgets: what a month may cost
    #[command(subcommand)]
    Budget(BudgetCommand),
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Of this network only.
    #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true)]
    network: String,
    /// First day, UTC; the first of the month of the last day.
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// Last day, UTC; today.
    #[arg(long, value_name = "DAY")]
    to: Option<Date>,
    /// What a line stands for.
    #[arg(long, value_enum, default_value = "network")]
    by: Dimension,
    /// Comma-separated values in place of a table.
    #[arg(long)]
    csv: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dimension {
    Network,
    /// Of providers.
    Pair,
    Host,
    Class,
    Day,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BudgetCommand {
    /// Set what a network, or all together, may cost in a month
    ///
    ///   cladnet cost budget set 500 --network prod --warn-at 75
    #[command(verbatim_doc_comment)]
    Set {
        /// US dollars a month.
        #[arg(allow_negative_numbers = true)]
        usd: f64,
        /// Of this network only.
        #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true)]
        network: String,
        /// Per cent of it at which to warn, besides at 100.
        #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u32).range(1..=100))]
        warn_at: u32,
    },
    /// List budgets with what is spent of them
    ///
    ///   cladnet cost budget list
    #[command(verbatim_doc_comment)]
    List,
    /// Remove a budget
    ///
    ///   cladnet cost budget remove --network prod
    #[command(verbatim_doc_comment)]
    Remove {
        /// That of this network; of all together, if none is named.
        #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true)]
        network: String,
    },
}

pub(super) async fn run(api: &Api, out: Output, command: CostCommand) -> Result<(), Failure> {
    match command {
        CostCommand::Report(args) => report(api, out, args).await,
        CostCommand::WhatIf(args) => what_if::run(api, out, args).await,
        CostCommand::Reconcile(args) => reconcile::run(api, out, args).await,
        CostCommand::Budget(command) => budget(api, out, command).await,
    }
}

async fn report(api: &Api, out: Output, args: ReportArgs) -> Result<(), Failure> {
    let by = args.by.to_possible_value().expect("no dimension is hidden").get_name().to_owned();
    let ask = GetCostReportRequest { network_id: args.network, from: day(args.from), to: day(args.to), by };
    let report = api.costs().get_cost_report(request(ask)).await?.into_inner();
    if args.csv {
        missing(out, report.unreadable_records).iter().for_each(|warning| eprintln!("{warning}"));
        write_csv(&report)
    } else {
        out.show_text(&report, |report| text(out, report))
    }
}

fn day(day: Option<Date>) -> String {
    day.map(|day| day.to_string()).unwrap_or_default()
}

fn text(out: Output, report: &CostReport) -> String {
    let head =
        [report.by.to_uppercase().as_str(), "SENT", "RECEIVED", "SPENT USD", "SAVED USD", "UNPRICED", "ESTIMATED"]
            .map(str::to_owned);
    let mut lines = Table::new(head, "nothing was sent").with_figures(1..7);
    let shown = |line: &CostLine| if line.name.is_empty() { line.key.clone() } else { line.name.clone() };
    let mut sorted: Vec<_> = report.lines.iter().collect();
    sorted.sort_by_cached_key(|line| shown(line));
    let total = report.total.iter().filter(|_| !report.lines.is_empty());
    for line in sorted.into_iter().chain(total) {
        let known = Some(shown(line)).filter(|text| !text.is_empty());
        lines.row([
            known.unwrap_or_else(|| "total".to_owned()),
            bytes(line.sent_bytes),
            bytes(line.received_bytes),
            usd(line.spent_nano_usd),
            usd(line.saved_nano_usd),
            some(line.unpriced_bytes),
            some(line.estimated_bytes),
        ]);
    }
    let mut parts = vec![out.render(lines)];
    let total = report.total.clone().unwrap_or_default();
    parts.push(format!("{} to {}; saved against {}", report.from, report.to, one_line(&report.baseline)));
    if total.unpriced_bytes > 0 {
        let hint = "`cladnet host list` shows where hosts are, `cladnet tariff list` what is priced";
        parts.push(format!("no price of {}, counted at either end: {hint}", bytes(total.unpriced_bytes)));
    }
    if total.uncompared_bytes > 0 {
        parts.push(format!("no price over public addresses: {}", bytes(total.uncompared_bytes)));
    }
    if total.clear_bytes > 0 {
        let spared = f64::from(u32::try_from(total.spared_cpu_ms).unwrap_or(u32::MAX)) / 1_000.0;
        parts.push(format!("{} in clear frames spared {spared:.1} s of processor time", bytes(total.clear_bytes)));
    }
    parts.extend(missing(out, report.unreadable_records));
    parts.extend(report.budgets.iter().filter(|budget| budget.warning).map(|budget| {
        let (whose, percent) = (whose(budget), budget.spent_percent);
        format!("WARNING: budget of {whose}: {percent} % of {} USD is spent this month", usd(budget.monthly_nano_usd))
    }));
    parts.join("\n")
}

/// What is said of usage that is kept and cannot be read.
fn missing(out: Output, records: u32) -> Option<String> {
    let what = if records == 1 { "1 record of usage".to_owned() } else { format!("{records} records of usage") };
    let text = format!("WARNING: {what} cannot be read, so their bytes are missing here; the service's log names them");
    (records > 0).then(|| out.sentence(&text))
}

fn write_csv(report: &CostReport) -> Result<(), Failure> {
    let mut csv = csv::Writer::from_writer(io::stdout().lock());
    let failed = |error: csv::Error| Failure::failed(format!("cannot write: {error}"));
    csv.write_record([
        report.by.as_str(),
        "name",
        "sent_bytes",
        "received_bytes",
        "spent_usd",
        "saved_usd",
        "unpriced_bytes",
        "uncompared_bytes",
        "estimated_bytes",
        "clear_bytes",
        "spared_cpu_ms",
    ])
    .map_err(failed)?;
    for line in &report.lines {
        csv.write_record(cells(line)).map_err(failed)?;
    }
    Ok(csv.flush()?)
}

fn cells(line: &CostLine) -> [String; 11] {
    [
        cell(&line.key),
        cell(&line.name),
        line.sent_bytes.to_string(),
        line.received_bytes.to_string(),
        NanoUsd(line.spent_nano_usd).to_string(),
        NanoUsd(line.saved_nano_usd).to_string(),
        line.unpriced_bytes.to_string(),
        line.uncompared_bytes.to_string(),
        line.estimated_bytes.to_string(),
        line.clear_bytes.to_string(),
        line.spared_cpu_ms.to_string(),
    ]
}

/// A name that a host chose must be no formula in somebody's spreadsheet.
fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}

/// Money for people; the least of it is not nothing.
fn usd(nano: i64) -> String {
    match nano {
        1..=99_999 => "<0.0001".to_owned(),
        -99_999..=-1 => ">-0.0001".to_owned(),
        nano => format!("{:.4}", NanoUsd(nano)),
    }
}

/// A cell that is empty where there is nothing to say.
fn some(count: u64) -> String {
    if count == 0 { String::new() } else { bytes(count) }
}

async fn budget(api: &Api, out: Output, command: BudgetCommand) -> Result<(), Failure> {
    match command {
        BudgetCommand::Set { usd, network, warn_at } => {
            let monthly = Figure::from_decimal(usd).map_err(|error| Failure::usage(format!("USD {error}")))?;
            let monthly_nano_usd = i64::try_from(monthly.0).unwrap_or(i64::MAX);
            let ask = SetBudgetRequest { network_id: network, monthly_nano_usd, warn_percent: warn_at };
            let set = api.costs().set_budget(request(ask)).await?.into_inner();
            out.show_text(&set, |set| budgets(out, std::slice::from_ref(set)))
        }
        BudgetCommand::List => {
            let listed = api.costs().list_budgets(request(ListBudgetsRequest {})).await?.into_inner();
            out.show_text(&listed, |listed| budgets(out, &listed.budgets))
        }
        BudgetCommand::Remove { network } => {
            api.costs().remove_budget(request(RemoveBudgetRequest { network_id: network })).await?;
            out.say("removed")
        }
    }
}

fn budgets(out: Output, budgets: &[Budget]) -> String {
    let table =
        Table::of(["NETWORK", "USD A MONTH", "SPENT USD", "SPENT", "WARNS AT"], "no budgets", budgets, |budget| {
            [
                whose(budget),
                usd(budget.monthly_nano_usd),
                usd(budget.spent_nano_usd),
                format!("{} %", budget.spent_percent),
                format!("{} %", budget.warn_percent),
            ]
        });
    let missing = missing(out, budgets.first().map_or(0, |budget| budget.unreadable_records));
    std::iter::once(out.render(table.with_figures(1..5))).chain(missing).collect::<Vec<_>>().join("\n")
}

fn whose(budget: &Budget) -> String {
    if budget.network_id.is_empty() { "all networks".to_owned() } else { budget.network_id.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_formula() {
        assert_eq!([cell("vm-1"), cell("=cmd"), cell("-1")], ["vm-1", "'=cmd", "'-1"]);
    }

    #[test]
    fn a_report_has_its_total_and_what_it_could_not_price() {
        let line = CostLine { key: "prod".into(), sent_bytes: 5, spent_nano_usd: -4_000_000, ..CostLine::default() };
        let total = CostLine { key: String::new(), unpriced_bytes: 6, uncompared_bytes: 7, ..line.clone() };
        let report =
            CostReport { by: "network".into(), lines: vec![line], total: Some(total), ..CostReport::default() };
        let report = CostReport { unreadable_records: 2, ..report };
        let text = text(Output::new(crate::output::Format::Table), &report);
        assert_eq!([usd(0), usd(155), usd(-155), usd(100_000)], ["0.0000", "<0.0001", ">-0.0001", "0.0001"]);
        for part in [
            "NETWORK",
            "prod",
            "-0.0040",
            "total",
            "no price of 6 B, counted at either end",
            "no price over public addresses: 7 B",
            "2 records of usage cannot be read",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
