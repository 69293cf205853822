//! `cladnet cost reconcile`: our bytes beside those of a provider's bill, by what the bill calls them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use cladnet_model::tariff::Unit;
use cladnet_proto::cladnet::v1::{CostReconciliation, ListBilledUsageRequest, ReconciledUsage};
use clap::{ArgGroup, Args};
use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;
use jiff::civil::Date;

use super::missing;
use crate::{
    api::{Api, request},
    csv_text::{CsvText, told},
    failure::Failure,
    output::{Output, Table, bytes},
};

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = ArgGroup::new("bill").required(true))]
pub(crate) struct ReconcileArgs {
    /// A Cost and Usage Report of AWS, CSV, also as gzip; each file of one that has several.
    #[arg(long, value_name = "FILE", num_args = 1.., group = "bill")]
    aws_cur: Vec<PathBuf>,
    /// Usage details that Azure exported, CSV, also as gzip; each file, as for AWS.
    #[arg(long, value_name = "FILE", num_args = 1.., group = "bill")]
    azure_export: Vec<PathBuf>,
    /// First day, UTC; that of the files.
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// Last day, UTC; that of the files.
    #[arg(long, value_name = "DAY")]
    to: Option<Date>,
}

/// How a provider's bill is read.
struct Form {
    provider: &'static str,
    flag: &'static str,
    usage_type: &'static [&'static str],
    amount: &'static [&'static str],
    date: &'static [&'static str],
    /// What tells usage from taxes, credits and discounts, which repeat its amounts. Smaller exports do not have it.
    kind: &'static str,
    unit: Unit,
    is_transfer: fn(&str) -> bool,
    /// The usage type under which ours counts what the bill has under several.
    ours: fn(&str) -> String,
}

/// Columns as files of either kind name them, without marks: `lineItem/UsageType` and `line_item_usage_type` are one.
const AWS: Form = Form {
    provider: "aws",
    flag: "--aws-cur",
    usage_type: &["lineitemusagetype"],
    amount: &["lineitemusageamount"],
    date: &["lineitemusagestartdate"],
    kind: "lineitemlineitemtype",
    unit: Unit::GiB,
    is_transfer: |name| {
        let ends = ["-AWS-Out-Bytes", "-AWS-In-Bytes", "VpcPeering-Out-Bytes", "VpcPeering-In-Bytes"];
        name.contains("DataTransfer") || ends.iter().any(|end| name.ends_with(end))
    },
    ours: |name| {
        const INSIDE_A_REGION: [&str; 4] =
            ["DataTransfer-xAZ-Out-Bytes", "DataTransfer-xAZ-In-Bytes", "VpcPeering-Out-Bytes", "VpcPeering-In-Bytes"];
        let region = INSIDE_A_REGION.iter().find_map(|end| name.strip_suffix(end));
        region.map_or_else(|| name.to_owned(), |region| format!("{region}DataTransfer-Regional-Bytes"))
    },
};

const AZURE: Form = Form {
    provider: "azure",
    flag: "--azure-export",
    usage_type: &["metername"],
    amount: &["quantity", "usagequantity"],
    date: &["date", "usagedate", "usagedatetime"],
    kind: "chargetype",
    unit: Unit::GB,
    is_transfer: |name| name.contains("Data Transfer") || name.contains("Egress") || name.contains("Ingress"),
    ours: str::to_owned,
};

/// What both providers call traffic that was used.
const USAGE: &str = "Usage";

/// Bytes by usage type and day.
type Usage = BTreeMap<(String, Date), u64>;

pub(super) async fn run(api: &Api, out: Output, args: ReconcileArgs) -> Result<(), Failure> {
    let (form, files) = if args.aws_cur.is_empty() { (AZURE, &args.azure_export) } else { (AWS, &args.aws_cur) };
    let mut billed = read_all(&form, files)?;
    let days: BTreeSet<Date> = billed.keys().map(|(_, day)| *day).collect();
    let nothing = || Failure::usage(format!("{}: nothing there bills data transfer", form.flag));
    let from = args.from.or(days.first().copied()).ok_or_else(nothing)?;
    let to = args.to.or(days.last().copied()).ok_or_else(nothing)?;
    billed.retain(|(_, day), _| (from..=to).contains(day));
    let ask = ListBilledUsageRequest { provider: form.provider.to_owned(), from: from.to_string(), to: to.to_string() };
    let answer = api.costs().list_billed_usage(request(ask)).await?.into_inner();
    let ours = answer.usages.into_iter().map(|usage| (usage.usage_type, usage.bytes));
    let theirs = billed.into_iter().map(|((usage_type, _), bytes)| (usage_type, bytes));
    let usages = compare(form.ours, ours, theirs);
    let unreadable_records = answer.unreadable_records;
    let reconciliation = CostReconciliation { from: from.to_string(), to: to.to_string(), usages, unreadable_records };
    out.show_text(&reconciliation, |reconciliation| text(out, reconciliation))
}

