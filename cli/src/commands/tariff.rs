//! `cladnet tariff`.

use std::{fs, path::PathBuf};

use cladnet_model::tariff::{
    Figure, NanoUsd,
    feed::{self, Feed},
};
use cladnet_proto::cladnet::v1::{
    CheckTariffOverridesRequest, GetTariffImportsRequest, GetTariffOverridesRequest, ImportTariffRequest,
    ListTariffRulesRequest, ListTariffRulesResponse, QuoteTariffRequest, SetTariffOverridesRequest, TariffOverrides,
    TariffPlace, TariffQuote, TariffQuotePart, TariffRate, TariffRule, TariffSource, TariffWarning,
};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::{
    api::{Api, all_pages, request},
    failure::Failure,
    output::{Output, Table, age},
};

#[derive(Debug, Subcommand)]
pub(crate) enum TariffCommand {
    /// List the rules of the book in force
    ///
    ///   cladnet tariff list --provider aws --region ap-northeast-2
    #[command(verbatim_doc_comment)]
    List(ListArgs),
    /// Show what moving data from one place to another costs, with its parts
    ///
    /// A place is PROVIDER[/REGION[/ZONE[/VPC]]]. Prices are in USD per GB of 10^9 bytes.
    ///
    ///   cladnet tariff show --from aws/ap-northeast-2/apne2-az1 --to gcp/asia-northeast3
    #[command(verbatim_doc_comment)]
    Show(ShowArgs),
    /// Set your own prices, surcharges, exchange rates; without a file show them
    ///
    /// The file replaces what was set before; an empty file takes it back.
    ///
    ///   cladnet tariff set tariffs.toml --expected-version 3
    #[command(verbatim_doc_comment)]
    Set(SetArgs),
    /// Check such a file without setting it
    ///
    ///   cladnet tariff check tariffs.toml
    #[command(verbatim_doc_comment)]
    Check {
        /// TOML.
        file: PathBuf,
    },
    /// Take a provider's public price list over; without a file show what was imported
    ///
    /// You fetch it; nothing here calls a price site. AWS: index.csv of the offer AWSDataTransfer.
    /// Azure: every page of the retail prices of the services Bandwidth and Virtual Network.
    ///
    ///   cladnet tariff import aws index.csv
    ///   cladnet tariff import azure page-1.json page-2.json --dry-run
    ///   cladnet tariff import azure --remove
    #[command(verbatim_doc_comment)]
    Import(ImportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of this provider only.
    #[arg(long, default_value = "", hide_default_value = true)]
    provider: String,
    /// Only rules that name this region, or none.
    #[arg(long, default_value = "", hide_default_value = true)]
    region: String,
    /// Of this class only: internet-egress, cross-zone-private, …
    #[arg(long, default_value = "", hide_default_value = true)]
    class: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Where the sender is.
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Where the receiver is.
    #[arg(long, value_name = "PLACE")]
    to: String,
    /// By which addresses: private, public or public-v6.
    #[arg(long, default_value = "public")]
    scope: String,
    /// On this day, YYYY-MM-DD [default: today].
    #[arg(long, default_value = "", hide_default_value = true)]
    date: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// TOML.
    file: Option<PathBuf>,
    /// Refuse if they have been changed since they had this version.
    #[arg(long, value_name = "N")]
    expected_version: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Whose price list.
    #[arg(requires = "what")]
    provider: Option<PriceList>,
    /// Its files, as fetched.
    #[arg(group = "what")]
    files: Vec<PathBuf>,
    /// Show what would be imported, and import nothing.
    #[arg(long)]
    dry_run: bool,
    /// Take the import back.
    #[arg(long, group = "what", conflicts_with = "files")]
    remove: bool,
}

/// The price lists that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PriceList {
    Aws,
    Azure,
}

