//! Durations of the same thing, many times over, and what is said of them.

use std::time::Duration;

/// Measured values in the order of their size.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    sorted: Vec<f64>,
}

impl Sample {
    /// Takes durations, as milliseconds.
    pub(crate) fn of_durations(durations: impl IntoIterator<Item = Duration>) -> Self {
        let in_ms = |duration: Duration| duration.as_secs_f64() * 1_000.0;
        Self::of(durations.into_iter().map(in_ms))
    }

    /// Takes plain numbers.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    /// Returns how many there are.
    pub(crate) const fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Returns the median, the lower one of two.
    pub(crate) fn p50(&self) -> Option<f64> {
        self.percentile(50)
    }

    /// Returns the value that 99 of 100 do not exceed: the largest where there are fewer.
    pub(crate) fn p99(&self) -> Option<f64> {
        self.percentile(99)
    }

    /// Returns the nearest rank: the smallest value that `percent` of all do not exceed.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.count() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_has_no_median() {
        assert_eq!(Sample::default().p50(), None);
        assert_eq!(Sample::default().p99(), None);
    }

    #[test]
    fn the_order_of_measuring_does_not_matter() {
        let sample = Sample::of([3.0, 1.0, 2.0]);
        assert_eq!(sample, Sample::of([1.0, 2.0, 3.0]));
        assert_eq!(sample.p50(), Some(2.0));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred = Sample::of((1..=100).map(f64::from));
        assert_eq!(hundred.p50(), Some(50.0));
        assert_eq!(hundred.p99(), Some(99.0));
        let two = Sample::of([7.0, 9.0]);
        assert_eq!((two.p50(), two.p99()), (Some(7.0), Some(9.0)));
        let one = Sample::of([4.0]);
        assert_eq!((one.p50(), one.p99()), (Some(4.0), Some(4.0)));
    }

    #[test]
    fn durations_count_as_milliseconds() {
        let sample = Sample::of_durations([Duration::from_micros(1_500)]);
        assert_eq!(sample.p50(), Some(1.5));
    }
}
