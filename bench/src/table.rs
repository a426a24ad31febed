//! The one table that the run ends with.

use std::fmt::{self, Display, Formatter};

use crate::sample::Sample;

/// What the numbers of a row count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Millis,
    /// Bytes.
    Bytes,
}

/// One thing measured on one program.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured: rows that say the same are compared.
    pub(crate) what: String,
    /// The program, and how it was set.
    pub(crate) who: String,
    /// The figures.
    pub(crate) sample: Sample,
    /// What they count.
    pub(crate) unit: Unit,
    /// What they should stay under.
    pub(crate) goal: Option<f64>,
}

impl Row {
    /// Returns a row of durations.
    pub(crate) fn millis(what: &str, who: &str, sample: Sample) -> Self {
        Self {
            what: what.to_owned(),
            who: who.to_owned(),
            sample,
            unit: Unit::Millis,
            goal: None,
        }
    }

    /// Returns a row of sizes.
    pub(crate) fn bytes(what: &str, who: &str, sample: Sample) -> Self {
        Self {
            unit: Unit::Bytes,
            ..Self::millis(what, who, sample)
        }
    }

    /// Says what the median should stay under.
    pub(crate) fn goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }
}

/// All rows, and what durations are compared with.
#[derive(Debug)]
pub(crate) struct Table {
    /// The rows.
    pub(crate) rows: Vec<Row>,
    /// The machine's floor, in milliseconds.
    pub(crate) floor_ms: f64,
}

impl Table {
    /// Returns the median of the first row about the same thing: codevol's.
    fn first_of(&self, what: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.what == what)
    }

    fn ratio(&self, row: &Row) -> Option<f64> {
        let first = self.first_of(&row.what)?;
        if std::ptr::eq(first, row) {
            return None;
        }
        Some(row.sample.p50()? / first.sample.p50()?)
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| what | by | n | p50 | p99 | to the floor | to codevol | goal for p50 |\n\
             |---|---|---:|---:|---:|---:|---:|---|"
        )?;
        for row in &self.rows {
            let unit = row.unit;
            let figure = |value: Option<f64>| value.map_or_else(dash, |value| shown(value, unit));
            let times = |value: Option<f64>| value.map_or_else(dash, |value| format!("{value:.1}"));
            let p50 = row.sample.p50();
            let floor = p50.filter(|_| unit == Unit::Millis);
            let goal = row.goal.zip(p50).map_or_else(String::new, |(goal, p50)| {
                let word = if p50 < goal { "met" } else { "missed" };
                format!("< {}: {word}", shown(goal, unit))
            });
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {goal} |",
                row.what,
                row.who,
                row.sample.count(),
                figure(p50),
                figure(row.sample.p99()),
                times(floor.map(|p50| p50 / self.floor_ms)),
                times(self.ratio(row)),
            )?;
        }
        Ok(())
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Millis if value >= 1_000.0 => format!("{:.2} s", value / 1_000.0),
        Unit::Millis if value >= 10.0 => format!("{value:.1} ms"),
        Unit::Millis => format!("{value:.3} ms"),
    }
}
