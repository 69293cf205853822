//! What paths cost by the shipped book, and how documents lie over each other.

use std::collections::BTreeSet;

use jiff::civil::{Date, date};

use super::*;
use crate::{Located, LocationSource};

const TODAY: Date = date(2026, 11, 20);

/// A location from `provider/region/zone/vpc`, in one account.
fn at(text: &str) -> CloudLocation {
    let known =
        |value: &str| (!value.is_empty()).then(|| Located { value: value.into(), source: LocationSource::Operator });
    let mut parts = text.split('/');
    let mut next = || parts.next().and_then(known);
    CloudLocation {
        provider: next(),
        region: next(),
        zone: next(),
        vpc: next().or_else(|| known("v1")),
        account: known("a"),
        ..CloudLocation::default()
    }
}

fn quote(book: &Book, from: &str, to: &str, scope: Scope) -> Quote {
    cost(book, &at(from), &at(to), scope, TODAY, &PoolUsage::FirstPaid)
}

/// USD for a unit of the provider, as its own page states it.
fn listed(quote: &Quote) -> Option<String> {
    let figures = quote.parts.iter().map(|part| part.price.is_ok().then_some(part.listed?.0));
    let sum = figures.sum_known(0, |sum, figure| sum + figure)?;
    Some(NanoUsd(sum.try_into().unwrap()).to_string())
}

/// A price per unit as it is per 10^9 bytes.
fn per_gb(listed: &str, unit: Unit) -> Price {
    Figure::from_decimal(listed.parse().unwrap()).unwrap().in_usd(Figure::ONE, unit)
}

/// Name, ends, scope, class, the figure that the providers' pages add up to, and the unit it is for.
type Vector = (&'static str, &'static str, &'static str, Scope, Class, Option<&'static str>, Unit);

