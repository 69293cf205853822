//! Price lists of our own making, in the shape that providers publish.

use jiff::civil::{Date, date};

use super::*;
use crate::{
    CloudLocation, Located, LocationSource, Scope,
    tariff::{PoolUsage, check, cost},
};

const TODAY: Date = date(2026, 11, 20);
const HEAD: &str = "\"FormatVersion\",\"v1.0\"\n\"Publication Date\",\"2026-11-18T00:00:00Z\"\n\"OfferCode\",\"AWSDataTransfer\"\n\
    \"SKU\",\"TermType\",\"StartingRange\",\"EndingRange\",\"Unit\",\"PricePerUnit\",\"Currency\",\"Transfer Type\",\"From Location\",\
    \"From Location Type\",\"To Location\",\"To Location Type\",\"usageType\",\"From Region Code\",\"To Region Code\"\n";

fn aws_line(transfer: &str, from: &str, to: &str, usage: &str, begin: &str, price: &str) -> String {
    let (location, kind, code) = if to == "External" { (to, "Other", "") } else { (to, "AWS Region", to) };
    let columns = [
        "X1",
        "OnDemand",
        begin,
        "Inf",
        "GB",
        price,
        "USD",
        transfer,
        from,
        "AWS Region",
        location,
        kind,
        usage,
        from,
        code,
    ];
    columns.map(|column| format!("\"{column}\"")).join(",") + "\n"
}

/// Every region that the shipped book prices, at one price, with two tiers to the internet.
fn aws_list() -> String {
    let book = Book::shipped();
    let entries = book.rules("aws").filter(|(_, entry)| entry.class == Class::InternetEgress);
    let regions: BTreeSet<String> = entries.flat_map(|(_, entry)| &entry.from).map(ToString::to_string).collect();
    let mut list = HEAD.to_owned();
    for region in &regions {
        list += &aws_line("AWS Outbound", region, "External", "X-DataTransfer-Out-Bytes", "0", "0.2000000000");
        list += &aws_line("AWS Outbound", region, "External", "X-DataTransfer-Out-Bytes", "10240", "0.1000000000");
        list += &aws_line("IntraRegion", region, region, "X-DataTransfer-Regional-Bytes", "0", "0.0300000000");
        for other in regions.iter().filter(|other| *other != region) {
            let price = if (region.as_str(), other.as_str()) == ("us-east-1", "us-east-2") { "0.05" } else { "0.06" };
            list += &aws_line("InterRegion Outbound", region, other, "X-Y-AWS-Out-Bytes", "0", price);
        }
        list += &aws_line("InterRegion Inbound", region, region, "X-Y-AWS-In-Bytes", "0", "0");
    }
    list
}

fn price(feed: &Feed, from: &str, to: &str, scope: Scope) -> Option<String> {
    check(&feed.document, &Book::shipped(), TODAY).expect("a document that passes");
    let at = |text: &str| {
        let known = |value: &str| Some(Located { value: value.to_owned(), source: LocationSource::Operator });
        let (provider, region) = text.split_once('/').expect("provider/region");
        CloudLocation { provider: known(provider), region: known(region), ..CloudLocation::default() }
    };
    let book = Book::effective(Some(&feed.document), None);
    let quote = cost(&book, &at(from), &at(to), scope, TODAY, &PoolUsage::FirstPaid);
    Some(
        quote
            .parts
            .iter()
            .map(|part| part.listed.map(|figure| figure.to_string()))
            .collect::<Option<Vec<_>>>()?
            .join("+"),
    )
}

#[test]
fn the_list_of_aws_becomes_prices_of_every_class() {
    let feed = aws(&[&aws_list()], TODAY).expect("a whole list");
    let of = |from, to, scope| price(&feed, from, to, scope).expect("known");
    assert_eq!(of("aws/us-east-1", "gcp/us-east4", Scope::Public), "0.2+0");
    assert_eq!(of("aws/us-east-1", "aws/us-east-2", Scope::Private), "0.05+0");
    assert_eq!(of("aws/us-east-2", "aws/us-east-1", Scope::Private), "0.06+0");
    assert_eq!(of("aws/us-east-1", "aws/us-west-2", Scope::Public), "0.06+0");
    assert_eq!(of("aws/us-east-1", "aws/us-east-1", Scope::Public), "0.03+0.03");
    assert_eq!(feed.document.sources["aws-price-list"].date.as_deref(), Some("2026-11-18"));
    assert!(feed.left_out.values().sum::<usize>() > 0, "what comes in is free and no rule of the list");
    assert!(feed.document.providers["aws"].rules.len() < 10, "regions of one price are one rule");
}

