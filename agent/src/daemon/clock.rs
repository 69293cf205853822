//! This machine's clock beside the service's: certificates are judged by it, so one that is wrong is told before they
//! fail.

use cladnet_proto::cladnet::v1::Welcome;
use jiff::Timestamp;
use tracing::warn;

use super::core::Core;

/// Seconds that clocks may differ by before somebody should look.
const MAX_ERROR: u64 = 300;

pub(super) fn watch(core: &mut Core, welcome: &Welcome) {
    let Some(time) = &welcome.time else { return };
    match problem(Timestamp::now().as_second().saturating_sub(time.seconds)) {
        Some(problem) => {
            warn!(problem, "this machine's clock and the service's differ");
            core.problems.insert("clock".into(), problem);
        }
        None => drop(core.problems.remove("clock")),
    }
}

fn problem(ahead: i64) -> Option<String> {
    let (by, direction) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
    (by > MAX_ERROR).then(|| {
        format!("this machine's clock is {by} s {direction} the service's; set it, or certificates will be refused")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_told_and_seconds_are_not() {
        assert_eq!(problem(300), None);
        assert!(problem(301).expect("told").contains("301 s ahead of"));
        assert!(problem(i64::MIN).expect("told").contains("behind"));
    }
}
