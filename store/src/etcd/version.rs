//! Versions of etcd with known faults in what we rely on.

use tracing::warn;

/// Warns when a server lacks fixes to watches, leases or compaction.
pub(super) fn warn_about(version: &str) {
    if is_faulty(version) {
        warn!(version, "this etcd has known faults in watches and compaction; 3.5.33, 3.6.14, 3.7.1 and later do not");
    }
}

fn is_faulty(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten(), numbers.next().flatten()) {
        (Some(3), Some(minor @ ..=7), Some(patch)) => match minor {
            ..=4 => true,
            5 => patch < 33,
            6 => patch < 14,
            _ => patch < 1,
        },
        (Some(major), _, _) => major < 3,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_releases_are_not_warned_about() {
        for (version, faulty) in [
            ("3.4.23", true),
            ("3.5.32", true),
            ("3.5.33", false),
            ("3.6.14-rc.1", false),
            ("3.7.0", true),
            ("3.8.0", false),
            ("4.0.0", false),
            ("unknown", true),
        ] {
            assert_eq!(is_faulty(version), faulty, "{version}");
        }
    }
}
