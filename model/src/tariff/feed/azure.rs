//! Azure: pages of the retail prices, as its API answers them, of the services `Bandwidth` and `Virtual Network`.
//!
//! The meters of traffic between availability zones are left out: they stand in the list, and nobody is billed by them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Deserialize;

use super::{
    Book, Class, Feed, FeedError, Figure, Per, Place, Provider, Rate, RuleEntry, Source, Steps, Unit, by_rate,
    document, rule, tiered,
};

const SOURCE: &str = "azure-retail-prices";
const URL: &str = "https://prices.azure.com/api/retail/prices";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    billing_currency: String,
    items: Vec<Item>,
    next_page_link: Option<String>,
    count: usize,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    retail_price: f64,
    tier_minimum_units: f64,
    arm_region_name: String,
    meter_id: String,
    meter_name: String,
    product_name: String,
    service_name: String,
    unit_of_measure: String,
    #[serde(rename = "type")]
    kind: String,
}

/// How Azure names traffic that leaves by its own network, which is the default.
const MICROSOFT_NETWORK: &str = "Rtn Preference: MGN";

#[derive(Default)]
struct Found {
    /// Steps and regions by meter: regions of one meter are counted together.
    internet: BTreeMap<String, (Steps, BTreeSet<String>)>,
    between: BTreeMap<String, Figure>,
    /// Sender's and receiver's price of a peering inside a region.
    peering: [Option<Figure>; 2],
    left_out: BTreeMap<&'static str, usize>,
}

/// Reads the pages of one or more questions; each question's last page must be among them.
pub fn azure(files: &[&str], today: Date) -> Result<Feed, FeedError> {
    let mut found = Found::default();
    let mut next: Option<String> = None;
    let mut items = 0;
    for (file, text) in (1..).zip(files) {
        let foreign = |reason: String| FeedError::Foreign { provider: "Azure", file, reason };
        // Some of the tools that fetch pages write a byte order mark before them.
        let text = text.trim_start_matches('\u{feff}');
        let page: Page = serde_json::from_str(text).map_err(|error| foreign(error.to_string()))?;
        if page.count != page.items.len() {
            return Err(FeedError::NotWhole(format!("file {file} has {} of {} items", page.items.len(), page.count)));
        }
        if page.billing_currency != "USD" {
            return Err(foreign(format!("its prices are in {}", page.billing_currency)));
        }
        if let Some(link) = &next
            && !page.is_named_by(link)
        {
            let before = file - 1;
            return Err(FeedError::NotWhole(format!("file {file} is not the page that follows file {before}")));
        }
        items = if next.is_some() { items + page.items.len() } else { page.items.len() };
        next = page.next_page_link.filter(|link| !link.is_empty());
        if let Some(skipped) = next.as_deref().and_then(skipped).filter(|skipped| *skipped != items) {
            let reason = format!("file {file} ends after {skipped} items of its question, and {items} were given");
            return Err(FeedError::NotWhole(reason));
        }
        page.items.into_iter().try_for_each(|item| found.take(item))?;
    }
    if next.is_some() {
        return Err(FeedError::NotWhole("the last file says that another page follows".to_owned()));
    }
    found.check()?;
    let source =
        Source { document: "Azure Retail Prices API".into(), url: Some(URL.into()), date: Some(today.to_string()) };
    let left_out = std::mem::take(&mut found.left_out);
    Ok(Feed { document: document("azure", Unit::GB, found.provider(), (SOURCE, source), today), left_out })
}

impl Page {
    /// Whether it may answer a link: one that asks for services asks for all that the page has.
    fn is_named_by(&self, link: &str) -> bool {
        let asked = link.replace("%20", " ").replace('+', " ");
        !asked.contains("serviceName") || self.items.iter().all(|item| asked.contains(&item.service_name))
    }
}

/// How many items of a question stand before the page that a link asks for, if it says so.
fn skipped(link: &str) -> Option<usize> {
    let (_, after) = link.split_once("$skip=").or_else(|| link.split_once("%24skip="))?;
    after.split('&').next()?.parse().ok()
}

