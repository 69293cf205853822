//! Label selectors: which labels a peer must bear. Kubernetes' grammar and meaning, so that people know it already
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>).

use std::{collections::BTreeSet, fmt, str::FromStr};

use winnow::{
    ModalResult, Parser,
    ascii::{space0, space1},
    combinator::{alt, cut_err, delimited, eof, peek, preceded, separated, terminated},
    token::take_while,
};

use super::parse::{self, SyntaxError, expected};
use crate::{
    HostId, Labels,
    validate::{check_label_key, check_label_value},
};

/// A label that every peer bears without being given it: its host's id.
pub const HOST_LABEL: &str = "cladnet/host";
/// Another such: its host's name, if that can be the value of a label.
pub const NAME_LABEL: &str = "cladnet/name";

/// Which labels a peer must bear: all the requirements hold. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// What one label must be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// One of these; never empty.
    In(BTreeSet<String>),
    /// None of these, or the label is absent; never empty.
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}

impl Selector {
    /// Whether somebody with these labels is meant.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// The host names that it asks for.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(|requirement| requirement.key == NAME_LABEL);
        let values = named.filter_map(|requirement| match &requirement.condition {
            Condition::In(values) => Some(values),
            _ => None,
        });
        values.flatten().map(String::as_str)
    }

    /// Whether whoever `other` means is meant by this too. False is no proof of the contrary.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().all(|ours| other.0.iter().any(|theirs| ours.follows_from(theirs)))
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        match (&self.condition, labels.get(&self.key)) {
            (Condition::In(values), Some(value)) => values.contains(value),
            (Condition::NotIn(values), Some(value)) => !values.contains(value),
            (Condition::Exists, found) => found.is_some(),
            (Condition::Absent, found) => found.is_none(),
            (Condition::In(_), None) => false,
            (Condition::NotIn(_), None) => true,
        }
    }

    /// Whether this holds wherever `other` does.
    fn follows_from(&self, other: &Self) -> bool {
        use Condition::{Absent, Exists, In, NotIn};
        self.key == other.key
            && match (&self.condition, &other.condition) {
                (In(ours), In(theirs)) => theirs.is_subset(ours),
                (NotIn(ours), NotIn(theirs)) => ours.is_subset(theirs),
                (NotIn(ours), In(theirs)) => ours.is_disjoint(theirs),
                (Exists, In(_) | Exists) | (Absent | NotIn(_), Absent) => true,
                _ => false,
            }
    }
}

/// What selectors look at: a peer's labels, and those that every peer bears.
pub fn selectable(labels: &Labels, host: &HostId, name: &str) -> Labels {
    let mut all = labels.clone();
    all.insert(HOST_LABEL.to_owned(), host.to_string());
    if !name.is_empty() && check_label_value(name).is_ok() {
        all.insert(NAME_LABEL.to_owned(), name.to_owned());
    }
    all
}

impl FromStr for Selector {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        parse::whole(text, selector)
    }
}

fn selector(input: &mut &str) -> ModalResult<Selector> {
    let requirements = separated(1.., cut_err(delimited(space0, requirement, space0)), ',');
    let end = alt((eof, peek(","))).context(expected("a comma or the end"));
    terminated(requirements, cut_err(end)).map(Selector).parse_next(input)
}

fn requirement(input: &mut &str) -> ModalResult<Requirement> {
    let absent = preceded(('!', space0), cut_err(key)).map(|key| Requirement { key, condition: Condition::Absent });
    let present = (key, condition).map(|(key, condition)| Requirement { key, condition });
    alt((absent, present)).parse_next(input)
}

fn condition(input: &mut &str) -> ModalResult<Condition> {
    let one = |value: String| BTreeSet::from([value]);
    let operator = |operator| (space0, operator, space0);
    let word = |word| (space1, word, space0);
    alt((
        preceded(operator("!="), cut_err(value)).map(move |value| Condition::NotIn(one(value))),
        preceded(operator("=="), cut_err(value)).map(move |value| Condition::In(one(value))),
        preceded(operator("="), cut_err(value)).map(move |value| Condition::In(one(value))),
        preceded(word("notin"), cut_err(values)).map(Condition::NotIn),
        preceded(word("in"), cut_err(values)).map(Condition::In),
        ().value(Condition::Exists),
    ))
    .parse_next(input)
}

fn key(input: &mut &str) -> ModalResult<String> {
    take_while(1.., |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c))
        .try_map(|key: &str| check_label_key(key).map(|()| key.to_owned()))
        .context(expected("the key of a label, such as zone or example.org/zone"))
        .parse_next(input)
}