/// The files of one bill together.
fn read_all(form: &Form, files: &[PathBuf]) -> Result<Usage, Failure> {
    let mut all = Usage::new();
    for (number, file) in files.iter().enumerate() {
        let wrong = |problem: String| Failure::usage(format!("{} {}: {problem}", form.flag, file.display()));
        if files[..number].iter().any(|other| real(other) == real(file)) {
            return Err(wrong("it is named twice, and would count twice".to_owned()));
        }
        for (key, bytes) in read(form, file).map_err(wrong)? {
            let counted = all.entry(key).or_default();
            *counted =
                u64::checked_add(*counted, bytes).ok_or_else(|| wrong("the amounts are too large".to_owned()))?;
        }
    }
    Ok(all)
}

/// Where a file is, whatever name it is given by.
fn real(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}

fn read(form: &Form, file: &Path) -> Result<Usage, String> {
    let opened = File::open(file).and_then(unpacked).map_err(|error| error.to_string())?;
    parse(form, opened)
}

/// The text of a file, which AWS packs by itself.
fn unpacked(file: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let mut file = BufReader::new(file);
    let is_packed = file.fill_buf()?.starts_with(&GZIP);
    Ok(if is_packed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) })
}

fn parse(form: &Form, text: impl Read) -> Result<Usage, String> {
    // A line that was cut off has too few columns, which is an error of the reader's.
    let mut csv = csv::Reader::from_reader(CsvText(text));
    let head = csv.headers().map_err(|error| told(&error))?.clone();
    let column = |names: &[&str]| {
        let place = head.iter().position(|name| names.contains(&bare(name).as_str()));
        place.ok_or_else(|| format!("it has no column {}; is this the right file?", names.join(" or ")))
    };
    let (usage_type, amount, date) = (column(form.usage_type)?, column(form.amount)?, column(form.date)?);
    let kind = head.iter().position(|name| bare(name) == form.kind);
    let mut usage = Usage::new();
    for record in csv.records() {
        let record = record.map_err(|error| told(&error))?;
        let name = field(&record, usage_type);
        let is_usage = kind.is_none_or(|kind| field(&record, kind) == USAGE);
        if !is_usage || !(form.is_transfer)(name) {
            continue;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |what: &str, text: &str| format!("line {line}: {what} is {text:?}");
        let day = day(field(&record, date)).ok_or_else(|| wrong("the date", field(&record, date)))?;
        let text = field(&record, amount);
        let bytes = in_bytes(text, form.unit).ok_or_else(|| wrong("the amount", text))?;
        let counted = usage.entry((name.to_owned(), day)).or_default();
        *counted = u64::checked_add(*counted, bytes).ok_or_else(|| wrong("the amount", text))?;
    }
    Ok(usage)
}

fn field(record: &StringRecord, column: usize) -> &str {
    record.get(column).unwrap_or_default().trim()
}

fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// `2026-11-20…`, and `11/20/2026` as Azure has it.
fn day(text: &str) -> Option<Date> {
    let iso = || text.get(..10)?.parse().ok();
    iso().or_else(|| Date::strptime("%m/%d/%Y", text.get(..10)?).ok())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "checked, and bills are decimal"
)]
fn in_bytes(text: &str, unit: Unit) -> Option<u64> {
    let bytes = text.parse::<f64>().ok()? * unit.bytes() as f64;
    (0.0..1e19).contains(&bytes).then(|| bytes.round() as u64)
}

fn compare(
    name_of_ours: fn(&str) -> String,
    ours: impl Iterator<Item = (String, u64)>,
    billed: impl Iterator<Item = (String, u64)>,
) -> Vec<ReconciledUsage> {
    let mut both: BTreeMap<String, (Option<u64>, Option<u64>)> = BTreeMap::new();
    let mut others: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, bytes) in ours {
        let counted = both.entry(name).or_default().0.get_or_insert(0);
        *counted = counted.saturating_add(bytes);
    }
    for (billed_as, bytes) in billed {
        let name = name_of_ours(&billed_as);
        let counted = both.entry(name.clone()).or_default().1.get_or_insert(0);
        *counted = counted.saturating_add(bytes);
        if billed_as != name {
            others.entry(name).or_default().insert(billed_as);
        }
    }
    let line = |(usage_type, (ours, billed)): (String, (Option<u64>, Option<u64>))| ReconciledUsage {
        billed_as: others.remove(&usage_type).unwrap_or_default().into_iter().collect(),
        usage_type,
        our_bytes: ours.unwrap_or(0),
        billed_bytes: billed.unwrap_or(0),
        difference_bytes: billed.unwrap_or(0).cast_signed().wrapping_sub(ours.unwrap_or(0).cast_signed()),
        found: match (ours, billed) {
            (Some(_), Some(_)) => "both",
            (Some(_), None) => "only-ours",
            _ => "only-billed",
        }
        .to_owned(),
    };
    both.into_iter().map(line).collect()
}