pub(super) async fn run(api: &Api, out: Output, command: TariffCommand) -> Result<(), Failure> {
    match command {
        TariffCommand::List(args) => list(api, out, args).await,
        TariffCommand::Show(args) => show(api, out, args).await,
        TariffCommand::Set(SetArgs { file: None, .. }) => {
            let kept = api.tariffs().get_tariff_overrides(request(GetTariffOverridesRequest {})).await?.into_inner();
            out.show_text(&kept, |kept| document(kept, "nothing is overridden"))
        }
        TariffCommand::Set(SetArgs { file: Some(file), expected_version }) => {
            let ask = SetTariffOverridesRequest { document: read(&file)?, expected_version };
            let set = api.tariffs().set_tariff_overrides(request(ask)).await?.into_inner();
            out.show_text(&set, |set| changed(set, "tariff overrides"))
        }
        TariffCommand::Check { file } => {
            let ask = CheckTariffOverridesRequest { document: read(&file)? };
            let checked = api.tariffs().check_tariff_overrides(request(ask)).await?.into_inner();
            out.show_text(&checked, |checked| {
                let verdict = if checked.warnings.is_empty() { "nothing is wrong" } else { "it would be taken on" };
                with_warnings(verdict.to_owned(), &checked.warnings)
            })
        }
        TariffCommand::Import(args) => import(api, out, args).await,
    }
}

async fn list(api: &Api, out: Output, args: ListArgs) -> Result<(), Failure> {
    let ListArgs { provider, region, class } = args;
    let ask = |page_token| ListTariffRulesRequest {
        provider: provider.clone(),
        region: region.clone(),
        class: class.clone(),
        page_size: 1000,
        page_token,
    };
    let rules: ListTariffRulesResponse =
        all_pages(|token| async { api.tariffs().list_tariff_rules(request(ask(token))).await }).await?;
    let head = ["RULE", "FROM", "TO", "SENDER", "RECEIVER", "PER", "VALID", "CONFIDENCE"];
    out.show(&rules, |list| {
        Table::of(head, "no such rules", &list.rules, |rule| {
            [
                rule.id.clone(),
                places(&rule.from),
                places(&rule.to),
                rate(rule.sender.as_ref()),
                rate(rule.receiver.as_ref()),
                format!("{}/{}", rule.currency, rule.unit),
                validity(rule),
                rule.confidence.clone(),
            ]
        })
        .sparing(&["VALID", "CONFIDENCE", "PER"])
    })
}

fn places(places: &[String]) -> String {
    /// More of them would push everything else out of sight; `--output json` has them.
    const SHOWN: usize = 3;
    match places.len() {
        0 => "anywhere".to_owned(),
        found if found > SHOWN => format!("{} +{}", places[..SHOWN].join(" "), found - SHOWN),
        _ => places.join(" "),
    }
}

fn rate(rate: Option<&TariffRate>) -> String {
    let Some(rate) = rate else { return String::new() };
    let tiers = || rate.tiers.iter().map(|tier| Figure(tier.price_nano).to_string()).collect::<Vec<_>>().join(" > ");
    match rate.price_nano {
        Some(nano) => Figure(nano).to_string(),
        None if !rate.tiers.is_empty() => tiers(),
        None if !rate.same_as.is_empty() => format!("as {}", rate.same_as),
        None => rate.unpriced.clone(),
    }
}

fn validity(rule: &TariffRule) -> String {
    match (rule.valid_from.as_str(), rule.valid_to.as_str()) {
        ("", "") => String::new(),
        (from, to) => format!("{from}..{to}"),
    }
}

async fn show(api: &Api, out: Output, args: ShowArgs) -> Result<(), Failure> {
    let ask = QuoteTariffRequest {
        from: Some(place("--from", &args.from)?),
        to: Some(place("--to", &args.to)?),
        scope: args.scope,
        date: args.date,
    };
    let quote = api.tariffs().quote_tariff(request(ask)).await?.into_inner();
    out.show_text(&quote, |quote| quoted(out, quote))
}

