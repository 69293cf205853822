//! What the grammars of rules have in common: a text is parsed whole, and what does not parse is told with its place.

use winnow::{
    ModalResult, Parser,
    error::{ContextError, ParseError, StrContext, StrContextValue},
};

/// How much of a text is shown after the place where it stops making sense.
const SHOWN: usize = 30;

/// A text that is not of its grammar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("does not parse at character {position}, {}: expected {expected}", Before(.rest))]
pub struct SyntaxError {
    /// Counted from 1.
    pub position: usize,
    /// What stands there.
    pub rest: String,
    pub expected: String,
}

struct Before<'a>(&'a str);

impl std::fmt::Display for Before<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { f.write_str("the end") } else { write!(f, "before {:?}", self.0) }
    }
}

pub(super) fn expected(what: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(what))
}

/// All of `text`, by `grammar`.
pub(super) fn whole<'a, T>(
    text: &'a str,
    mut grammar: impl FnMut(&mut &'a str) -> ModalResult<T>,
) -> Result<T, SyntaxError> {
    (|input: &mut &'a str| grammar(input)).parse(text).map_err(|error| explained(&error))
}

fn explained(error: &ParseError<&str, ContextError>) -> SyntaxError {
    let text = *error.input();
    let (before, rest) = text.split_at_checked(error.offset()).unwrap_or((text, ""));
    let wanted = error.inner().context().find_map(|context| match context {
        StrContext::Expected(wanted) => Some(wanted.to_string()),
        _ => None,
    });
    SyntaxError {
        position: before.chars().count() + 1,
        rest: rest.chars().take(SHOWN).collect(),
        expected: wanted.unwrap_or_else(|| "the end".to_owned()),
    }
}