const VECTORS: &[Vector] = {
    use Class::*;
    use Scope::{Private, Public};
    use Unit::{GB, GiB};
    const SEOUL: &str = "aws/ap-northeast-2/apne2-az1";
    &[
        ("same zone, private", SEOUL, SEOUL, Private, SameZonePrivate, Some("0"), GiB),
        ("same zone, elastic IP", SEOUL, SEOUL, Public, SameZonePublic, Some("0.02"), GiB),
        ("cross zone, private", SEOUL, "aws/ap-northeast-2/apne2-az2", Private, CrossZonePrivate, Some("0.02"), GiB),
        ("cross zone, public", SEOUL, "aws/ap-northeast-2/apne2-az2", Public, CrossZonePublic, Some("0.02"), GiB),
        ("peered, same zone", SEOUL, "aws/ap-northeast-2/apne2-az1/v2", Private, PeeredSameZone, Some("0"), GiB),
        ("peered, cross zone", SEOUL, "aws/ap-northeast-2/apne2-az3/v2", Private, PeeredCrossZone, Some("0.02"), GiB),
        ("zone unknown", SEOUL, "aws/ap-northeast-2", Private, CrossZonePrivate, Some("0.02"), GiB),
        ("Seoul to Tokyo", SEOUL, "aws/ap-northeast-1", Private, CrossRegionPrivate, Some("0.08"), GiB),
        ("Tokyo to Seoul", "aws/ap-northeast-1", SEOUL, Private, CrossRegionPrivate, Some("0.09"), GiB),
        ("Virginia to Ohio", "aws/us-east-1", "aws/us-east-2", Private, CrossRegionPrivate, Some("0.01"), GiB),
        ("Virginia to Oregon", "aws/us-east-1", "aws/us-west-2", Public, CrossRegionPublic, Some("0.02"), GiB),
        ("VNet, cross zone", "azure/koreacentral/1", "azure/koreacentral/2", Private, CrossZonePrivate, Some("0"), GB),
        ("peered VNets", "azure/koreacentral/1", "azure/koreacentral/1/v2", Private, PeeredSameZone, Some("0.02"), GB),
        (
            "peered VNets by public IP",
            "azure/koreacentral/1",
            "azure/koreacentral/1/v2",
            Public,
            SameZonePublic,
            Some("0"),
            GB,
        ),
        ("global peering", "azure/eastus", "azure/westeurope", Private, CrossRegionPrivate, Some("0.07"), GB),
        ("Azure across the ocean", "azure/eastus", "azure/westeurope", Public, CrossRegionPublic, Some("0.05"), GB),
        ("Azure within America", "azure/eastus", "azure/westus2", Public, CrossRegionPublic, Some("0.02"), GB),
        ("Azure Korea to Japan", "azure/koreacentral", "azure/japaneast", Public, CrossRegionPublic, Some("0.08"), GB),
        (
            "GCP cross zone",
            "gcp/asia-northeast3/a",
            "gcp/asia-northeast3/b",
            Private,
            CrossZonePrivate,
            Some("0.01"),
            GiB,
        ),
        (
            "GCP external IP",
            "gcp/asia-northeast3/a",
            "gcp/asia-northeast3/a",
            Public,
            SameZonePublic,
            Some("0.01"),
            GiB,
        ),
        ("GCP within the US", "gcp/us-central1", "gcp/us-east4", Private, CrossRegionPrivate, Some("0.02"), GiB),
        ("GCP Seoul to Tokyo", "gcp/asia-northeast3", "gcp/asia-northeast1", Private, CrossRegionPrivate, None, GiB),
        ("AWS Seoul to Azure Korea", SEOUL, "azure/koreacentral", Public, InternetEgress, Some("0.126"), GiB),
        ("Azure Korea to AWS Seoul", "azure/koreacentral", SEOUL, Public, InternetEgress, Some("0.12"), GB),
        ("AWS Seoul to GCP Seoul", SEOUL, "gcp/asia-northeast3", Public, InternetEgress, Some("0.126"), GiB),
        ("Alibaba Seoul to AWS Seoul", "alibaba/ap-northeast-2", SEOUL, Public, InternetEgress, Some("0.123"), GB),
        ("OpenStack to AWS Seoul", "openstack/RegionOne", SEOUL, Public, InternetEgress, Some("0"), GB),
        ("NCP Korea to AWS Seoul", "ncp/KR", SEOUL, Public, InternetEgress, None, GB),
        (
            "OCI Seoul to Ashburn",
            "oracle/ap-seoul-1",
            "oracle/us-ashburn-1",
            Private,
            CrossRegionPrivate,
            Some("0.025"),
            GB,
        ),
    ]
};

#[test]
fn paths_cost_what_their_providers_publish() {
    for (name, from, to, scope, class, figure, unit) in VECTORS {
        let quote = quote(&Book::shipped(), from, to, *scope);
        assert_eq!(quote.class, *class, "{name}");
        assert_eq!(listed(&quote).as_deref(), *figure, "{name}: {quote:?}");
        // Each part is rounded by itself.
        let expected = figure.map(|figure| per_gb(figure, *unit).0);
        let found = quote.per_gb.map(|price| price.0);
        assert!(expected.map(|nano| nano + 1) == found || expected == found, "{name}: {quote:?}");
    }
}

#[test]
fn what_is_assumed_is_told() {
    let book = Book::shipped();
    let unknown = quote(&book, "aws/ap-northeast-2/apne2-az1", "aws/ap-northeast-2", Scope::Private);
    assert_eq!((unknown.estimated, unknown.assumed), (true, vec![Assumed::OtherZone]));
    let known = quote(&book, "aws/ap-northeast-2/apne2-az1", "aws/ap-northeast-2/apne2-az2", Scope::Private);
    assert!(!known.estimated);
}

#[test]
fn names_of_zones_are_compared_within_one_account_only() {
    let book = Book::shipped();
    let (ours, mut theirs) = (at("aws/eu-west-1/eu-west-1a"), at("aws/eu-west-1/eu-west-1a"));
    let class = |theirs: &CloudLocation| {
        let quote = cost(&book, &ours, theirs, Scope::Public, TODAY, &PoolUsage::FirstPaid);
        (quote.class, quote.estimated)
    };
    assert_eq!(class(&theirs), (Class::SameZonePublic, false));
    theirs.account = Some(Located { value: "b".into(), source: LocationSource::Operator });
    assert_eq!(class(&theirs), (Class::CrossZonePublic, true));
    theirs.zone = at("aws/eu-west-1/euw1-az1").zone;
    assert_eq!(class(&theirs), (Class::CrossZonePublic, true), "an identity and a name tell nothing together");
}

