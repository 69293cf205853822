//! `cladnet cost what-if`.

use std::path::PathBuf;

use cladnet_proto::cladnet::v1::{TrafficFlow, TrafficMove, WhatIfCostRequest};
use clap::Args;
use serde::Deserialize;

use super::{missing, some, usd};
use crate::{
    api::{Api, request},
    csv_text::{CsvText, told},
    failure::Failure,
    output::{Output, Table, bytes, one_line},
};

#[derive(Debug, Args)]
pub(crate) struct WhatIfArgs {
    /// The traffic of this network only.
    #[arg(long, value_name = "NETWORK", default_value = "", hide_default_value = true, conflicts_with = "matrix")]
    network: String,
    /// Price it under this rule type, or under cb-network, that project's cost rule; several times, or all of them.
    #[arg(long = "rule-type", value_name = "RULE")]
    rule_types: Vec<String>,
    /// A host or a region that stands elsewhere: db-1=gcp/asia-northeast3, aws/us-east-1=aws/eu-west-1.
    #[arg(long = "move", value_name = "WHAT=PLACE", value_parser = parse_move)]
    moves: Vec<(String, String)>,
    /// Traffic in place of what was sent: CSV with source, destination, scope, bytes; places as provider/region[/zone[/vpc]].
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,
}

fn parse_move(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(what, to)| !what.is_empty() && !to.is_empty());
    let (what, to) = parts.ok_or("say what and where: db-1=gcp/asia-northeast3")?;
    Ok((what.to_owned(), to.to_owned()))
}

/// A line of a matrix.
#[derive(Debug, Deserialize)]
struct Line {
    source: String,
    destination: String,
    #[serde(default)]
    scope: String,
    bytes: u64,
}

pub(super) async fn run(api: &Api, out: Output, args: WhatIfArgs) -> Result<(), Failure> {
    let matrix = match &args.matrix {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Failure::usage(format!("--matrix {}: {error}", file.display())))?;
            read(&text).map_err(|error| Failure::usage(format!("--matrix {}: {error}", file.display())))?
        }
        None => Vec::new(),
    };
    let what = args.matrix.as_ref().map_or("the last 30 days".to_owned(), |file| file.display().to_string());
    let under = if args.moves.is_empty() { "" } else { "; rule types with the moves" };
    let moves = args.moves.into_iter().map(|(what, to)| TrafficMove { what, to }).collect();
    let ask = WhatIfCostRequest { network_id: args.network, matrix, moves, rule_types: args.rule_types };
    let answer = api.costs().what_if_cost(request(ask)).await?.into_inner();
    out.show_text(&answer, |answer| {
        let table = Table::of(
            ["TRAFFIC", "BYTES", "COST USD", "UNPRICED", "ESTIMATED"],
            "no traffic",
            &answer.scenarios,
            |scenario| {
                [
                    scenario.name.clone(),
                    bytes(scenario.bytes),
                    usd(scenario.cost_nano_usd),
                    some(scenario.unpriced_bytes),
                    some(scenario.estimated_bytes),
                ]
            },
        );
        let mut lines = vec![out.render(table.with_figures(1..5))];
        lines.push(format!("{what}, as one month by tariff book {}{under}", one_line(&answer.tariff_book)));
        lines.extend(answer.assumed.iter().map(|assumed| out.sentence(&format!("assumed of {assumed}"))));
        lines.extend(answer.warnings.iter().map(|warning| out.sentence(&format!("warning: {warning}"))));
        lines.extend(missing(out, answer.unreadable_records));
        lines.join("\n")
    })
}

fn read(text: &str) -> Result<Vec<TrafficFlow>, String> {
    let flows: Vec<TrafficFlow> = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(CsvText(text.as_bytes()))
        .deserialize::<Line>()
        .map(|line| {
            let Line { source, destination, scope, bytes } = line?;
            Ok(TrafficFlow { source, destination, scope, bytes })
        })
        .collect::<Result<_, csv::Error>>()
        .map_err(|error| told(&error))?;
    if flows.is_empty() { Err("it holds no traffic".to_owned()) } else { Ok(flows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_read_and_a_bad_line_is_named() {
        let flows = read("source,destination,scope,bytes\naws/a, gcp/b, public, 5\n").unwrap();
        assert_eq!((flows[0].destination.as_str(), flows[0].bytes), ("gcp/b", 5));
        assert_eq!(read("source,destination,bytes\na/b,c/d,1\n").unwrap()[0].scope, "");
        for (text, complaint) in [
            ("source,destination,scope,bytes\naws/a,gcp/b,public,many\n", "line 2: field 3: "),
            ("source,bytes\naws/a,1\n", "destination"),
            ("source,destination,scope,bytes\n", "no traffic"),
        ] {
            for text in [text.to_owned(), text.replace('\n', "\r\n")] {
                let error = read(&text).unwrap_err();
                assert!(error.contains(complaint), "{complaint} in {error}");
            }
        }
    }

    #[test]
    fn a_move_says_what_and_where() {
        assert_eq!(parse_move("db=gcp/b"), Ok(("db".into(), "gcp/b".into())));
        assert!(parse_move("db").is_err() && parse_move("=gcp/b").is_err() && parse_move("db=").is_err());
    }
}
