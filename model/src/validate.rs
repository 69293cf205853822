//! What people send, checked: every fault with the path of its field and what would be right, all of them at once.
//! Here are the checks that several records share; the others stand beside their records.

use std::fmt;

use crate::Labels;

/// Longest name, in characters.
pub const MAX_NAME: usize = 100;
/// Longest description, in characters.
pub const MAX_DESCRIPTION: usize = 1000;
/// As many labels as a page shows.
pub const MAX_LABELS: usize = 32;
/// Longest name or value of a label, and longest part of its prefix; Kubernetes' limits, so that its labels can be
/// taken over.
const MAX_LABEL_PART: usize = 63;
const MAX_LABEL_PREFIX: usize = 253;

/// One field that is wrong. `problem` goes on where the field's path ends: "is empty", "has 120 characters; …".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Names as in `cladnet.v1`, parts joined by dots: `ipv4_address_space`, `labels.zone`.
    pub field: String,
    pub problem: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

/// Input that was refused: at least one fault, in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Invalid::to_string).collect::<Vec<_>>().join("; "))]
pub struct InvalidInput(pub Vec<Invalid>);

impl InvalidInput {
    /// A single fault.
    pub fn new(field: &str, problem: impl fmt::Display) -> Self {
        Self(vec![Invalid { field: field.to_owned(), problem: problem.to_string() }])
    }

    /// The path of the first field that is wrong.
    pub fn field(&self) -> &str {
        self.0.first().map_or("", |invalid| &invalid.field)
    }
}

/// Collects faults while fields are checked one by one.
#[derive(Debug, Default)]
pub struct Checks(Vec<Invalid>);

impl Checks {
    /// The value of a field if it is right; otherwise its fault is noted.
    pub fn field<T, E: fmt::Display>(&mut self, field: &str, checked: Result<T, E>) -> Option<T> {
        checked.map_err(|problem| self.0.push(Invalid { field: field.to_owned(), problem: problem.to_string() })).ok()
    }

    /// A field that may be absent.
    pub fn optional<T, E: fmt::Display>(&mut self, field: &str, checked: Option<Result<T, E>>) -> Option<T> {
        self.field(field, checked?)
    }

    /// Every label on its own, and their number.
    pub fn labels(&mut self, field: &str, labels: &Labels) {
        if labels.len() > MAX_LABELS {
            self.field(field, Err::<(), _>(format!("has {} labels; at most {MAX_LABELS} are allowed", labels.len())));
        }
        for (key, value) in labels.iter().take(MAX_LABELS) {
            let shown: String = key.chars().take(MAX_LABEL_PART).collect();
            let path = format!("{field}.{}", shown.escape_debug());
            self.field(&path, check_label_key(key).and_then(|()| check_label_value(value)));
        }
    }

    /// Whether all was right.
    pub fn finish(self) -> Result<(), InvalidInput> {
        self.conclude(Some(()))
    }

    /// What was made of the fields, if all were right; it is absent only if one was not.
    pub fn conclude<T>(self, value: Option<T>) -> Result<T, InvalidInput> {
        value.filter(|_| self.0.is_empty()).ok_or(InvalidInput(self.0))
    }
}

/// Why a name, a description or a label is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("is empty; use 1 to {MAX_NAME} characters")]
    Empty,
    #[error("has {found} characters; at most {most} are allowed")]
    TooLong { found: usize, most: usize },
    /// Characters that nobody sees and that make a text look like another one.
    #[error("contains U+{:04X}, a character that is not shown; remove it", *.0 as u32)]
    Hidden(char),
    #[error("begins or ends with a space; remove it")]
    Padded,
    #[error(
        "is no label key; use at most {MAX_LABEL_PART} of [A-Za-z0-9._-] that begin and end with a letter or digit, after an \
        optional DNS name and a slash, such as zone or example.org/zone"
    )]
    LabelKey,
    #[error(
        "has the value {0:?}; use at most {MAX_LABEL_PART} of [A-Za-z0-9._-] that begin and end with a letter or digit"
    )]
    LabelValue(String),
}

/// A name for people: any script, at most [`MAX_NAME`] characters, none of them invisible.
pub fn check_name(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    check_text(text, MAX_NAME)?;
    if text.trim() == text { Ok(()) } else { Err(TextError::Padded) }
}

/// A description: like a name, but longer, possibly empty, and in lines.
pub fn check_description(text: &str) -> Result<(), TextError> {
    let lines = text.replace("\r\n", "\n").replace(['\n', '\t'], " ");
    check_text(&lines, MAX_DESCRIPTION)
}