fn value(input: &mut &str) -> ModalResult<String> {
    take_while(0.., |c: char| c.is_ascii_alphanumeric() || "._-".contains(c))
        .try_map(|value: &str| check_label_value(value).map(|()| value.to_owned()))
        .context(expected("the value of a label: at most 63 of [A-Za-z0-9._-]"))
        .parse_next(input)
}

fn values(input: &mut &str) -> ModalResult<BTreeSet<String>> {
    let list = separated(1.., delimited(space0, value, space0), ',').map(|values: Vec<_>| values.into_iter().collect());
    let open = '('.context(expected("values in parentheses, such as (a, b)"));
    let close = ')'.context(expected("a comma or a closing parenthesis"));
    delimited(open, list, close).parse_next(input)
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            write!(f, "{}{requirement}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.condition {
            Condition::In(values) => list(f, key, ["=", "in"], values),
            Condition::NotIn(values) => list(f, key, ["!=", "notin"], values),
            Condition::Exists => f.write_str(key),
            Condition::Absent => write!(f, "!{key}"),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, key: &str, [one, many]: [&str; 2], values: &BTreeSet<String>) -> fmt::Result {
    let mut each = values.iter();
    match (each.next(), each.next()) {
        (Some(value), None) => write!(f, "{key}{one}{value}"),
        _ => write!(f, "{key} {many} ({})", values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selector(text: &str) -> Selector {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn every_operator_means_what_it_means_to_kubernetes() {
        let web = labels(&[("role", "web"), ("zone", "a")]);
        for (text, expected) in [
            ("role=web", true),
            ("role==web", true),
            ("role = web , zone=a", true),
            ("role=web,zone=b", false),
            ("role!=web", false),
            ("tier!=gold", true),
            ("role in (web, db)", true),
            ("role in(db,web)", true),
            ("role in (db)", false),
            ("role notin (web)", false),
            ("tier notin (gold)", true),
            ("role", true),
            ("tier", false),
            ("!tier", true),
            ("! role", false),
            ("tier=", false),
            ("in=web", false),
            ("example.org/zone=a", false),
        ] {
            assert_eq!(selector(text).matches(&web), expected, "{text}");
        }
        assert!(selector("empty=").matches(&labels(&[("empty", "")])));
    }

    #[test]
    fn what_does_not_parse_is_told_with_its_place() {
        for (text, place) in [
            ("", "at character 1"),
            ("role=web,", "at character 10"),
            ("role=we b", "at character 9"),
            ("role in web", "at character 9"),
            ("role in (web", "at character 13"),
            ("role ~ web", "at character 6"),
            ("=web", "at character 1"),
            ("-role", "at character 1"),
            ("role=-", "at character 6"),
            ("!", "at character 2"),
            ("rôle=web", "at character 2"),
        ] {
            let error = text.parse::<Selector>().map_err(|error| error.to_string()).expect_err(text);
            assert!(error.contains(place) && error.contains("expected"), "{text:?}: {error}");
        }
        assert_eq!(
            "role in web".parse::<Selector>().unwrap_err().to_string(),
            "does not parse at character 9, before \"web\": expected values in parentheses, such as (a, b)"
        );
    }

    #[test]
    fn a_selector_survives_its_text() {
        for text in ["role=web", "role!=web, !tier", "role in (a, b), zone notin (c, d), x/y, e="] {
            assert_eq!(selector(text).to_string(), text);
        }
        assert_eq!(selector("role==web,zone in (a)").to_string(), "role=web, zone=a");
    }

    #[test]
    fn a_wider_selector_covers_a_narrower_one() {
        let covers = |wide: &str, narrow: &str| selector(wide).covers(&selector(narrow));
        for (wide, narrow) in [
            ("role", "role=web"),
            ("role in (web, db)", "role=web, zone=a"),
            ("role!=db", "role=web"),
            ("role!=db", "role notin (db, web)"),
            ("role!=db", "!role"),
        ] {
            assert!(covers(wide, narrow) && !covers(narrow, wide), "{wide} {narrow}");
        }
        assert!(!covers("role=web", "zone=a"));
    }

    #[test]
    fn every_peer_can_be_named() {
        let host: HostId = "host-a".parse().unwrap();
        let all = selectable(&labels(&[("cladnet/host", "forged")]), &host, "web-1");
        assert!(selector("cladnet/host=host-a, cladnet/name=web-1").matches(&all));
        assert!(selector("!cladnet/name").matches(&selectable(&Labels::new(), &host, "웹 1")));
    }
}
