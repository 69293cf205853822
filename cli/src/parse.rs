//! How people write durations and labels.

use std::time::Duration;

use jiff::{SpanRelativeTo, fmt::friendly::SpanParser};

/// `90s`, `10m`, `1h30m`, `7d`; more than zero.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a duration such as 30s, 10m, 1h or 7d".to_owned();
    let span = SpanParser::new().parse_span(text).map_err(|_| wrong())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(duration).ok().filter(|duration| !duration.is_zero()).ok_or_else(wrong)
}

/// `KEY=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as KEY=VALUE".to_owned()),
    }
}

/// For the wire.
pub(crate) fn to_proto(duration: Duration) -> Result<prost_types::Duration, crate::Failure> {
    prost_types::Duration::try_from(duration).map_err(|_| crate::Failure::usage("the duration is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_say_them() {
        for (text, seconds) in
            [("30s", 30), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("7d", 604_800), ("1 hour", 3600)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "5", "0s", "-1h", "1 fortnight", "1y"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_label_is_a_key_and_a_value() {
        assert_eq!(label("zone=a=b"), Ok(("zone".to_owned(), "a=b".to_owned())));
        assert_eq!(label("zone="), Ok(("zone".to_owned(), String::new())));
        assert!(label("zone").is_err());
        assert!(label("=a").is_err());
    }
}