#[test]
fn ipv6_inside_one_vpc_of_aws_is_private() {
    let book = Book::shipped();
    let zone = "aws/ap-northeast-2/apne2-az1";
    assert_eq!(quote(&book, zone, zone, Scope::PublicV6).class, Class::SameZonePrivate);
    assert_eq!(quote(&book, zone, "aws/ap-northeast-2/apne2-az1/v2", Scope::PublicV6).class, Class::SameZonePublic);
    assert_eq!(quote(&book, "azure/eastus/1", "azure/eastus/1", Scope::PublicV6).class, Class::SameZonePublic);
}

#[test]
fn an_unknown_provider_has_no_price_and_says_so() {
    let book = Book::shipped();
    let nowhere = quote(&book, "", "aws/us-east-1", Scope::Public);
    assert_eq!(nowhere.per_gb, None);
    assert_eq!(nowhere.parts[0].price, Err(Unpriced::ProviderUnknown(Side::Sender)));
    let elsewhere = quote(&book, "aws/us-east-1", "own-rack/cellar", Scope::Public);
    assert_eq!(elsewhere.per_gb, None);
    assert_eq!(
        elsewhere.parts[1].price.as_ref().unwrap_err().to_string(),
        "the book has no price of internet-ingress for the receiver, own-rack"
    );
    let new_region = quote(&book, "aws/eu-central-2", "gcp/europe-west6", Scope::Public);
    assert_eq!(new_region.per_gb, None, "a region without a figure is not free");
}

#[test]
fn what_is_not_billed_by_bytes_is_not_ranked_by_bytes() {
    let quote = quote(&Book::shipped(), "tencent/ap-seoul", "tencent/ap-tokyo", Scope::Private);
    assert_eq!(quote.per_gb, None);
    assert!(matches!(&quote.parts[0].price, Err(Unpriced::NotPerGb(_))), "{quote:?}");
}

#[test]
fn the_shipped_book_is_whole() {
    let text = include_str!("../../data/tariffs.toml");
    let (document, unknown) = Document::parse(text).unwrap();
    assert_eq!(unknown, Vec::<String>::new());
    let strange = check(&document, &Book::shipped(), TODAY).unwrap();
    // Prices are known of regions that no catalogue of regions has, and the other way round.
    let is_expected =
        |problem: &str| problem.contains("no exchange rate") || problem.contains("region that is not known");
    let strange: Vec<_> = strange.into_iter().filter(|invalid| !is_expected(&invalid.problem)).collect();
    assert_eq!(strange, vec![]);
    let mut used = BTreeSet::new();
    for (name, provider) in &document.providers {
        for rule in &provider.rules {
            let has_source = !rule.sources.is_empty() || rule.confidence == Confidence::Suggested;
            assert!(has_source, "{name} {} has a figure without a source", rule.class);
            used.extend(&rule.sources);
        }
        for pool in &provider.pools {
            assert!(!pool.sources.is_empty(), "{name} {} has a figure without a source", pool.id);
            used.extend(&pool.sources);
        }
    }
    assert!(used.into_iter().eq(document.sources.keys()), "every source is used");
    assert!(document.sources.values().all(|source| !source.document.is_empty() && source.date.is_some()));
}

