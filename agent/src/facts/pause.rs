//! Noticing that the machine stood still: suspended and resumed, paused by its hypervisor, or the process stopped.
//! Whatever was known of addresses before is a guess after it.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How often the clocks are compared.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// A tick that is late by this much is no busy machine any more.
const PAUSE: Duration = Duration::from_secs(2);

/// What the clocks said last. A suspend shows on some of them and not on others, so all are asked; one that is set
/// shows too, which costs a few packets.
#[derive(Debug)]
pub(super) struct Pulse {
    last: [Duration; 3],
}

impl Pulse {
    pub(super) fn start() -> Self {
        Self { last: clocks() }
    }

    /// To be called every [`TICK`]; true if the machine stood still since the last time.
    pub(super) fn paused(&mut self) -> bool {
        let now = clocks();
        let last = std::mem::replace(&mut self.last, now);
        jumped(&last, &now)
    }
}

fn jumped(last: &[Duration], now: &[Duration]) -> bool {
    last.iter().zip(now).any(|(last, now)| now.saturating_sub(*last) > TICK + PAUSE)
}

fn clocks() -> [Duration; 3] {
    [ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_REALTIME]
        .map(|clock| clock_gettime(clock).map(Duration::from).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_on_any_clock_is_a_pause_and_a_step_back_is_not() {
        let at = |seconds: [u64; 3]| seconds.map(Duration::from_secs);
        assert!(!jumped(&at([10, 10, 10]), &at([11, 11, 11])));
        assert!(!jumped(&at([10, 10, 10]), &at([11, 11, 0])));
        assert!(jumped(&at([10, 10, 10]), &at([600, 11, 11])));
        assert!(jumped(&at([10, 10, 10]), &at([11, 11, 600])));
    }
}