/// `PROVIDER[/REGION[/ZONE[/VPC]]]`; the VPC is last and may hold slashes itself.
fn place(flag: &str, text: &str) -> Result<TariffPlace, Failure> {
    let mut parts = text.splitn(4, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let place = TariffPlace { provider: next(), region: next(), zone: next(), vpc: next(), ..TariffPlace::default() };
    if place.provider.is_empty() {
        return Err(Failure::usage(format!("{flag}: {text:?} names no provider; write aws/eu-west-1/euw1-az1")));
    }
    Ok(place)
}

fn quoted(out: Output, quote: &TariffQuote) -> String {
    let price = match quote.per_gb_nano_usd {
        Some(nano) => format!("{} USD/GB", usd(nano)),
        None => "price unknown".to_owned(),
    };
    let estimated = if quote.estimated { ", estimated" } else { "" };
    let mut lines = vec![format!("{}: {price}{estimated}", quote.class)];
    lines.extend(quote.assumed.iter().map(|assumed| out.sentence(&format!("assumed: {assumed}"))));
    let head = ["SIDE", "CLASS", "USD/GB", "LISTED", "RULE", "CONFIDENCE", "SOURCE"];
    let parts = Table::of(head, "nothing is paid", &quote.parts, |part| {
        [
            part.side.clone(),
            part.class.clone(),
            part.per_gb_nano_usd.map_or_else(|| "unknown".to_owned(), usd),
            listed(part),
            part.rule_id.clone(),
            part.confidence.clone(),
            part.sources.first().map(sourced).unwrap_or_default(),
        ]
    });
    lines.push(out.render(parts.ending_in_prose().sparing(&["LISTED", "RULE"])));
    let unpriced = quote.parts.iter().filter(|part| !part.unpriced.is_empty());
    lines.extend(unpriced.map(|part| format!("{}: {}", part.side, part.unpriced)));
    lines.extend(quote.warnings.iter().map(|warning| out.sentence(&format!("warning: {warning}"))));
    lines.push(format!("book {} of {}", quote.book_version, quote.book_compiled_on));
    lines.join("\n")
}

fn sourced(source: &TariffSource) -> String {
    if source.date.is_empty() { source.document.clone() } else { format!("{} ({})", source.document, source.date) }
}

fn usd(nano: u64) -> String {
    NanoUsd(i64::try_from(nano).unwrap_or(i64::MAX)).to_string()
}

fn listed(part: &TariffQuotePart) -> String {
    let Some(nano) = part.listed_nano else { return String::new() };
    format!("{} {}/{}", Figure(nano), part.currency, part.unit)
}

async fn import(api: &Api, out: Output, args: ImportArgs) -> Result<(), Failure> {
    let Some(list) = args.provider else {
        let kept = api.tariffs().get_tariff_imports(request(GetTariffImportsRequest {})).await?.into_inner();
        return out.show_text(&kept, |kept| document(kept, "nothing is imported"));
    };
    let provider = match list {
        PriceList::Aws => "aws",
        PriceList::Azure => "azure",
    };
    let document = if args.remove { String::new() } else { read_feed(list, &args.files)? };
    if args.dry_run {
        return out.say(&document);
    }
    let ask = ImportTariffRequest { provider: provider.to_owned(), document };
    let imported = api.tariffs().import_tariff(request(ask)).await?.into_inner();
    out.show_text(&imported, |imported| changed(imported, "imported tariffs"))
}

/// Reads a price list; one that is not whole imports nothing, and what was imported before stays.
fn read_feed(list: PriceList, files: &[PathBuf]) -> Result<String, Failure> {
    let texts = files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let today = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let feed = match list {
        PriceList::Aws => feed::aws(&texts, today),
        PriceList::Azure => feed::azure(&texts, today),
    };
    let Feed { document, left_out } =
        feed.map_err(|error| Failure::failed(format!("nothing was imported: {error}")))?;
    for (reason, count) in left_out {
        eprintln!("{count} lines left out: {reason}");
    }
    Ok(document.to_text())
}

fn read(file: &PathBuf) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))
}

fn document(kept: &TariffOverrides, nothing: &str) -> String {
    if kept.document.is_empty() {
        return nothing.to_owned();
    }
    let changed = age(kept.changed_at, Timestamp::now());
    format!("# version {}, changed {changed} by {}\n{}", kept.version, kept.changed_by, kept.document.trim_end())
}

fn changed(kept: &TariffOverrides, what: &str) -> String {
    with_warnings(format!("{what} are at version {}", kept.version), &kept.warnings)
}

fn with_warnings(sentence: String, warnings: &[TariffWarning]) -> String {
    let warnings = warnings.iter().map(|warning| format!("warning: {} {}", warning.field, warning.problem));
    std::iter::once(sentence).chain(warnings).collect::<Vec<_>>().join("\n")
}