fn text(out: Output, reconciliation: &CostReconciliation) -> String {
    let head = ["USAGE TYPE", "OURS", "BILLED", "DIFFERENCE", "FOUND"];
    let table = Table::of(head, "no data transfer on either side", &reconciliation.usages, |usage| {
        let sign = if usage.difference_bytes < 0 { "-" } else { "" };
        [
            if usage.usage_type.is_empty() { "not billed".to_owned() } else { usage.usage_type.clone() },
            bytes(usage.our_bytes),
            bytes(usage.billed_bytes),
            format!("{sign}{}", bytes(usage.difference_bytes.unsigned_abs())),
            usage.found.clone(),
        ]
    })
    .with_figures(1..4);
    let mut lines = vec![out.render(table), format!("{} to {}", reconciliation.from, reconciliation.to)];
    lines.extend(
        reconciliation.usages.iter().filter(|usage| !usage.billed_as.is_empty()).map(|usage| {
            out.sentence(&format!("{} is billed as {} too", usage.usage_type, usage.billed_as.join(", ")))
        }),
    );
    lines.extend(missing(out, reconciliation.unreadable_records));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::Parser as _;
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const CUR: &str = "\
identity/LineItemId,lineItem/UsageStartDate,lineItem/UsageType,lineItem/UsageAmount
1,2026-11-02T00:00:00Z,APN2-DataTransfer-Regional-Bytes,1.5
2,2026-11-02T01:00:00Z,APN2-DataTransfer-Regional-Bytes,0.5
3,2026-11-02T00:00:00Z,APN2-BoxUsage:t3.micro,24
4,2026-11-03T00:00:00Z,APN2-APN1-AWS-Out-Bytes,0.25
";

    #[derive(clap::Parser)]
    struct Asked {
        #[command(flatten)]
        args: ReconcileArgs,
    }

    #[test]
    fn days_are_named_beside_the_files_of_one_provider() {
        let asked = |line: &str| Asked::try_parse_from(line.split(' ')).map(|asked| asked.args);
        let args = asked("reconcile --aws-cur 1.csv 2.csv --from 2026-11-01 --to 2026-11-02").unwrap();
        assert_eq!((args.aws_cur.len(), args.from, args.to), (2, "2026-11-01".parse().ok(), "2026-11-02".parse().ok()));
        assert!(asked("reconcile --azure-export 1.csv --to 2026-11-02").is_ok());
        assert!(asked("reconcile --from 2026-11-01").is_err(), "no file");
        assert!(asked("reconcile --aws-cur 1.csv --azure-export 2.csv").is_err(), "two providers");
    }

    #[test]
    fn a_bill_of_aws_is_added_up_by_usage_type_and_day() {
        let read: Vec<_> =
            parse(&AWS, CUR.as_bytes()).unwrap().into_iter().map(|((name, day), b)| (name, day.day(), b)).collect();
        assert_eq!(
            read,
            [("APN2-APN1-AWS-Out-Bytes".into(), 3, 1 << 28), ("APN2-DataTransfer-Regional-Bytes".into(), 2, 2 << 30)]
        );
        let athena = CUR.replace("lineItem/UsageStartDate", "line_item_usage_start_date");
        let athena = athena
            .replace("lineItem/UsageType", "line_item_usage_type")
            .replace("lineItem/UsageAmount", "line_item_usage_amount");
        assert_eq!(parse(&AWS, athena.as_bytes()).unwrap(), parse(&AWS, CUR.as_bytes()).unwrap());
    }

    #[test]
    fn an_export_of_azure_has_its_own_dates_and_units() {
        let export = "Date,MeterCategory,MeterName,Quantity\n11/02/2026,Bandwidth,Standard Data Transfer Out,2\n";
        let read = parse(&AZURE, export.as_bytes()).unwrap();
        assert_eq!(read.into_iter().next().unwrap().1, 2_000_000_000);
    }

    #[test]
    fn taxes_credits_and_discounts_are_no_traffic() {
        let line = |kind: &str| format!("2026-11-02T00:00:00Z,APN2-DataTransfer-Out-Bytes,1,{kind}\n");
        let head = "line_item_usage_start_date,line_item_usage_type,line_item_usage_amount,line_item_line_item_type\n";
        let text = head.to_owned() + &["Usage", "Credit", "Tax", "EdpDiscount", "Usage"].map(line).concat();
        assert_eq!(parse(&AWS, text.as_bytes()).unwrap().into_values().collect::<Vec<_>>(), [2 << 30]);
        let azure = "date,meterName,quantity,chargeType\n\
            11/02/2026,Standard Data Transfer Out,1,Usage\n11/02/2026,Standard Data Transfer Out,1,Refund\n";
        assert_eq!(parse(&AZURE, azure.as_bytes()).unwrap().into_values().collect::<Vec<_>>(), [1_000_000_000]);
    }

    #[test]
    fn a_packed_bill_says_the_same_and_one_that_was_cut_off_is_refused() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(CUR.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let of = |bytes: &[u8]| parse(&AWS, unpacked(io::Cursor::new(bytes.to_vec())).unwrap());
        assert_eq!(of(&packed).unwrap(), parse(&AWS, CUR.as_bytes()).unwrap());
        assert_eq!(of(&[b"\xef\xbb\xbf", CUR.as_bytes()].concat()).unwrap(), of(&packed).unwrap(), "a byte order mark");
        assert!(of(&packed[..packed.len() - 12]).is_err());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        for (text, complaint) in [
            ("a,b\n1,2\n".to_owned(), "lineitemusagetype"),
            (CUR.replace("0.5", "half"), "line 3: the amount is \"half\""),
            (CUR.replace("0.5", "-1"), "line 3"),
            (CUR.replace("0.5", "NaN"), "line 3"),
            (CUR.replace(",0.25", ""), "line 5: it has 3 columns"),
            (CUR.replace("1.5", "9e9").replace("0.5", "9e9"), "line 3: the amount"),
            (CUR.replace("2026-11-03T00:00:00Z", "soon"), "line 5: the date is \"soon\""),
            (String::new(), "lineitemusagetype"),
        ] {
            for text in [text.clone(), text.replace('\n', "\r\n")] {
                let error = parse(&AWS, text.as_bytes()).unwrap_err();
                assert!(error.contains(complaint), "{complaint} in {error}");
            }
        }
    }

    #[test]
    fn what_only_one_side_has_is_listed() {
        let ours = [("a".to_owned(), 5), ("b".to_owned(), 7), ("a".to_owned(), 5)];
        let billed = [("a".to_owned(), 8), ("c".to_owned(), 1)];
        let lines = compare(str::to_owned, ours.into_iter(), billed.into_iter());
        let told: Vec<_> = lines.iter().map(|line| (line.found.as_str(), line.difference_bytes)).collect();
        assert_eq!(told, [("both", -2), ("only-ours", -7), ("only-billed", 1)]);
    }

    #[test]
    fn what_bills_call_traffic_inside_a_region_is_one_line() {
        let regional = "APN2-DataTransfer-Regional-Bytes";
        let others = ["APN2-DataTransfer-xAZ-In-Bytes", "APN2-VpcPeering-Out-Bytes"];
        let line = |(number, name): (usize, &str)| format!("{number},2026-11-02T00:00:00Z,{name},0.5\n");
        let bill = CUR.lines().next().unwrap().to_owned() + "\n";
        let bill = bill + &[regional, others[0], others[1]].into_iter().enumerate().map(line).collect::<String>();
        let billed = parse(&AWS, bill.as_bytes()).unwrap().into_iter().map(|((name, _), bytes)| (name, bytes));
        let lines = compare(AWS.ours, [(regional.to_owned(), 3 << 29)].into_iter(), billed);
        let [only] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!((only.usage_type.as_str(), only.difference_bytes, only.found.as_str()), (regional, 0, "both"));
        assert_eq!(only.billed_as, others);
        assert_eq!((AWS.ours)("VpcPeering-In-Bytes"), "DataTransfer-Regional-Bytes", "us-east-1 has no prefix");
        assert!((AWS.is_transfer)("VpcPeering-In-Bytes"));
    }

    #[test]
    fn several_files_are_one_bill_and_none_counts_twice() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (one, other) = (file("1.csv", CUR), file("2.csv", CUR));
        let once = parse(&AWS, CUR.as_bytes()).unwrap();
        let both = read_all(&AWS, &[one.clone(), other]).unwrap();
        assert!(both.iter().all(|(key, bytes)| *bytes == 2 * once[key]) && both.len() == once.len());
        let refused = read_all(&AWS, &[one.clone(), one.clone()]).unwrap_err().to_string();
        assert!(refused.contains("1.csv") && refused.contains("twice"), "{refused}");
        let other_name = directory.path().join("link.csv");
        std::os::unix::fs::symlink(&one, &other_name).unwrap();
        let refused = read_all(&AWS, &[one.clone(), other_name]).unwrap_err().to_string();
        assert!(refused.contains("link.csv") && refused.contains("twice"), "{refused}");
        let refused = read_all(&AWS, &[one, file("3.csv", "a,b\n1,2\n")]).unwrap_err().to_string();
        assert!(refused.contains("3.csv"), "{refused}");
    }
}
