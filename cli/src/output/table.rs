//! Columns: each as wide as its widest cell, two spaces between, nothing behind the last.

use std::fmt;

use anstyle::Style;
use codevol_protocol::name::Printable;

/// One cell: text, neutralised, and a style that repeats what the text says.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// Returns a cell with a style.
    pub fn styled(text: impl AsRef<str>, style: Style) -> Self {
        // A line end or tab in a remote string must not break the columns.
        let text = Printable(text.as_ref()).to_string();
        let text = text.replace('\n', "\\n").replace('\t', "\\t");
        Self { text, style }
    }

    fn width(&self) -> usize {
        columns(&self.text)
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// Rows of cells under a header.
#[derive(Debug, Clone)]
pub struct Table {
    indent: usize,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Returns a table with these column titles.
    #[must_use]
    pub fn new<const N: usize>(titles: [&str; N]) -> Self {
        Self {
            indent: 0,
            rows: vec![titles.into_iter().map(Cell::from).collect()],
        }
    }

    /// Sets the table in by so many spaces.
    #[must_use]
    pub const fn indented(mut self, indent: usize) -> Self {
        self.indent = indent;
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl fmt::Display for Table {
    /// Writes the lines, the last one without its line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widths: Vec<usize> = (0..count)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(Cell::width).max().unwrap_or_default()
            })
            .collect();
        for (line, row) in self.rows.iter().enumerate() {
            if line > 0 {
                writeln!(f)?;
            }
            // Spaces are owed, and paid only when something follows them.
            let mut owed = self.indent;
            for (cell, width) in row.iter().zip(&widths) {
                if !cell.text.is_empty() {
                    let style = cell.style;
                    write!(f, "{:owed$}{style}{}{style:#}", "", cell.text)?;
                    owed = 0;
                }
                owed += width + 2 - cell.width();
            }
        }
        Ok(())
    }
}

/// Returns how many columns a terminal gives a text of one line.
pub(crate) fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Returns how many columns a terminal gives a character: none to what combines with the one
/// before, two to the wide scripts and pictures.
const fn width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NODE", "RELEASE", "STATE", "SEEN"]).indented(2);
        let live = AnsiColor::Green.on_default();
        let row = |name: &str, release: &str, state: Cell, seen: &str| {
            [name.into(), release.into(), state, seen.into()]
        };
        table.row(row(
            "dag-01",
            "r42 3f9c1a7e",
            Cell::styled("live", live),
            "now",
        ));
        table.row(row("日本-02", "r41", "offline".into(), ""));
        table.row(row("e\u{301}", "", "".into(), "14m ago"));
        let shown = table.to_string();
        assert!(shown.contains("\u{1b}[32mlive\u{1b}[0m"), "{shown:?}");
        let plain = anstream::adapter::strip_str(&shown).to_string();
        assert!(
            plain.lines().all(|line| line == line.trim_end()),
            "{plain:?}"
        );
        assert!(
            plain.lines().all(|line| line.starts_with("  ")),
            "{plain:?}"
        );
        assert_snapshot!(format!("\n{plain}\n"), @"

        NODE     RELEASE       STATE    SEEN
        dag-01   r42 3f9c1a7e  live     now
        日本-02  r41           offline
        é                               14m ago
        ");
    }

    #[test]
    fn a_cell_is_one_line_whatever_it_holds() {
        let mut table = Table::new(["A", "B"]);
        table.row(["x\ny\t\u{1b}[31mz".into(), "b".into()]);
        assert_snapshot!(table.to_string(), @r"
        A                  B
        x\ny\t\u{1b}[31mz  b
        ");
    }
}