#[test]
fn a_place_is_doubted_unless_prices_or_the_catalogue_of_regions_name_it() {
    let own = "[providers.own-rack]\nrules = [{ class = 'internet-egress', from = ['cellar'], sender = 0 }]\n";
    let book = operator(own);
    for (provider, region) in
        [("aws", "us-east-1"), ("aws", ""), ("nhn", "KR1"), ("own-rack", "cellar"), ("own-rack", "attic")]
    {
        assert_eq!(book.doubt(provider, region), None, "{provider}/{region}");
    }
    let (document, _) = Document::parse(include_str!("../../data/tariffs.toml")).unwrap();
    for (name, provider) in &document.providers {
        let places =
            provider.rules.iter().flat_map(|rule| [&rule.from, &rule.to]).chain(provider.groups.values()).flatten();
        for place in places {
            let Place::Region(region) = place else { continue };
            assert_eq!(book.doubt(name, region), None, "{name} has prices of {region}");
        }
    }
    assert!(book.doubt("aws", "us-eest-1").is_some_and(|doubt| doubt.contains("no region of aws")));
    assert!(book.doubt("amazon", "us-east-1").is_some_and(|doubt| doubt.contains("no provider")));
}

#[test]
fn a_document_is_written_as_it_is_read() {
    let (document, _) = Document::parse(include_str!("../../data/tariffs.toml")).unwrap();
    assert_eq!(Document::parse(&document.to_text()).unwrap(), (document.clone(), vec![]));
    let stored = serde_json::to_string(&document).unwrap();
    assert_eq!(serde_json::from_str::<Document>(&stored).unwrap(), document);
}

fn operator(text: &str) -> Book {
    let (document, unknown) = Document::parse(text).unwrap();
    assert_eq!(unknown, Vec::<String>::new());
    check(&document, &Book::shipped(), TODAY).unwrap();
    Book::effective(None, Some(&document))
}

#[test]
fn an_operators_rule_goes_before_imported_and_shipped_ones() {
    let rule = |price| format!("[providers.aws]\nrules = [{{ class = 'internet-egress', sender = {price} }}]");
    let (imported, _) = Document::parse(&rule("0.2")).unwrap();
    let (operator, _) = Document::parse(&rule("0.05")).unwrap();
    let price = |book: &Book| quote(book, "aws/us-east-1", "gcp/us-east4", Scope::Public).per_gb;
    assert_eq!(price(&Book::shipped()), Some(per_gb("0.09", Unit::GiB)));
    assert_eq!(price(&Book::effective(Some(&imported), None)), Some(per_gb("0.2", Unit::GiB)));
    let both = Book::effective(Some(&imported), Some(&operator));
    assert_eq!(price(&both), Some(per_gb("0.05", Unit::GiB)), "the unit is the provider's own");
    assert_ne!(both.version(), Book::shipped().version());
}

#[test]
fn a_rule_counts_on_its_days_only_and_the_younger_one_first() {
    let book = operator(
        "[providers.aws]\nunit = 'GB'\nrules = [
            { class = 'internet-egress', sender = 0.5, valid_from = '2026-01-01', valid_to = '2026-06-30' },
            { class = 'internet-egress', sender = 0.4, valid_from = '2026-07-01' },
        ]",
    );
    let price =
        |day| cost(&book, &at("aws/us-east-1"), &at("gcp/us-east4"), Scope::Public, day, &PoolUsage::FirstPaid).per_gb;
    assert_eq!(price(date(2026, 6, 30)), Some(Price(500_000_000)));
    assert_eq!(price(date(2026, 7, 1)), Some(Price(400_000_000)));
    assert_eq!(price(date(2025, 12, 31)), Some(per_gb("0.09", Unit::GiB)), "the shipped figure, in its own unit");
}

#[test]
fn a_currency_counts_once_it_has_a_rate() {
    let book = operator("[exchange_rates.KRW]\nusd = 0.0007\ndate = '2026-11-01'");
    assert_eq!(quote(&book, "ncp/KR", "aws/us-east-1", Scope::Public).per_gb, Some(Price(84_000_000)));
}

#[test]
fn what_is_assumed_counts_only_if_the_operator_says_so() {
    let peered = |book: &Book| quote(book, "gcp/us-east4/a", "gcp/us-east4/b/v2", Scope::Private).per_gb;
    assert_eq!(peered(&Book::shipped()), None);
    assert_eq!(peered(&operator("suggested_defaults = true")), Some(per_gb("0.01", Unit::GiB)));
}

