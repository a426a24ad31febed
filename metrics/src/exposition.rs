//! The text that a monitoring system reads: Prometheus' own format, version 0.0.4.

use std::fmt::Write as _;

use crate::family::Family;
use crate::number::Histogram;

/// A label and its value.
pub type Label<'a> = (&'a str, &'a str);

/// The text, written family by family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'a> {
    text: &'a mut String,
    name: &'static str,
}

impl Exposition {
    /// Begins a family. Each comes once, with all its samples.
    pub fn family(&mut self, family: &Family) -> Samples<'_> {
        let Family { name, kind, help } = *family;
        let kind = kind.as_str();
        self.text
            .extend([format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")]);
        Samples {
            text: &mut self.text,
            name,
        }
    }

    /// Returns the whole text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

impl Samples<'_> {
    /// Writes a whole number.
    pub fn count(&mut self, labels: &[Label<'_>], value: u64) {
        self.line("", labels, value);
    }

    /// Writes a number.
    pub fn value(&mut self, labels: &[Label<'_>], value: f64) {
        self.line("", labels, value);
    }

    /// Writes a histogram: its buckets, its sum, its count.
    pub fn histogram(&mut self, labels: &[Label<'_>], histogram: &Histogram) {
        let held = histogram.snapshot();
        let bounds = held.below.iter();
        let bounds = bounds.map(|(bound, count)| (bound.to_string(), *count));
        for (bound, count) in bounds.chain([("+Inf".to_owned(), held.count)]) {
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.line("_bucket", &labels, count);
        }
        self.line("_sum", labels, held.sum);
        self.line("_count", labels, held.count);
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], value: impl std::fmt::Display) {
        self.text.extend([self.name, suffix]);
        let mut mark = '{';
        for (label, value) in labels {
            self.text.push(mark);
            self.text.extend([*label, "=\"", &escaped(value), "\""]);
            mark = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        // Writing into a string does not fail.
        writeln!(self.text, " {value}").unwrap_or_default();
    }
}

fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::family::Kind;

    const fn family(name: &'static str, kind: Kind) -> Family {
        let help = "What it says.";
        Family { name, kind, help }
    }

    #[test]
    fn the_text_is_as_the_format_says() {
        let mut text = Exposition::default();
        let mut nodes = text.family(&family("nodes", Kind::Gauge));
        nodes.count(&[("volume", "pipes"), ("state", "live")], 3);
        nodes.count(&[("volume", "a\\b\"c\nd"), ("state", "live")], 0);
        text.family(&family("cpu_seconds_total", Kind::Counter))
            .value(&[], 0.25);
        let histogram = Histogram::new(&[0.05, 1.0]);
        histogram.observe(Duration::from_millis(50));
        histogram.observe(Duration::from_millis(2_500));
        text.family(&family("took_seconds", Kind::Histogram))
            .histogram(&[("phase", "scan")], &histogram);
        let expected = r#"# HELP nodes What it says.
# TYPE nodes gauge
nodes{volume="pipes",state="live"} 3
nodes{volume="a\\b\"c\nd",state="live"} 0
# HELP cpu_seconds_total What it says.
# TYPE cpu_seconds_total counter
cpu_seconds_total 0.25
# HELP took_seconds What it says.
# TYPE took_seconds histogram
took_seconds_bucket{phase="scan",le="0.05"} 1
took_seconds_bucket{phase="scan",le="1"} 1
took_seconds_bucket{phase="scan",le="+Inf"} 2
took_seconds_sum{phase="scan"} 2.55
took_seconds_count{phase="scan"} 2
"#;
        assert_eq!(text.finish(), expected);
    }
}