#[test]
fn a_list_of_aws_that_is_not_whole_is_refused() {
    let whole = aws_list();
    let refused = |text: &str| aws(&[text], TODAY).expect_err("not whole").to_string();
    assert!(refused(&whole[..whole.len() - 40]).contains("no price list of AWS's"), "cut within a line");
    let half: String = whole.lines().take(200).map(|line| format!("{line}\n")).collect();
    assert!(refused(&half).contains("not whole"), "{}", refused(&half));
    assert!(refused("<html>not found</html>").contains("no head"));
    assert!(refused(&whole.replace("\"0.2000000000\"", "\"-1\"")).contains("use 0 or more"));
    assert!(aws(&[], TODAY).is_err() && aws(&[&whole, &whole], TODAY).is_err());
    let twice =
        whole.clone() + &aws_line("IntraRegion", "us-east-1", "us-east-1", "X-DataTransfer-Regional-Bytes", "0", "0.9");
    assert!(refused(&twice).contains("priced twice"));
}

fn azure_item(
    service: &str,
    product: &str,
    meter: (&str, &str),
    region: &str,
    begin: u32,
    price: f64,
) -> serde_json::Value {
    serde_json::json!({
        "currencyCode": "USD", "tierMinimumUnits": f64::from(begin), "retailPrice": price, "unitPrice": price,
        "armRegionName": region, "meterId": meter.0, "meterName": meter.1, "productName": product,
        "serviceName": service, "unitOfMeasure": "1 GB", "type": "Consumption",
    })
}

fn azure_page(items: Vec<serde_json::Value>, next: Option<&str>) -> String {
    serde_json::json!({
        "BillingCurrency": "USD", "Count": items.len(), "Items": items, "NextPageLink": next,
    })
    .to_string()
}

fn azure_list() -> [String; 2] {
    let out = |region, begin, price| {
        azure_item("Bandwidth", "Rtn Preference: MGN", ("m-1", "Standard Data Transfer Out"), region, begin, price)
    };
    let mut first = Vec::new();
    for region in ["eastus", "westus"] {
        first.extend([out(region, 0, 0.0), out(region, 100, 0.3), out(region, 10_335, 0.25)]);
    }
    let between = ("m-2", "Standard Inter-Availability Zone Data Transfer Out");
    let peering = |name| azure_item("Virtual Network", "Virtual Network Peering", ("m-4", name), "Global", 0, 0.02);
    let second = vec![
        azure_item("Bandwidth", "Bandwidth", between, "eastus", 0, 0.01),
        azure_item("Bandwidth", "Bandwidth", ("m-3", "Standard Inter-Region Data Transfer Out"), "eastus", 0, 0.04),
        azure_item(
            "Bandwidth",
            "Bandwidth - Routing Preference: Internet",
            ("m-5", "Standard Data Transfer Out"),
            "eastus",
            0,
            0.2,
        ),
        peering("Intra-Region Egress"),
        peering("Intra-Region Ingress"),
    ];
    [azure_page(first, Some("https://prices.azure.com/api/retail/prices?$skip=6")), azure_page(second, None)]
}

#[test]
fn the_list_of_azure_becomes_prices_without_those_between_zones() {
    let [first, second] = azure_list();
    let feed = azure(&[&first, &second], TODAY).expect("a whole list");
    let of = |from, to, scope| price(&feed, from, to, scope).expect("known");
    assert_eq!(of("azure/eastus", "gcp/us-east4", Scope::Public), "0.3+0");
    assert_eq!(of("azure/eastus", "azure/westus", Scope::Public), "0.04+0");
    assert_eq!(of("azure/eastus", "azure/eastus", Scope::Private), "0.02+0.02", "another VNet");
    assert_eq!(of("azure/eastus", "azure/eastus", Scope::Public), "0+0", "another zone");
    assert_eq!(feed.left_out["between zones, free in fact"], 1);
    let Some(Rate::Tiered(tiers)) = &feed.document.providers["azure"].rules[0].sender else { panic!("no tiers") };
    assert_eq!((tiers.tiers[0].up_to, tiers.tiers.len()), (Some(10_335), 2), "what is free is a pool");
}

