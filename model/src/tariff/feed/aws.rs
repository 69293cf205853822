//! AWS: `index.csv` of the offer `AWSDataTransfer`. Lines before the head tell of the file; each line below it is one tier
//! of one kind of transfer between two locations.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Deserialize;

use super::{
    Class, Feed, FeedError, Figure, Per, Place, Provider, Rate, RuleEntry, Source, Steps, Unit, by_rate, document,
    refuse_gaps, rule, tiered,
};

const SOURCE: &str = "aws-price-list";
const URL: &str = "https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AWSDataTransfer/current/index.csv";
/// The head's first column.
const HEAD: &str = "\"SKU\"";
const PUBLISHED: &str = "\"Publication Date\",\"";

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "TermType")]
    term: String,
    #[serde(rename = "StartingRange")]
    begin: String,
    #[serde(rename = "Unit")]
    unit: String,
    #[serde(rename = "PricePerUnit")]
    price: f64,
    #[serde(rename = "Currency")]
    currency: String,
    #[serde(rename = "Transfer Type")]
    transfer: String,
    #[serde(rename = "From Location Type")]
    from_kind: String,
    #[serde(rename = "To Location")]
    to: String,
    #[serde(rename = "To Location Type")]
    to_kind: String,
    #[serde(rename = "usageType")]
    usage: String,
    #[serde(rename = "From Region Code")]
    from_region: String,
    #[serde(rename = "To Region Code")]
    to_region: String,
}

#[derive(Default)]
struct Found {
    internet: BTreeMap<String, Steps>,
    regional: BTreeMap<String, Figure>,
    /// By source, then destination.
    between: BTreeMap<String, BTreeMap<String, Figure>>,
    left_out: BTreeMap<&'static str, usize>,
}

/// Reads the file, which AWS publishes as one.
pub fn aws(files: &[&str], today: Date) -> Result<Feed, FeedError> {
    let foreign = |reason: String| FeedError::Foreign { provider: "AWS", file: 1, reason };
    let [text] = files else { return Err(FeedError::NotWhole(format!("it is one file, not {}", files.len()))) };
    let head = text.find(HEAD).ok_or_else(|| foreign("it has no head that begins with SKU".to_owned()))?;
    let mut reader = csv::Reader::from_reader(&text.as_bytes()[head..]);
    let mut found = Found::default();
    for line in reader.deserialize() {
        // A line that was cut off has too few columns.
        let line: Line = line.map_err(|error| foreign(error.to_string()))?;
        found.take(line)?;
    }
    found.check()?;
    let date = text.find(PUBLISHED).and_then(|at| text.get(at + PUBLISHED.len()..)?.get(..10)).map(str::to_owned);
    let source = Source { document: "AWS price list, offer AWSDataTransfer".into(), url: Some(URL.into()), date };
    let left_out = std::mem::take(&mut found.left_out);
    let provider = Provider { rules: found.rules(), ..Provider::default() };
    Ok(Feed { document: document("aws", Unit::GiB, provider, (SOURCE, source), today), left_out })
}

impl Found {
    fn take(&mut self, line: Line) -> Result<(), FeedError> {
        let is_region = |kind: &str| kind == "AWS Region";
        let reason = match () {
            () if line.term != "OnDemand" || line.currency != "USD" || line.unit != "GB" => Some("other terms"),
            () if !is_region(&line.from_kind) => Some("not from a region"),
            () => None,
        };
        if let Some(reason) = reason {
            self.leave_out(reason);
            return Ok(());
        }
        let contradiction = || FeedError::Contradiction(line.usage.clone());
        let price = Figure::from_decimal(line.price).map_err(|problem| FeedError::Figure {
            line: 0,
            column: "PricePerUnit",
            problem,
        })?;
        match line.transfer.as_str() {
            "AWS Outbound" if line.to == "External" && line.usage.ends_with("DataTransfer-Out-Bytes") => {
                let begin = line.begin.parse().map_err(|_| contradiction())?;
                let steps = self.internet.entry(line.from_region.clone()).or_default();
                if steps.insert(begin, price).is_some_and(|before| before != price) {
                    return Err(contradiction());
                }
            }
            "IntraRegion" if line.usage.ends_with("DataTransfer-Regional-Bytes") => {
                if self.regional.insert(line.from_region.clone(), price).is_some_and(|before| before != price) {
                    return Err(contradiction());
                }
            }
            "InterRegion Outbound" if is_region(&line.to_kind) && line.usage.ends_with("AWS-Out-Bytes") => {
                let prices = self.between.entry(line.from_region.clone()).or_default();
                if prices.insert(line.to_region.clone(), price).is_some_and(|before| before != price) {
                    return Err(contradiction());
                }
            }
            _ => self.leave_out("other kinds of transfer"),
        }
        Ok(())
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    fn check(&self) -> Result<(), FeedError> {
        if let Some((region, _)) = self.internet.iter().find(|(_, steps)| !steps.contains_key(&0)) {
            return Err(FeedError::NotWhole(format!("the first tier of {region} to the internet is missing")));
        }
        refuse_gaps("aws", Class::InternetEgress, &self.internet.keys().collect::<BTreeSet<_>>())?;
        refuse_gaps("aws", Class::CrossRegionPrivate, &self.between.keys().collect::<BTreeSet<_>>())?;
        let regional = self.regional.keys().collect::<BTreeSet<_>>();
        match self.internet.keys().find(|region| !regional.contains(region)) {
            Some(region) => Err(FeedError::NotWhole(format!("it has no price inside {region}"))),
            None => Ok(()),
        }
    }

    fn rules(self) -> Vec<RuleEntry> {
        let mut rules = Vec::new();
        for (steps, from) in by_rate(self.internet) {
            rules.push(rule(Class::InternetEgress, from, Some(tiered(&steps, Per::Region)), SOURCE));
        }
        let both_ends =
            [Class::SameZonePublic, Class::CrossZonePrivate, Class::CrossZonePublic, Class::PeeredCrossZone];
        for (price, from) in by_rate(self.regional) {
            for class in both_ends {
                let rate = Some(Rate::Flat(price));
                rules.push(RuleEntry { receiver: rate.clone(), ..rule(class, from.clone(), rate, SOURCE) });
            }
        }
        let mut usual = Vec::new();
        for (source, prices) in self.between {
            let most = by_rate(prices.clone()).into_iter().max_by_key(|(_, places)| places.len());
            let Some((price, _)) = most else { continue };
            usual.push((source.clone(), price));
            let others = prices.into_iter().filter(|(_, other)| *other != price);
            for (other, to) in by_rate(others) {
                let from = vec![Place::Region(source.clone())];
                rules.push(RuleEntry { to, ..rule(Class::CrossRegionPrivate, from, Some(Rate::Flat(other)), SOURCE) });
            }
        }
        for (price, from) in by_rate(usual) {
            rules.push(rule(Class::CrossRegionPrivate, from, Some(Rate::Flat(price)), SOURCE));
        }
        rules
    }
}
