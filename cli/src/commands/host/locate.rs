//! `cladnet host locate`: where one machine is, or, by a file, where many are.

use std::path::PathBuf;

use cladnet_proto::cladnet::v1::{
    BatchUpdateHostLocationsRequest, BatchUpdateHostLocationsResponse, Host, HostLocationEntry, HostLocationResult,
    InjectedLocation, LocationField, QuoteTariffRequest, TariffPlace, UpdateHostLocationRequest,
};
use clap::Args;
use serde::Deserialize;

use super::{lookup, sheet};
use crate::{
    api::{Api, request},
    csv_text::{CsvText, told},
    failure::Failure,
    output::{Output, Table},
};

/// Entries that the service takes at once.
const BATCH: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct LocateArgs {
    /// Id or name of the host.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    host: Option<String>,
    /// Many hosts: CSV with host, instance or address, and with provider, account, region, zone, vpc, subnet as far as known;
    /// in the column clear stand names of fields to take back, with spaces between.
    #[arg(long, value_name = "FILE", conflicts_with = "location")]
    file: Option<PathBuf>,
    #[command(flatten)]
    location: LocationArgs,
}

#[derive(Debug, Args)]
#[group(id = "location", multiple = true)]
struct LocationArgs {
    /// aws, gcp, azure, openstack, …
    #[arg(long, default_value = "", hide_default_value = true)]
    provider: String,
    /// Account, project or subscription.
    #[arg(long, default_value = "", hide_default_value = true)]
    account: String,
    /// Region, as the provider spells it.
    #[arg(long, default_value = "", hide_default_value = true)]
    region: String,
    /// Zone, as the provider spells it.
    #[arg(long, default_value = "", hide_default_value = true)]
    zone: String,
    /// Id of the VPC or vNet; hosts of one VPC use private paths.
    #[arg(long, default_value = "", hide_default_value = true)]
    vpc: String,
    /// Id of the subnet.
    #[arg(long, default_value = "", hide_default_value = true)]
    subnet: String,
    /// Take back what was said of this field: region, zone, …; what the machine found counts again.
    #[arg(long, value_name = "FIELD")]
    clear: Vec<String>,
}

/// A line of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Line {
    /// Id or name.
    host: String,
    /// The provider's id of the VM.
    instance: String,
    address: String,
    provider: String,
    account: String,
    region: String,
    zone: String,
    vpc: String,
    subnet: String,
    clear: String,
}

pub(super) async fn run(api: &Api, out: Output, args: LocateArgs) -> Result<(), Failure> {
    match (args.host, args.file) {
        (_, Some(file)) => many(api, out, &file).await,
        (host, None) => one(api, out, &host.unwrap_or_default(), args.location).await,
    }
}

async fn one(api: &Api, out: Output, host: &str, args: LocationArgs) -> Result<(), Failure> {
    let LocationArgs { provider, account, region, zone, vpc, subnet, clear } = args;
    let location = InjectedLocation { provider, account, region, zone, vpc, subnet };
    if location == InjectedLocation::default() && clear.is_empty() {
        let nothing =
            "nothing to say; name --provider, --account, --region, --zone, --vpc or --subnet, or --clear a field";
        return Err(Failure::usage(nothing));
    }
    let host_id = lookup::host_id(api, host).await?;
    let ask = UpdateHostLocationRequest { host_id, location: Some(location), clear };
    let located = api.hosts().update_host_location(request(ask)).await?.into_inner();
    if let Some(doubt) = doubt(api, &located).await? {
        eprintln!("warning: {doubt}");
    }
    out.show(&located, sheet)
}

/// What is odd about where a host is now, as the service says of any place.
async fn doubt(api: &Api, host: &Host) -> Result<Option<String>, Failure> {
    let Some(location) = &host.location else { return Ok(None) };
    let value = |field: &Option<LocationField>| field.as_ref().map(|field| field.value.clone()).unwrap_or_default();
    let here =
        TariffPlace { provider: value(&location.provider), region: value(&location.region), ..TariffPlace::default() };
    let ask = QuoteTariffRequest { from: Some(here.clone()), to: Some(here), ..QuoteTariffRequest::default() };
    let quote = api.tariffs().quote_tariff(request(ask)).await?.into_inner();
    Ok(quote.warnings.first().map(|warning| warning.trim_start_matches("from: ").to_owned()))
}

async fn many(api: &Api, out: Output, file: &PathBuf) -> Result<(), Failure> {
    let text = std::fs::read(file).map_err(|error| Failure::unreadable("--file", file, &error))?;
    let wrong = |problem: String| Failure::usage(format!("--file {}: {problem}", file.display()));
    let lines = read(&text).map_err(wrong)?;
    let hosts =
        if lines.iter().any(|(_, line)| !line.host.is_empty()) { lookup::hosts(api).await? } else { Vec::new() };
    let numbers: Vec<u64> = lines.iter().map(|(number, _)| *number).collect();
    let entries: Vec<_> = lines
        .into_iter()
        .map(|(number, line)| entry(line, &hosts).map_err(|problem| wrong(format!("line {number}: {problem}"))))
        .collect::<Result<_, _>>()?;
    let mut results = Vec::with_capacity(entries.len());
    for batch in entries.chunks(BATCH) {
        let ask = BatchUpdateHostLocationsRequest { entries: batch.to_vec() };
        results.extend(api.hosts().batch_update_host_locations(request(ask)).await?.into_inner().results);
    }
    let answer = BatchUpdateHostLocationsResponse { results };
    out.show(&answer, |answer| table(&numbers, &answer.results))?;
    let failed = answer.results.iter().filter(|result| !result.error.is_empty()).count();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::failed(format!("{failed} of {} hosts were not located", answer.results.len()))),
    }
}

