//! What samples say: the median, and how far it could be off.

use rand::RngExt;

use crate::report::percentile;

/// How often samples are drawn anew for an interval.
const RESAMPLES: usize = 2000;

pub(super) fn median(samples: &[f64]) -> f64 {
    percentile(samples, 50.0)
}

/// Where the median lies with 95 % confidence, by bootstrap (Efron, 1979).
pub(super) fn interval(samples: &[f64]) -> [f64; 2] {
    let mut rng = rand::rng();
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn: Vec<f64> = samples.iter().map(|_| samples[rng.random_range(0..samples.len())]).collect();
            median(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    [percentile(&medians, 2.5), percentile(&medians, 97.5)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_the_median_and_lies_within_the_samples() {
        let samples = [4.0, 4.2, 3.9, 4.1, 9.0];
        let [low, high] = interval(&samples);
        assert!((3.9..=4.1).contains(&low) && (4.1..=9.0).contains(&high), "{low} {high}");
    }
}