#[test]
fn a_nat_gateway_is_paid_for_on_top() {
    let book = operator(
        "[[surcharges]]\nname = 'NAT gateway'\non = { vpc = 'aws/us-east-1/v1' }\nscopes = ['public']\nsends = 0.045\nreceives = 0.045",
    );
    let price = |from, to, scope| quote(&book, from, to, scope).per_gb.unwrap();
    let [alone, there] = [("aws/us-east-1/use1-az1/v2"), ("aws/us-east-1/use1-az1/v1")]
        .map(|from| price(from, "gcp/us-east4/a", Scope::Public));
    assert_eq!(there.0 - alone.0, 45_000_000);
    let back = price("gcp/us-east4/a", "aws/us-east-1/use1-az1/v1", Scope::Public);
    assert_eq!(back, per_gb("0.12", Unit::GiB).plus(Price(45_000_000)));
    let inside = price("aws/us-east-1/use1-az1/v1", "aws/us-east-1/use1-az1/v1", Scope::Private);
    assert_eq!(inside, Price(0));
}

#[test]
fn a_surcharge_may_hang_on_a_host_or_an_address() {
    let book = operator(
        "[[surcharges]]\nname = 'VPN'\non = { host = 'host-1' }\nsends = 0.1\n
         [[surcharges]]\nname = 'Transit gateway'\non = { endpoint = '203.0.113.0/24' }\nreceives = 0.02",
    );
    let (ours, theirs) = (at("openstack/a"), at("openstack/b"));
    let host = "host-1".parse().unwrap();
    let source = End { location: &ours, host: Some(&host), address: None };
    let destination = End { location: &theirs, host: None, address: Some("203.0.113.9".parse().unwrap()) };
    let price = |source: End<'_>, destination: End<'_>| {
        cost(&book, source, destination, Scope::Public, TODAY, &PoolUsage::FirstPaid).per_gb
    };
    assert_eq!(price(source, destination), Some(Price(120_000_000)));
    assert_eq!(price(destination, source), Some(Price(0)));
}

#[test]
fn a_line_of_ones_own_goes_before_the_internet() {
    let book = operator(
        "[[interconnects]]\nname = 'leased line'\nfrom = 'aws/ap-northeast-2'\nto = 'gcp/asia-northeast3'\nsender = 0.02",
    );
    let price = |from, to, scope| quote(&book, from, to, scope).per_gb;
    assert_eq!(price("aws/ap-northeast-2", "gcp/asia-northeast3", Scope::Private), Some(Price(20_000_000)));
    assert_eq!(price("aws/ap-northeast-2", "gcp/asia-northeast3", Scope::Public), Some(per_gb("0.126", Unit::GiB)));
    assert_eq!(
        price("gcp/asia-northeast3", "aws/ap-northeast-2", Scope::Private),
        Some(per_gb("0.12", Unit::GiB)),
        "one way"
    );
}

#[test]
fn a_bill_goes_through_free_traffic_and_tiers() {
    let book = Book::shipped();
    let (from, to) = (at("azure/koreacentral"), at("aws/us-east-1"));
    let mut usage = PoolUsage::new_month();
    let mut bill = |gb: u64| {
        let charge = charge(&book, &from, &to, Scope::Public, TODAY, &mut usage, gb * GB);
        charge.total.map(|total| total.round().to_string())
    };
    assert_eq!(bill(60).as_deref(), Some("0"));
    assert_eq!(bill(60).as_deref(), Some("2.4"), "forty are still free");
    assert_eq!(bill(10_215).as_deref(), Some("1225.8"), "up to the end of the tier");
    assert_eq!(bill(1000).as_deref(), Some("85"));
    assert_eq!(bill(40_000), None, "a tier that nobody has seen is unknown");
    let now = cost(&book, &from, &to, Scope::Public, TODAY, &usage);
    assert!(matches!(&now.parts[0].price, Err(Unpriced::TierUnknown(_))));
    assert_eq!(cost(&book, &from, &to, Scope::Public, TODAY, &PoolUsage::FirstPaid).per_gb, Some(Price(120_000_000)));
}

