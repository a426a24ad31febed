//! Shows that work goes on. On a terminal: one live line on standard error, and nothing at all for
//! work that ends at once. Elsewhere: one line an event.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use codevol_protocol::name::Printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that ends sooner than this shows nothing.
const QUIET: Duration = Duration::from_millis(200);
const TICK: Duration = Duration::from_millis(100);

/// Work that goes on. Dropping it clears the live line.
#[derive(Debug)]
pub struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Hidden,
    Lines,
    Live {
        bar: ProgressBar,
        /// Dropped first, which tells the waiting thread that the work has ended.
        ended: Option<mpsc::Sender<()>>,
        shower: Option<thread::JoinHandle<()>>,
    },
}

impl Progress {
    pub(super) fn new(what: String, shown: bool) -> Self {
        Self(match (shown, io::stderr().is_terminal()) {
            (false, _) => Kind::Hidden,
            (true, false) => Kind::Lines,
            (true, true) => live(what),
        })
    }

    /// Says what is being done now.
    pub fn event(&self, what: &str) {
        self.line(what);
        self.picture(|| what.to_owned());
    }

    /// Says what happened where one line an event is shown.
    pub fn line(&self, what: &str) {
        if let Kind::Lines = &self.0 {
            // Nobody can be told that standard error cannot be written.
            drop(writeln!(anstream::stderr().lock(), "{}", Printable(what)));
        }
    }

    /// Shows how everything stands, in one or more lines, where that is redrawn as it changes.
    pub fn picture(&self, lines: impl FnOnce() -> String) {
        if let Kind::Live { bar, .. } = &self.0 {
            bar.set_message(Printable(&lines()).to_string());
        }
    }
}

fn live(what: String) -> Kind {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
        .with_style(ProgressStyle::default_spinner())
        .with_message(Printable(&what).to_string());
    let (ended, wait) = mpsc::channel();
    let shown = bar.clone();
    let shower = thread::spawn(move || {
        if wait.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
            shown.set_draw_target(ProgressDrawTarget::stderr());
            shown.enable_steady_tick(TICK);
        }
    });
    Kind::Live {
        bar,
        ended: Some(ended),
        shower: Some(shower),
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Kind::Live { bar, ended, shower } = &mut self.0 {
            drop(ended.take());
            if let Some(shower) = shower.take() {
                // It only waits and draws: a panic there is not worth one here.
                drop(shower.join());
            }
            bar.finish_and_clear();
        }
    }
}