impl Found {
    fn take(&mut self, item: Item) -> Result<(), FeedError> {
        let contradiction = || FeedError::Contradiction(format!("{} of {}", item.meter_name, item.arm_region_name));
        let price = Figure::from_decimal(item.retail_price).map_err(|problem| FeedError::Figure {
            line: 0,
            column: "retailPrice",
            problem,
        })?;
        if item.kind != "Consumption" || item.unit_of_measure != "1 GB" {
            self.leave_out("other terms");
            return Ok(());
        }
        let meter = item.meter_name.as_str();
        let is_region = !item.arm_region_name.is_empty() && item.arm_region_name != "Global";
        match item.service_name.as_str() {
            "Bandwidth" if meter.contains("Inter-Availability Zone") => self.leave_out("between zones, free in fact"),
            "Bandwidth"
                if item.product_name == MICROSOFT_NETWORK && meter == "Standard Data Transfer Out" && is_region =>
            {
                let begin = item.tier_minimum_units;
                if begin < 0.0 || begin.fract() != 0.0 {
                    return Err(contradiction());
                }
                let (steps, regions) = self.internet.entry(item.meter_id.clone()).or_default();
                regions.insert(item.arm_region_name.clone());
                if steps.insert(begin as u64, price).is_some_and(|before| before != price) {
                    return Err(contradiction());
                }
            }
            "Bandwidth" if meter.contains("Inter-Region Data Transfer") && !meter.ends_with(" In") && is_region => {
                if self.between.insert(item.arm_region_name.clone(), price).is_some_and(|before| before != price) {
                    return Err(contradiction());
                }
            }
            "Virtual Network" if meter.starts_with("Intra-Region") => {
                let side = usize::from(meter.ends_with("Ingress"));
                if self.peering[side].replace(price).is_some_and(|before| before != price) {
                    return Err(contradiction());
                }
            }
            _ => self.leave_out("other meters"),
        }
        Ok(())
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
    }

    fn check(&self) -> Result<(), FeedError> {
        if self.internet.is_empty() {
            return Err(FeedError::NotWhole("it has no meter of traffic to the internet".to_owned()));
        }
        match self.internet.iter().find(|(_, (steps, _))| !steps.contains_key(&0)) {
            Some((meter, _)) => Err(FeedError::NotWhole(format!("the first tier of meter {meter} is missing"))),
            None => Ok(()),
        }
    }

    fn provider(self) -> Provider {
        let mut provider = Provider::default();
        for (mut steps, regions) in self.internet.into_values() {
            // What is free is a pool of the book already.
            let free: Vec<u64> = steps.iter().skip(1).map(|(begin, _)| *begin).take(1).collect();
            if steps.get(&0) == Some(&Figure::default())
                && let [begin] = free[..]
                && let Some(price) = steps.remove(&begin)
            {
                steps.insert(0, price);
            }
            let group = group_of(&regions, &provider.groups);
            provider.groups.insert(group.clone(), regions.into_iter().map(Place::Region).collect());
            let rate = Some(tiered(&steps, Per::Group));
            provider.rules.push(rule(Class::InternetEgress, vec![Place::Group(group)], rate, SOURCE));
        }
        for (price, from) in by_rate(self.between) {
            provider.rules.push(rule(Class::CrossRegionPublic, from, Some(Rate::Flat(price)), SOURCE));
        }
        let [sender, receiver] = self.peering.map(|price| price.map(Rate::Flat));
        if sender.is_some() || receiver.is_some() {
            for class in [Class::PeeredSameZone, Class::PeeredCrossZone] {
                let peered = rule(class, Vec::new(), sender.clone(), SOURCE);
                provider.rules.push(RuleEntry { receiver: receiver.clone(), ..peered });
            }
        }
        provider
    }
}

/// A name for the regions of a meter, which has none that tells: by the shipped book's zone that most of them are in, since what
/// people call them is that.
fn group_of(regions: &BTreeSet<String>, taken: &BTreeMap<String, Vec<Place>>) -> String {
    let book = Book::shipped();
    let shipped = book.layers().iter().filter_map(|layer| layer.document.providers.get("azure"));
    let zones = shipped.flat_map(|provider| &provider.groups).filter(|(name, _)| name.starts_with("zone"));
    let inside = |places: &[Place]| {
        let is_inside = |place: &&Place| matches!(place, Place::Region(region) if regions.contains(region));
        places.iter().filter(is_inside).count()
    };
    let nearest = zones.map(|(name, places)| (inside(places), name)).max().filter(|(common, _)| *common > 0);
    let name = nearest.map_or_else(|| "retail".to_owned(), |(_, zone)| format!("retail-{zone}"));
    let more = (2..).map(|number| format!("{name}-{number}"));
    let mut names = std::iter::once(name.clone()).chain(more);
    names.find(|name| !taken.contains_key(name)).unwrap_or(name)
}