#[test]
fn a_tier_that_is_free_makes_no_path_look_free() {
    let book = |tiers: &str| {
        operator(&format!(
            "[providers.aws]\nrules = [{{ class = 'internet-egress', sender = {{ per = 'account', tiers = [{tiers}] }} }}]"
        ))
    };
    let price = |tiers: &str| {
        let quote = quote(&book(tiers), "aws/us-east-1/use1-az1", "gcp/us-east4", Scope::Public);
        listed(&quote).ok_or_else(|| quote.parts[0].price.as_ref().unwrap_err().to_string())
    };
    assert_eq!(price("{ up_to = 10, price = 0 }, { up_to = 20, price = 0.3 }, { price = 0.2 }").as_deref(), Ok("0.3"));
    assert_eq!(price("{ price = 0 }").as_deref(), Ok("0"), "free without an end");
    let unknown = price("{ up_to = 10, price = 0 }").unwrap_err();
    assert!(unknown.contains("knows no price for so much traffic"), "{unknown}");

    // The bill knows the month: what is free there is free. At a tier's edge the next one begins.
    let book = book("{ up_to = 200, price = 0 }, { up_to = 300, price = 0.3 }, { price = 0.2 }");
    let mut month = PoolUsage::new_month();
    let mut charged = |gib: u64| {
        let (from, to) = (at("aws/us-east-1/use1-az1"), at("gcp/us-east4"));
        let charge = charge(&book, &from, &to, Scope::Public, TODAY, &mut month, gib << 30);
        charge.total.unwrap().round().to_string()
    };
    assert_eq!([charged(200), charged(100), charged(10)], ["0", "30", "2"]);
}

#[test]
fn a_long_document_is_checked_in_no_time() {
    let rule = |n: usize| format!("{{ class = 'internet-egress', from = ['r-{n}', 's-{n}'], sender = 1 }}");
    let rules: Vec<String> = (0..MAX_RULES).map(rule).collect();
    let text = |rules: &[String]| format!("[providers.own-rack]\nrules = [{}]", rules.join(", "));
    let (document, _) = Document::parse(&text(&rules)).unwrap();
    check(&document, &Book::shipped(), TODAY).unwrap();
    let double = [&rules[..MAX_RULES - 1], &[rule(7)]].concat();
    let told = refused(&text(&double));
    assert!(told.contains("rules[3999]") && told.contains("as rules[7]"), "{told}");
}

#[test]
fn one_bill_over_all_tiers_equals_many_small_ones() {
    let book = Book::shipped();
    let (from, to) = (at("aws/us-east-1"), at("gcp/us-east4"));
    let bill = |portions: u64| {
        let mut usage = PoolUsage::new_month();
        let portion =
            || charge(&book, &from, &to, Scope::Public, TODAY, &mut usage, 200_000 * GB / 400 * (400 / portions)).total;
        std::iter::repeat_with(portion).take(portions.try_into().unwrap()).map(Option::unwrap).sum::<AttoUsd>()
    };
    assert_eq!(bill(1).round(), bill(400).round());
}

fn refused(text: &str) -> String {
    let checked = Document::parse(text).and_then(|(document, unknown)| {
        refuse_unknown_fields(unknown)?;
        check(&document, &Book::shipped(), TODAY)
    });
    checked.unwrap_err().to_string()
}

