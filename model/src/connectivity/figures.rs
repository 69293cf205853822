//! What one host measured, packed: a run over hundreds of hosts has many pairs.

use serde::{Deserialize, Serialize};

use super::MissingHost;
use crate::{HostId, RoundTrips};

/// Most bytes of the pairs of one host's record; with what stands around them the record stays below 64 KiB.
pub const RESULT_BYTES: usize = 60 * 1024;

/// Characters that are kept of an agent's words.
const TEXT_CHARACTERS: usize = 200;

/// What one host measured, and what stopped it if something did. Writer: the replica that carries the run out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectivityResult {
    /// By destination.
    pub pairs: Vec<PairFigures>,
    /// Pairs that are not kept; the sums below count them.
    pub left_out: usize,
    pub sent: u64,
    pub received: u64,
    /// It did not answer, or not to the end.
    #[serde(default)]
    pub failure: Option<MissingHost>,
}

/// What one host measured to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub struct PairFigures {
    pub destination: HostId,
    pub sent: u32,
    pub round_trips: RoundTrips,
    /// Why nothing was measured.
    pub error: String,
}

/// Destination, sent, received, [minimum, average, maximum, deviation, p50, p90, p99], error.
type Packed = (HostId, u32, u32, [u32; 7], String);

impl ConnectivityResult {
    /// All that a host measured.
    pub fn new(mut pairs: Vec<PairFigures>, failure: Option<MissingHost>) -> Self {
        pairs.iter_mut().for_each(|pair| pair.error = plain(&pair.error));
        pairs.sort_by(|one, other| one.destination.cmp(&other.destination));
        let failure = failure.map(|failure| MissingHost { detail: plain(&failure.detail), ..failure });
        Self {
            sent: pairs.iter().map(|pair| u64::from(pair.sent)).sum(),
            received: pairs.iter().map(|pair| u64::from(pair.received())).sum(),
            left_out: 0,
            pairs,
            failure,
        }
    }

    /// As much of it as a record takes. Those pairs are left out that have least to tell: without loss, the quickest first.
    #[must_use]
    pub fn fitted(&self) -> Self {
        let mut pairs = self.pairs.clone();
        pairs.sort_by_key(|pair| (pair.lost() == 0, std::cmp::Reverse(pair.round_trips.p50_us)));
        let mut bytes = 0;
        let fitting = pairs.iter().take_while(|pair| {
            bytes += pair.bytes();
            bytes <= RESULT_BYTES
        });
        pairs.truncate(fitting.count());
        pairs.sort_by(|one, other| one.destination.cmp(&other.destination));
        Self { left_out: self.left_out + self.pairs.len() - pairs.len(), pairs, ..self.clone() }
    }
}

impl PairFigures {
    /// Replies.
    pub fn received(&self) -> u32 {
        u32::try_from(self.round_trips.count).unwrap_or(u32::MAX)
    }

    fn lost(&self) -> u32 {
        // Where nothing was sent, nothing is well.
        self.sent.max(1).saturating_sub(self.received())
    }

    fn figures(&self) -> [u32; 7] {
        let over = self.round_trips;
        [over.min_us, over.avg_us, over.max_us, over.stddev_us, over.p50_us, over.p90_us, over.p99_us]
    }

    /// What it takes in a record, at most.
    fn bytes(&self) -> usize {
        const MARKS: usize = 20; // brackets, quotes and commas
        let digits = |number: u32| number.checked_ilog10().map_or(1, |log| log as usize + 1);
        let numbers: usize = self.figures().into_iter().chain([self.sent, self.received()]).map(digits).sum();
        // Each character of the error may need an escape, and none more than one byte: `plain` saw to that.
        MARKS + numbers + self.destination.as_str().len() + 2 * self.error.len()
    }
}

impl From<PairFigures> for Packed {
    fn from(pair: PairFigures) -> Self {
        let (received, figures) = (pair.received(), pair.figures());
        (pair.destination, pair.sent, received, figures, pair.error)
    }
}

impl From<Packed> for PairFigures {
    fn from((destination, sent, received, figures, error): Packed) -> Self {
        let [min_us, avg_us, max_us, stddev_us, p50_us, p90_us, p99_us] = figures;
        let count = usize::try_from(received).unwrap_or(usize::MAX);
        let round_trips = RoundTrips { count, min_us, avg_us, max_us, stddev_us, p50_us, p90_us, p99_us };
        Self { destination, sent, round_trips, error }
    }
}

/// An agent's words in one line, and not too many.
fn plain(text: &str) -> String {
    text.chars().take(TEXT_CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: usize, sent: u32, rtts_us: &[u32]) -> PairFigures {
        let round_trips = RoundTrips::of(rtts_us).unwrap_or_default();
        let destination = HostId::generate((number as u128).to_be_bytes()[6..].try_into().unwrap());
        PairFigures { destination, sent, round_trips, error: String::new() }
    }

    fn encoded(result: &ConnectivityResult) -> String {
        serde_json::to_string(result).unwrap()
    }

    #[test]
    fn a_pair_is_packed_and_comes_back() {
        let text = encoded(&ConnectivityResult::new(vec![pair(0, 3, &[100, 300])], None));
        assert!(text.contains(r#"["host-aaaaaaaaaaaaaaaa",3,2,[100,200,300,100,100,300,300],""]"#), "{text}");
        assert_eq!(encoded(&serde_json::from_str(&text).unwrap()), text);
    }

    #[test]
    fn hundreds_of_pairs_fit_whole() {
        let pairs = (0..600).map(|number| pair(number, 100, &[12_345, 23_456, 34_567])).collect();
        let result = ConnectivityResult::new(pairs, None);
        assert_eq!(result.fitted(), result);
    }

    #[test]
    fn a_record_stays_below_its_limit_and_keeps_what_is_wrong() {
        let mut pairs: Vec<_> = (0..5_000).map(|number| pair(number, 2, &[number as u32 + 1; 2])).collect();
        pairs[7] = pair(7, 2, &[1]);
        pairs[9] = PairFigures { error: "\"\\\n\u{1}".repeat(1_000), ..pair(9, 0, &[]) };
        let detail = "\u{1}".repeat(100_000);
        let failure = MissingHost { host: pairs[0].destination.clone(), outcome: "failed".into(), detail };
        let all = ConnectivityResult::new(pairs, Some(failure));
        let kept = all.fitted();
        assert!(encoded(&kept).len() < 64 * 1024, "{}", encoded(&kept).len());
        assert!(kept.pairs.len() > 500 && kept.left_out == 5_000 - kept.pairs.len());
        assert_eq!((kept.sent, kept.received), (all.sent, all.received));
        let is_kept = |number| kept.pairs.iter().any(|kept| kept.destination == pair(number, 0, &[]).destination);
        assert!(is_kept(7) && is_kept(9) && is_kept(4_999) && !is_kept(0) && !is_kept(100));
        assert!(kept.pairs.is_sorted_by_key(|pair| &pair.destination));
    }

    #[test]
    fn the_room_that_is_counted_is_never_less_than_what_is_taken() {
        let mut worst = pair(0, u32::MAX, &[u32::MAX]);
        worst.error = plain("\"\\ü\u{7f}");
        for pair in [worst, pair(1, 0, &[]), pair(2, 3, &[9, 10, 99])] {
            let taken = serde_json::to_string(&pair).unwrap().len() + 1;
            assert!(pair.bytes() >= taken, "{} for {taken}", pair.bytes());
        }
    }
}
