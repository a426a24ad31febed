//! A screen on a terminal that is drawn anew, in place, each time that it has changed.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anstream::ColorChoice;
use anstream::adapter::strip_str;
use rustix::termios::tcgetwinsize;

use crate::error::CommandError;

const CLEAR: &str = "\x1b[2J";
const HOME: &str = "\x1b[H";
const CLEAR_TO_LINE_END: &str = "\x1b[K";
const CLEAR_TO_SCREEN_END: &str = "\x1b[J";

/// A screen that is drawn anew.
#[derive(Debug, Default)]
pub struct Live {
    drawn: Option<(String, Size)>,
}

/// How many characters and lines a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    columns: usize,
    rows: usize,
}

impl Live {
    /// Draws the screen, unless it is as it was drawn last.
    ///
    /// # Errors
    /// The terminal cannot be written.
    pub fn draw(&mut self, text: &str) -> Result<(), CommandError> {
        let size = size();
        let next = (text.to_owned(), size);
        if self.drawn.as_ref() == Some(&next) {
            return Ok(());
        }
        let cleared = self
            .drawn
            .as_ref()
            .is_some_and(|(_, before)| *before == size);
        let mut stdout = io::stdout().lock();
        let plain = anstream::AutoStream::choice(&stdout) == ColorChoice::Never;
        let picture = picture(text, size, plain);
        let clear = if cleared { "" } else { CLEAR };
        let written = write!(stdout, "{clear}{HOME}{picture}{CLEAR_TO_SCREEN_END}");
        let written = written.and_then(|()| stdout.flush());
        self.drawn = Some(next);
        written
            .map_err(|error| CommandError::failed("cannot write to the terminal").because(&error))
    }
}

/// A terminal that does not say how large it is shows all of it, as well as it can.
fn size() -> Size {
    let told = tcgetwinsize(io::stdout()).ok();
    let of = |told: Option<u16>| {
        told.filter(|cells| *cells > 0)
            .map_or(usize::MAX, usize::from)
    };
    Size {
        columns: of(told.map(|size| size.ws_col)),
        rows: of(told.map(|size| size.ws_row)),
    }
}

/// Returns what is written for a screen: no more lines than there is room for, one kept free for the
/// cursor, so that nothing scrolls away.
fn picture(text: &str, size: Size, plain: bool) -> String {
    let rows_of = |line: &str| {
        let cells = strip_str(line).to_string().chars().count();
        cells.div_ceil(size.columns).max(1)
    };
    let rows_max = size.rows.saturating_sub(1);
    let (mut rows, mut picture) = (0, String::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_last = lines.peek().is_none();
        rows += rows_of(line);
        if rows > rows_max || (rows == rows_max && !is_last) {
            let more = lines.count() + 1;
            writeln!(picture, "... {more} more lines{CLEAR_TO_LINE_END}").unwrap_or_default();
            break;
        }
        if plain {
            write!(picture, "{}", strip_str(line)).unwrap_or_default();
        } else {
            picture.push_str(line);
        }
        picture.push_str(CLEAR_TO_LINE_END);
        picture.push('\n');
    }
    picture
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, columns: usize, rows: usize) -> String {
        let picture = picture(text, Size { columns, rows }, true);
        picture.replace(CLEAR_TO_LINE_END, "|")
    }

    #[test]
    fn what_fits_is_drawn_whole_and_each_line_clears_what_stood_there() {
        assert_eq!(shown("a\nbc", 80, 3), "a|\nbc|\n");
        assert_eq!(shown("a\n\nb", usize::MAX, usize::MAX), "a|\n|\nb|\n");
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        assert_eq!(shown("a\nb\nc\nd", 80, 4), "a|\nb|\n... 2 more lines|\n");
        assert_eq!(shown("a\nb\nc\nd", 80, 5), "a|\nb|\nc|\nd|\n");
    }

    #[test]
    fn a_long_line_takes_the_rows_that_it_wraps_into() {
        assert_eq!(shown("aaaa\nb\nc", 2, 4), "aaaa|\n... 2 more lines|\n");
    }

    #[test]
    fn styles_take_no_room_and_go_where_no_colour_is_wanted() {
        let styled = "\x1b[31mab\x1b[0m";
        let size = Size {
            columns: 2,
            rows: 2,
        };
        assert_eq!(
            picture(styled, size, true),
            format!("ab{CLEAR_TO_LINE_END}\n")
        );
        assert!(picture(styled, size, false).contains("\x1b[31m"));
    }
}