#[test]
fn a_wrong_document_is_refused_with_the_path_of_its_field() {
    let rules = |rules: &str| refused(&format!("[providers.aws]\nrules = [{rules}]"));
    for (found, expected) in [
        (
            rules("{ class = 'internet-egress', sender = -0.01 }"),
            "providers.aws.rules[0].sender is -0.01; use 0 or more",
        ),
        (rules("{ class = 'internet-egress', sender = nan }"), "providers.aws.rules[0].sender is NaN"),
        (rules("{ class = 'to-the-moon', sender = 1 }"), "providers.aws.rules[0].class "),
        (rules("{ class = 'internet-egress' }"), "providers.aws.rules[0].sender is absent"),
        (rules("{ class = 'interconnect', sender = 1 }"), "providers.aws.rules[0].class is interconnect"),
        (
            rules("{ class = 'internet-egress', from = ['@mars'], sender = 1 }"),
            "providers.aws.rules[0].from names the group \"mars\"",
        ),
        (rules("{ class = 'internet-egress', from = ['a b'], sender = 1 }"), "providers.aws.rules[0].from"),
        (rules("{ class = 'internet-egress', sender = 'free' }"), "providers.aws.rules[0].sender invalid value"),
        (
            rules("{ class = 'internet-egress', sender = { per = 'region', tiers = [] } }"),
            "providers.aws.rules[0].sender has tiers",
        ),
        (
            rules(
                "{ class = 'internet-egress', sender = { per = 'region', tiers = [{ price = 1 }, { up_to = 5, price = 1 }] } }",
            ),
            "providers.aws.rules[0].sender has tiers",
        ),
        (
            rules("{ class = 'internet-egress', sender = { same_as = 'internet-egress' } }"),
            "providers.aws.rules[0].sender refers to its own class",
        ),
        (
            rules("{ class = 'internet-egress', sender = 1, colour = 'red' }"),
            "providers.aws.rules.0.colour is not known",
        ),
        (
            rules("{ class = 'internet-egress', sender = 1, valid_from = '2026-02-01', valid_to = '2026-01-01' }"),
            "providers.aws.rules[0].valid_to is before",
        ),
        (
            rules(
                "{ class = 'internet-egress', sender = 1 }, { class = 'internet-egress', sender = 2, valid_from = '2026-01-01' }",
            ),
            "providers.aws.rules[1] speaks of the same traffic and days as rules[0]",
        ),
        (refused("providers = 3"), "providers invalid type"),
        (refused("[providers.AWS]"), "providers.AWS is no name"),
        (refused("[exchange_rates.EUR]\nusd = 0\ndate = '2026-01-01'"), "exchange_rates.EUR.usd is 0"),
        (refused("[exchange_rates.euro]\nusd = 1\ndate = '2026-01-01'"), "exchange_rates.euro is no currency"),
        (refused("[[surcharges]]\nname = 'x'\non = { vpc = 'aws' }"), "surcharges[0].sends is absent"),
        (refused("[[interconnects]]\nname = 'x'\nfrom = 'aws//'\nto = 'gcp'"), "interconnects[0].from"),
        (
            refused(&"[[interconnects]]\nname = 'x'\nfrom = 'aws/us-east-1'\nto = 'gcp'\nsender = 1\n".repeat(2)),
            "interconnects[1] joins the same sites on the same days as interconnects[0]",
        ),
        (refused("[providers.aws\nrules = []"), "document "),
    ] {
        assert!(found.starts_with(expected), "{found}\nexpected {expected}");
    }
}

#[test]
fn rates_that_refer_to_each_other_are_refused_and_have_no_price() {
    const THERE: &str = "{ class = 'cross-region-private', sender = { same_as = 'cross-region-public' } }";
    const BACK: &str = "{ class = 'cross-region-public', sender = { same_as = 'cross-region-private' } }";
    let document = |provider: &str, rules: &[&str]| format!("[providers.{provider}]\nrules = [{}]", rules.join(", "));
    let within = |rule: &str, region: &str| rule.replace(", sender", &format!(", from = ['{region}'], sender"));
    for (text, circle) in [
        (document("own-rack", &[THERE, BACK]), "own-rack.rules[0].sender refers to no price: cross-region-private, "),
        (document("aws", &[THERE]), "aws.rules[0].sender refers to no price: cross-region-private, "),
        (document("own-rack", &[&within(THERE, "seoul-*"), BACK]), "own-rack.rules[0].sender refers to no price"),
        (document("own-rack", &[THERE, BACK]).replace("sender", "receiver"), "own-rack.rules[0].receiver refers"),
    ] {
        let told = refused(&text);
        assert!(told.contains(circle), "{told}\nof {text}");
        let book = Book::effective(None, Some(&Document::parse(&text).unwrap().0));
        let provider = if text.contains("own-rack") { "own-rack" } else { "aws" };
        let ends = [format!("{provider}/seoul-1"), format!("{provider}/seoul-2")];
        let quote = quote(&book, &ends[0], &ends[1], Scope::Private);
        assert_eq!(quote.per_gb, None);
        assert!(quote.parts.iter().any(|part| matches!(part.price, Err(Unpriced::NoRule { .. }))), "{quote:?}");
    }
    let told = refused(&document("aws", &[THERE]));
    assert!(told.contains("cross-region-private, cross-region-public, cross-region-private, and so on"), "{told}");

    let price = "{ class = 'cross-region-private', from = ['seoul-*'], sender = 1 }";
    for right in [
        document("own-rack", &[THERE, "{ class = 'cross-region-public', sender = 1 }"]),
        document("own-rack", &[&within(THERE, "seoul-1"), &within(BACK, "tokyo-1")]),
        document("own-rack", &[&within(BACK, "seoul-1"), price]),
    ] {
        let (document, _) = Document::parse(&right).unwrap();
        check(&document, &Book::shipped(), TODAY).unwrap_or_else(|error| panic!("{error}\n{right}"));
    }
}

