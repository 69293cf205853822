//! Moments and spans of time.

use std::time::Duration;

use jiff::Timestamp;

use super::FieldError;

/// A moment as it travels.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    // Both count from 1970; protobuf wants the fraction positive, also before that.
    let nanos = at.subsec_nanosecond();
    let (seconds, nanos) =
        if nanos < 0 { (at.as_second() - 1, nanos + 1_000_000_000) } else { (at.as_second(), nanos) };
    prost_types::Timestamp { seconds, nanos }
}

/// A span of time that may be absent.
pub fn duration(field: &str, wire: Option<prost_types::Duration>) -> Result<Option<Duration>, FieldError> {
    wire.map(Duration::try_from).transpose().map_err(|_| FieldError::new(field, "is negative or too long"))
}
