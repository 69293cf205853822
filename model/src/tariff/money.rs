//! Money: prices per byte and amounts, as integers. A price times bytes is exact; rounding happens once, when an amount
//! is shown. Figures in documents are decimal numbers of at most nine places, so nothing is lost in reading them.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Neg, Sub, SubAssign},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::word::words;

const NANO: u64 = 1_000_000_000;
/// The largest figure of a document, in units of its currency: far above any price, and exact as a decimal number.
const MAX_FIGURE: f64 = 1e6;

/// Bytes that every quoted price is for, whatever unit its provider bills in.
pub const GB: u64 = 1_000_000_000;

/// A price in nano-USD per 10^9 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(pub u64);

impl Price {
    /// What so many bytes cost, exactly.
    pub fn times(self, bytes: u64) -> AttoUsd {
        AttoUsd(i128::from(self.0).saturating_mul(i128::from(bytes)))
    }

    /// The price as an amount: that of 10^9 bytes.
    pub fn per_gb(self) -> NanoUsd {
        NanoUsd(i64::try_from(self.0).unwrap_or(i64::MAX))
    }

    /// Both together; more than can be written stays the most that can.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl FromStr for Price {
    type Err = PriceError;

    /// Reads dollars per GB, exactly.
    fn from_str(text: &str) -> Result<Self, PriceError> {
        const DIGITS: usize = 9;
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > DIGITS {
            return Err(PriceError);
        }
        format!("{whole}{decimals:0<DIGITS$}").parse().map(Self).map_err(|_| PriceError)
    }
}

/// Why a text is no price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no amount of dollars; write 0.02, with at most nine decimals")]
pub struct PriceError;

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.per_gb().fmt(f)
    }
}

/// An amount in nano-USD; below zero where more was spent than would have been.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl fmt::Display for NanoUsd {
    /// A decimal number: with a precision rounded to so many places, otherwise as short as is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = f.precision().unwrap_or(9).min(9);
        let step = 10_u64.pow(u32::try_from(9 - places).unwrap_or(0));
        let rounded = (self.0.unsigned_abs() + step / 2) / step * step;
        let digits = format!("{:09}", rounded % NANO);
        let digits = match f.precision() {
            Some(_) => &digits[..places],
            None => digits.trim_end_matches('0'),
        };
        let point = if digits.is_empty() { "" } else { "." };
        f.pad_integral(self.0 >= 0 || rounded == 0, "", &format!("{}{point}{digits}", rounded / NANO))
    }
}

/// An exact amount in 10^-18 USD: what a [`Price`] times bytes is, and sums of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttoUsd(pub i128);