#[test]
fn rates_that_refer_on_and_on_are_refused() {
    let classes =
        ["same-zone-private", "same-zone-public", "cross-zone-private", "cross-zone-public", "peered-same-zone"];
    let rules = |count: usize| {
        let refer = |pair: &[&str]| format!("{{ class = '{}', sender = {{ same_as = '{}' }} }}", pair[0], pair[1]);
        let references: Vec<String> = classes[..=count].windows(2).map(refer).collect();
        format!(
            "[providers.own-rack]\nrules = [{}, {{ class = '{}', sender = 1 }}]",
            references.join(", "),
            classes[count]
        )
    };
    let (document, _) = Document::parse(&rules(3)).unwrap();
    check(&document, &Book::shipped(), TODAY).unwrap();
    let book = Book::effective(None, Some(&document));
    let here = "own-rack/seoul-1/a/v1";
    assert!(
        quote(&book, here, here, Scope::Private).parts.iter().any(|part| part.price.is_ok()),
        "as far as is followed"
    );
    assert!(refused(&rules(4)).contains("rules[0].sender refers to no price: same-zone-private"));
}

#[test]
fn tiers_of_what_is_received_are_refused() {
    let told = refused(
        "[providers.aws]\nrules = [{ class = 'internet-ingress', receiver = { per = 'account', tiers = [{ price = 1 }] } }]",
    );
    assert!(told.contains("rules[0].receiver") && told.contains("only what is sent"), "{told}");
}

#[test]
fn what_is_only_strange_is_told() {
    let (document, _) = Document::parse(
        "[providers.own-rack]\ncurrency = 'EUR'\nrules = [
            { class = 'internet-egress', sender = 0.01, valid_to = '2025-12-31', sources = ['contract'] },
        ]
        [providers.aws]\nrules = [{ class = 'internet-egress', from = ['us-east-9'], sender = 0.01 }]",
    )
    .unwrap();
    let strange = check(&document, &Book::shipped(), TODAY).unwrap();
    let fields: Vec<_> = strange.iter().map(|strange| strange.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "providers.aws.rules[0].from",
            "providers.own-rack",
            "providers.own-rack.currency",
            "providers.own-rack.rules[0].valid_to",
            "providers.own-rack.rules[0].sources"
        ]
    );
}

#[test]
fn a_book_travels_as_its_documents() {
    let book = operator("suggested_defaults = true\n[exchange_rates.KRW]\nusd = 0.0007\ndate = '2026-11-01'");
    let texts = book.layers().iter().map(|layer| (layer.origin, layer.document.to_text())).collect::<Vec<_>>();
    let arrived = Book::try_from(texts).unwrap();
    assert_eq!(arrived.version(), book.version());
    assert_eq!(
        quote(&arrived, "ncp/KR", "gcp/us-east4", Scope::Public),
        quote(&book, "ncp/KR", "gcp/us-east4", Scope::Public)
    );
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let page = include_str!("../../../docs/tariffs.md");
    let examples: Vec<&str> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let (document, unknown) = Document::parse(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        assert_eq!(unknown, Vec::<String>::new(), "{example}");
        check(&document, &Book::shipped(), TODAY).unwrap_or_else(|error| panic!("{error}\n{example}"));
    }
}
