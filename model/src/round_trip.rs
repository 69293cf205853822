//! Figures over the round trips of a test.

/// What a series of round trips says, in microseconds: those that came back. Loss is told by [`loss_percent`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundTrips {
    pub count: usize,
    pub min_us: u32,
    pub avg_us: u32,
    pub max_us: u32,
    /// Of the whole series, not an estimate from a sample.
    pub stddev_us: u32,
    pub p50_us: u32,
    pub p90_us: u32,
    pub p99_us: u32,
}

impl RoundTrips {
    /// The figures of a series in any order; none of an empty one. Percentiles are nearest-rank: always one of the
    /// series.
    pub fn of(series_us: &[u32]) -> Option<Self> {
        let mut sorted = series_us.to_vec();
        sorted.sort_unstable();
        let (min_us, max_us) = (*sorted.first()?, *sorted.last()?);
        let count = sorted.len() as f64;
        let mean = sorted.iter().copied().map(f64::from).sum::<f64>() / count;
        let variance = sorted.iter().map(|rtt| (f64::from(*rtt) - mean).powi(2)).sum::<f64>() / count;
        let percentile = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied().unwrap_or(max_us)
        };
        Some(Self {
            count: sorted.len(),
            min_us,
            // Between two values of the series, so it fits.
            avg_us: mean.round() as u32,
            max_us,
            stddev_us: variance.sqrt().round() as u32,
            p50_us: percentile(50),
            p90_us: percentile(90),
            p99_us: percentile(99),
        })
    }
}

/// Replies that did not come, in per cent of what was sent; 0 if nothing was sent.
pub fn loss_percent(sent: u64, received: u64) -> f64 {
    if sent == 0 {
        return 0.0;
    }
    100.0 * sent.saturating_sub(received) as f64 / sent as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_the_textbook() {
        let trips = RoundTrips::of(&[9000, 2000, 4000, 4000, 4000, 5000, 5000, 7000]).unwrap();
        assert_eq!((trips.min_us, trips.avg_us, trips.max_us, trips.stddev_us), (2000, 5000, 9000, 2000));
        assert_eq!((trips.p50_us, trips.p90_us, trips.p99_us), (4000, 9000, 9000));
        let hundred: Vec<u32> = (1..=100).rev().collect();
        let trips = RoundTrips::of(&hundred).unwrap();
        assert_eq!((trips.count, trips.p50_us, trips.p90_us, trips.p99_us), (100, 50, 90, 99));
    }

    #[test]
    fn the_ends_hold() {
        assert_eq!(RoundTrips::of(&[]), None);
        let one = RoundTrips::of(&[u32::MAX]).unwrap();
        assert_eq!((one.avg_us, one.stddev_us, one.p50_us, one.p99_us), (u32::MAX, 0, u32::MAX, u32::MAX));
        assert_eq!(RoundTrips::of(&[0, u32::MAX]).unwrap().avg_us, 2_147_483_648);
    }

    #[test]
    fn loss_is_told_in_per_cent() {
        assert_eq!(
            [(4, 3), (3, 0), (3, 3), (0, 0)].map(|(sent, back)| loss_percent(sent, back)),
            [25.0, 100.0, 0.0, 0.0]
        );
        assert_eq!(loss_percent(3, 5), 0.0, "more replies than pings are no gain");
    }
}
