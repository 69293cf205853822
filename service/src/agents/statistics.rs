//! What a series of round trips comes to.

/// Over the replies that came. All in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Statistics {
    pub(crate) min_us: u32,
    pub(crate) avg_us: u32,
    pub(crate) max_us: u32,
    /// Of the population: these replies are all there are.
    pub(crate) stddev_us: u32,
    pub(crate) p50_us: u32,
    pub(crate) p90_us: u32,
    pub(crate) p99_us: u32,
}

impl Statistics {
    /// None if nothing came back.
    pub(crate) fn over(rtts_us: &[u32]) -> Option<Self> {
        let mut sorted = rtts_us.to_vec();
        sorted.sort_unstable();
        let (&min_us, &max_us) = (sorted.first()?, sorted.last()?);
        let count = sorted.len() as f64;
        let mean = sorted.iter().map(|rtt| f64::from(*rtt)).sum::<f64>() / count;
        let variance = sorted.iter().map(|rtt| (f64::from(*rtt) - mean).powi(2)).sum::<f64>() / count;
        Some(Self {
            min_us,
            avg_us: mean.round() as u32,
            max_us,
            stddev_us: variance.sqrt().round() as u32,
            p50_us: percentile(&sorted, 50),
            p90_us: percentile(&sorted, 90),
            p99_us: percentile(&sorted, 99),
        })
    }
}

/// By nearest rank: the smallest value that at least `percent` of all values do not exceed. `sorted` is not empty.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (percent * sorted.len()).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// Replies that did not come, in per cent of the sent; 0 if nothing was sent.
pub(crate) fn loss_percent(sent: u32, received: u32) -> f64 {
    if sent == 0 {
        return 0.0;
    }
    100.0 * f64::from(sent.saturating_sub(received)) / f64::from(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!([50, 90, 99, 100].map(|percent| percentile(&sorted, percent)), [50, 90, 99, 100]);
        assert_eq!([1, 50, 99].map(|percent| percentile(&[7], percent)), [7, 7, 7]);
        assert_eq!(percentile(&[15, 20, 35, 40, 50], 30), 20, "the textbook's example");
        assert_eq!(percentile(&[15, 20, 35, 40, 50], 40), 20);
    }

    #[test]
    fn a_series_comes_to_what_a_pocket_calculator_says() {
        let expected = Statistics { min_us: 2, avg_us: 5, max_us: 9, stddev_us: 2, p50_us: 4, p90_us: 9, p99_us: 9 };
        assert_eq!(Statistics::over(&[9, 2, 4, 4, 4, 5, 5, 7]), Some(expected));
        assert_eq!(Statistics::over(&[]), None);
        assert_eq!(Statistics::over(&[u32::MAX; 3]).map(|s| (s.avg_us, s.stddev_us)), Some((u32::MAX, 0)));
    }

    #[test]
    fn loss_is_told_in_per_cent() {
        assert_eq!(
            [loss_percent(4, 3), loss_percent(3, 0), loss_percent(3, 3), loss_percent(0, 0)],
            [25.0, 100.0, 0.0, 0.0]
        );
        assert_eq!(loss_percent(3, 5), 0.0, "more replies than pings are no gain");
    }
}