/// Lines with their numbers; each names a host in one way and says something of it.
fn read(text: &[u8]) -> Result<Vec<(u64, Line)>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(CsvText(text));
    let head = reader.headers().map_err(|error| told(&error))?.clone();
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| told(&error))?;
        let number = record.position().map_or(0, csv::Position::line);
        let line: Line = record.deserialize(Some(&head)).map_err(|error| told(&error))?;
        let names = [&line.host, &line.instance, &line.address].into_iter().filter(|name| !name.is_empty()).count();
        if names != 1 {
            return Err(format!("line {number}: name one of host, instance, address"));
        }
        let said = [&line.provider, &line.account, &line.region, &line.zone, &line.vpc, &line.subnet, &line.clear];
        if said.into_iter().all(String::is_empty) {
            return Err(format!("line {number}: it says nothing of where the host is"));
        }
        lines.push((number, line));
    }
    if lines.is_empty() { Err("it names no host".to_owned()) } else { Ok(lines) }
}

fn entry(line: Line, hosts: &[Host]) -> Result<HostLocationEntry, String> {
    let Line { host, instance, address, provider, account, region, zone, vpc, subnet, clear } = line;
    let host_id =
        if host.is_empty() { host } else { lookup::host_among(hosts, &host).map_err(|error| error.to_string())? };
    let location = InjectedLocation { provider, account, region, zone, vpc, subnet };
    let clear = clear.split_whitespace().map(str::to_owned).collect();
    Ok(HostLocationEntry { host_id, instance_id: instance, address, location: Some(location), clear })
}

fn table(numbers: &[u64], results: &[HostLocationResult]) -> Table {
    let results: Vec<_> = numbers.iter().zip(results).collect();
    Table::of(["LINE", "HOST", "RESULT"], "no hosts", &results, |(number, result)| {
        let told = match (result.error.as_str(), result.warning.as_str()) {
            ("", "") => "located".to_owned(),
            ("", warning) => format!("located; warning: {warning}"),
            (error, _) => error.to_owned(),
        };
        [number.to_string(), result.host_id.clone(), told]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str, name: &str) -> Host {
        Host { host_id: id.to_owned(), host_name: name.to_owned(), ..Host::default() }
    }

    #[test]
    fn every_line_names_a_host_in_one_way() {
        let text = "\u{feff}instance,host,address,provider,vpc\ni-1,,,aws,vpc-1\n,vm-b,,,vpc-2\n,,10.0.0.3,azure,\n";
        let hosts = [host("host-a", "vm-a"), host("host-b", "vm-b")];
        let lines = read(text.as_bytes()).unwrap();
        assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3, 4]);
        let entries: Vec<_> = lines.into_iter().map(|(_, line)| entry(line, &hosts).unwrap()).collect();
        assert_eq!(entries[0].instance_id, "i-1");
        assert_eq!((entries[1].host_id.as_str(), entries[2].address.as_str()), ("host-b", "10.0.0.3"));
        assert_eq!(entries[1].location.as_ref().unwrap().vpc, "vpc-2");
    }

    #[test]
    fn fields_are_taken_back_by_name() {
        let lines = read(b"host,provider,clear\nhost-a,,region zone\n").unwrap();
        let (_, line) = lines.into_iter().next().unwrap();
        assert_eq!(entry(line, &[host("host-a", "vm-a")]).unwrap().clear, ["region", "zone"]);
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_with_its_line() {
        for (text, complaint) in [
            ("host,provider\nvm-a,aws\n,aws\n", "line 3: name one of host, instance, address"),
            ("host,instance,provider\nvm-a,i-1,aws\n", "line 2: name one of"),
            ("host,provider\nvm-a,\n", "line 2: it says nothing"),
            ("host,vpcid\nvm-a,vpc-1\n", "unknown field `vpcid`"),
            ("host,provider\nvm-a\n", "line 2: it has 1 columns, and the head has 2"),
            ("host,provider\n", "it names no host"),
        ] {
            for text in [text.to_owned(), text.replace('\n', "\r\n")] {
                let refused = read(text.as_bytes()).unwrap_err();
                assert!(refused.contains(complaint), "{complaint} in {refused}");
            }
        }
        let (_, line) = read(b"host,provider\nvm-a,aws\n").unwrap().remove(0);
        let refused = entry(line, &[host("host-a", "vm-a"), host("host-b", "vm-a")]).unwrap_err();
        assert!(refused.contains("host-a") && refused.contains("host-b"), "{refused}");
    }
}