#[test]
fn groups_of_azure_are_named_after_the_zone_that_most_of_their_regions_are_in() {
    let out = |meter, region| {
        let meter = (meter, "Standard Data Transfer Out");
        azure_item("Bandwidth", "Rtn Preference: MGN", meter, region, 0, 0.3)
    };
    let regions = [
        ("m-1", "koreacentral"),
        ("m-1", "eastus"),
        ("m-1", "japaneast"),
        ("m-2", "westus"),
        ("m-3", "eastus2"),
        ("m-4", "moon"),
    ];
    let page = azure_page(regions.map(|(meter, region)| out(meter, region)).into(), None);
    let document = azure(&[&page], TODAY).expect("a whole list").document;
    let names: Vec<_> = document.providers["azure"].groups.keys().map(String::as_str).collect();
    assert_eq!(names, ["retail", "retail-zone1", "retail-zone1-2", "retail-zone2"]);
}

#[test]
fn a_list_of_azure_that_is_not_whole_is_refused() {
    let [first, second] = azure_list();
    let refused = |files: &[&str]| azure(files, TODAY).expect_err("not whole").to_string();
    assert!(refused(&[&second, &first]).contains("another page follows"));
    assert!(refused(&[&first[..first.len() - 30]]).contains("no price list of Azure's"));
    assert!(refused(&[&second]).contains("no meter of traffic to the internet"));
    assert!(refused(&[&second.replace("\"Count\":5", "\"Count\":6")]).contains("5 of 6 items"));
    assert!(refused(&[&second.replace("USD", "EUR")]).contains("in EUR"));
    assert!(refused(&[]).contains("not whole"));
}

#[test]
fn a_page_of_azure_that_is_missing_between_others_is_missed() {
    let out = |region: &str| {
        let meter = ("m-1", "Standard Data Transfer Out");
        azure_item("Bandwidth", "Rtn Preference: MGN", meter, region, 0, 0.3)
    };
    let link = |service: &str, skip: usize| {
        format!(
            "https://prices.azure.com:443/api/retail/prices?$filter=serviceName%20eq%20%27{service}%27&$skip={skip}"
        )
    };
    let pages = [
        azure_page(vec![out("eastus")], Some(&link("Bandwidth", 1))),
        azure_page(vec![out("westus")], Some(&link("Bandwidth", 2))),
        azure_page(vec![out("westus2")], None),
        azure_page(
            vec![azure_item("Virtual Network", "VNet", ("m-4", "Intra-Region Egress"), "Global", 0, 0.02)],
            None,
        ),
    ];
    let of = |wanted: &[usize]| {
        let texts: Vec<&str> = wanted.iter().map(|page| pages[*page].as_str()).collect();
        azure(&texts, TODAY).map_err(|error| error.to_string())
    };
    assert_eq!(of(&[0, 1, 2, 3]).expect("whole").document.providers["azure"].groups["retail-zone1"].len(), 3);
    assert_eq!(of(&[3, 0, 1, 2]).expect("whole").document.providers["azure"].groups["retail-zone1"].len(), 3);
    for (missing, complaint) in [
        (vec![1, 2, 3], "file 1 ends after 2 items of its question, and 1 were given"),
        (vec![0, 1, 3], "file 3 is not the page that follows file 2"),
        (vec![0, 1], "another page follows"),
    ] {
        let refused = of(&missing).expect_err("a page is missing");
        assert!(refused.contains(complaint), "{complaint} in {refused}");
    }
    let marked = format!("\u{feff}{}", pages[2]);
    assert!(azure(&[&marked], TODAY).is_ok(), "a byte order mark is no part of a page");
}