impl AttoUsd {
    /// To the nearest nano-USD; the one place where money is rounded.
    pub fn round(self) -> NanoUsd {
        let half = i128::from(NANO / 2);
        let away = if self.0 < 0 { -half } else { half };
        let nano = self.0.saturating_add(away) / i128::from(NANO);
        NanoUsd(i64::try_from(nano).unwrap_or(if nano < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl Add for AttoUsd {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for AttoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for AttoUsd {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for AttoUsd {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for AttoUsd {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for AttoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::add)
    }
}

/// What a provider counts in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// 10^9 bytes.
    #[default]
    GB,
    /// 2^30 bytes.
    GiB,
}

words!(Unit {
    GB = "GB",
    GiB = "GiB",
});

impl Unit {
    /// How many bytes it is.
    pub fn bytes(self) -> u64 {
        match self {
            Self::GB => GB,
            Self::GiB => 1 << 30,
        }
    }
}

/// A figure of a document, in nano-units of whatever it counts: a price per unit in the currency of its provider, or the
/// dollars that a unit of a currency is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Figure(pub u64);

impl Figure {
    /// One.
    pub const ONE: Self = Self(NANO);

    /// A decimal number of a document.
    pub fn from_decimal(number: f64) -> Result<Self, FigureError> {
        // Written so that not-a-number is refused too.
        if !(0.0..=MAX_FIGURE).contains(&number) {
            return Err(if number < 0.0 { FigureError::Negative(number) } else { FigureError::TooLarge(number) });
        }
        let scaled = number * NANO as f64;
        // As much as binary fractions stray from decimal ones.
        let stray = 1e-4 + scaled * 4.0 * f64::EPSILON;
        if (scaled - scaled.round()).abs() > stray {
            return Err(FigureError::TooFine(number));
        }
        Ok(Self(scaled.round() as u64))
    }

    fn decimal(self) -> f64 {
        self.0 as f64 / NANO as f64
    }

    /// A price per `unit` in a currency of which one is worth `rate` dollars. Rounded to the nearest nano-USD.
    pub fn in_usd(self, rate: Self, unit: Unit) -> Price {
        let divisor = u128::from(NANO) * u128::from(unit.bytes());
        let product = u128::from(self.0).saturating_mul(u128::from(rate.0)).saturating_mul(u128::from(GB));
        Price(u64::try_from(product.saturating_add(divisor / 2) / divisor).unwrap_or(u64::MAX))
    }
}

impl Figure {
    /// What so many bytes cost at a price per `unit` in a currency of which one is worth `rate` dollars.
    pub fn amount(self, rate: Self, unit: Unit, bytes: u64) -> AttoUsd {
        let unit = u128::from(unit.bytes());
        let product = u128::from(self.0).saturating_mul(u128::from(rate.0)).saturating_mul(u128::from(bytes));
        AttoUsd(i128::try_from(product.saturating_add(unit / 2) / unit).unwrap_or(i128::MAX))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NanoUsd(i64::try_from(self.0).unwrap_or(i64::MAX)).fmt(f)
    }
}

/// Why a number is no figure.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum FigureError {
    #[error("is {0}; use 0 or more")]
    Negative(f64),
    #[error("is {0}; use at most {MAX_FIGURE}")]
    TooLarge(f64),
    #[error("is {0}; use at most nine decimal places")]
    TooFine(f64),
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.decimal())
    }
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_decimal(f64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_as_it_is_shown() {
        for (text, nano) in [("0", 0), ("0.02", 20_000_000), ("12.000000001", 12_000_000_001)] {
            assert_eq!(text.parse(), Ok(Price(nano)));
            assert_eq!(Price(nano).to_string(), text);
        }
        for text in ["", "-1", "0.0000000001", "1e3", "0,02", ".5", "5.", "99999999999999999999", "2 cents"] {
            assert_eq!(text.parse::<Price>(), Err(PriceError), "{text}");
        }
    }

    #[test]
    fn a_price_times_bytes_is_exact_and_rounded_once() {
        let price = Price(18_626_451);
        assert_eq!(price.times(1).0, 18_626_451);
        assert_eq!(price.times(GB).round(), NanoUsd(18_626_451));
        let thirds: AttoUsd = (0..3).map(|_| AttoUsd(400_000_000)).sum();
        assert_eq!(thirds.round(), NanoUsd(1), "three times 0.4 is 1.2, not three times nothing");
        assert_eq!((-thirds).round(), NanoUsd(-1));
        assert_eq!(Price(u64::MAX).times(u64::MAX).round(), NanoUsd(i64::MAX));
    }

    #[test]
    fn a_provider_that_counts_gib_is_cheaper_per_gb_than_it_says() {
        let figure = Figure::from_decimal(0.02).unwrap();
        assert_eq!(figure.in_usd(Figure::ONE, Unit::GB), Price(20_000_000));
        assert_eq!(figure.in_usd(Figure::ONE, Unit::GiB), Price(18_626_451));
        assert_eq!(figure.amount(Figure::ONE, Unit::GiB, 1 << 30).round(), NanoUsd(20_000_000));
    }

    #[test]
    fn another_currency_is_changed_at_its_rate() {
        let won = Figure::from_decimal(120.0).unwrap();
        let rate = Figure::from_decimal(0.00072).unwrap();
        assert_eq!(won.in_usd(rate, Unit::GB), Price(86_400_000));
    }

    #[test]
    fn figures_are_decimals_of_nine_places() {
        for number in [0.0, 0.01, 0.1093, 0.0085, 120.0, 0.000_000_001, 999_999.5] {
            let figure = Figure::from_decimal(number).unwrap();
            assert_eq!(figure.decimal(), number);
        }
        assert_eq!(Figure::from_decimal(-0.01), Err(FigureError::Negative(-0.01)));
        assert!(matches!(Figure::from_decimal(f64::NAN), Err(FigureError::TooLarge(_))));
        assert!(matches!(Figure::from_decimal(f64::INFINITY), Err(FigureError::TooLarge(_))));
        assert!(matches!(Figure::from_decimal(0.000_000_000_1), Err(FigureError::TooFine(_))));
    }

    #[test]
    fn amounts_are_shown_as_decimals() {
        let shown = |nano: i64| NanoUsd(nano).to_string();
        assert_eq!(
            [shown(0), shown(20_000_000), shown(-1), shown(12_000_000_000)],
            ["0", "0.02", "-0.000000001", "12"]
        );
        assert_eq!(
            format!("{:.2}|{:.2}|{:.0}", NanoUsd(1_995_000_000), NanoUsd(-4_000_000), NanoUsd(500_000_000)),
            "2.00|0.00|1"
        );
        assert_eq!(format!("{:>6.2}", NanoUsd(-1_500_000_000)), " -1.50");
    }
}