/// Text that machines tell people: at most `most` characters, none of them hidden, so that no terminal obeys it.
pub fn check_text(text: &str, most: usize) -> Result<(), TextError> {
    let found = text.chars().count();
    if found > most {
        return Err(TextError::TooLong { found, most });
    }
    text.chars().find(|c| is_hidden(*c)).map_or(Ok(()), |hidden| Err(TextError::Hidden(hidden)))
}

/// Control characters, line separators, and those that turn the direction of the text after them or have no width at
/// all. Left-to-right and right-to-left marks and joiners stay: honest names of several scripts need them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{200b}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

pub(crate) fn check_label_key(key: &str) -> Result<(), TextError> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_right = is_label_part(name) && prefix.is_none_or(is_dns_name);
    if is_right { Ok(()) } else { Err(TextError::LabelKey) }
}

pub(crate) fn check_label_value(value: &str) -> Result<(), TextError> {
    let is_right = value.is_empty() || is_label_part(value);
    if is_right { Ok(()) } else { Err(TextError::LabelValue(value.chars().take(MAX_LABEL_PART).collect())) }
}

fn is_label_part(text: &str) -> bool {
    text.len() <= MAX_LABEL_PART
        && is_enclosed(text)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn is_dns_name(text: &str) -> bool {
    let is_part = |part: &str| {
        part.len() <= MAX_LABEL_PART
            && is_enclosed(part)
            && part.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'))
    };
    text.len() <= MAX_LABEL_PREFIX && text.split('.').all(is_part)
}

/// Whether a text begins and ends with a letter or digit.
fn is_enclosed(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_pass_and_invisible_characters_do_not() {
        for name in ["prod", "운영 네트워크", "شبكة\u{200f} A", "a\u{200d}b", "Zürich 1"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        assert_eq!(check_name(""), Err(TextError::Empty));
        assert_eq!(check_name(" prod"), Err(TextError::Padded));
        for hidden in
            ['\n', '\0', '\u{1b}', '\u{7f}', '\u{85}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}', '\u{2028}']
        {
            assert_eq!(check_name(&format!("a{hidden}b")), Err(TextError::Hidden(hidden)));
        }
        assert_eq!(
            check_name("a\u{202e}b").unwrap_err().to_string(),
            "contains U+202E, a character that is not shown; remove it"
        );
        assert_eq!(check_name(&"ä".repeat(100)), Ok(()));
        assert_eq!(check_name(&"ä".repeat(101)), Err(TextError::TooLong { found: 101, most: 100 }));
    }

    #[test]
    fn a_description_may_have_lines() {
        assert_eq!(check_description(""), Ok(()));
        assert_eq!(check_description("one\r\ntwo\n\tthree"), Ok(()));
        assert_eq!(check_description("a\rb"), Err(TextError::Hidden('\r')));
        assert!(check_description(&"x".repeat(1001)).is_err());
    }

    #[test]
    fn labels_are_those_of_kubernetes() {
        let fault = |key: &str, value: &str| {
            let mut checks = Checks::default();
            checks.labels("labels", &Labels::from([(key.to_owned(), value.to_owned())]));
            checks.finish().err().map(|error| error.field().to_owned())
        };
        for (key, value) in [("zone", "a"), ("example.org/Zone_1", ""), ("a.b-c", "X.y-Z_0"), ("a", &"v".repeat(63))] {
            assert_eq!(fault(key, value), None, "{key}={value}");
        }
        for (key, value) in
            [("", "a"), ("-a", "a"), ("a/", "a"), ("/a", "a"), ("a/b/c", "a"), ("A.org/b", "a"), ("a", "-")]
        {
            assert_eq!(fault(key, value), Some(format!("labels.{key}")), "{key}={value}");
        }
        assert!(fault(&"k".repeat(64), "").is_some() && fault("k", &"v".repeat(64)).is_some());
    }

    #[test]
    fn every_fault_is_told_with_its_field() {
        let mut checks = Checks::default();
        checks.field("name", check_name(""));
        let labels = (0..33).map(|n| (format!("key-{n}"), String::new())).chain([("b c".to_owned(), String::new())]);
        checks.labels("labels", &labels.collect());
        let error = checks.finish().unwrap_err();
        assert_eq!(error.field(), "name");
        assert_eq!(error.0.len(), 3);
        assert!(error.to_string().starts_with(
            "name is empty; use 1 to 100 characters; labels has 34 labels; at most 32 are allowed; labels.b c is no label key"
        ), "{error}");
    }
}
