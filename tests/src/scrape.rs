//! What a daemon's metrics listener serves, as a monitoring system reads it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::{Host, wait_for};

const DEADLINE: Duration = Duration::from_secs(30);

/// One page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its status.
    pub status: u16,
    /// Its text.
    pub text: String,
}

/// The samples of `/metrics`, by name and labels as they stand there.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// The whole text.
    pub text: String,
    samples: BTreeMap<String, f64>,
}

impl Host {
    /// Returns where the daemon says that it serves its metrics, as it said last.
    #[must_use]
    pub fn metrics_address(&mut self) -> SocketAddr {
        let process = self.process();
        wait_for("the daemon says where it serves metrics", || {
            let log = process.log();
            let said = log
                .lines()
                .rfind(|line| line.contains("metrics are served"));
            let at = said.and_then(|line| line.find("127.0.0.1:").map(|at| &line[at..]));
            let end = |at: &str| at.find(|c: char| !c.is_ascii_digit() && !".:".contains(c));
            let at = at.map(|at| &at[..end(at).unwrap_or(at.len())]);
            at.and_then(|at| at.parse().ok()).ok_or(log)
        })
    }

    /// Asks the metrics listener for a page.
    ///
    /// # Panics
    /// When it is not served.
    #[must_use]
    pub fn page(&mut self, path: &str) -> Page {
        let mut stream = TcpStream::connect(self.metrics_address()).expect("it listens");
        stream
            .set_read_timeout(Some(DEADLINE))
            .expect("it can wait");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").expect("it is asked");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("it answers");
        let (head, text) = said.split_once("\r\n\r\n").expect("a page has a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Page {
            status: status.expect("a page has a status"),
            text: text.to_owned(),
        }
    }

    /// Reads `/metrics`.
    ///
    /// # Panics
    /// When it is not served, or is not as the format says.
    #[must_use]
    pub fn scrape(&mut self) -> Scrape {
        let page = self.page("/metrics");
        assert_eq!(page.status, 200, "{}", page.text);
        let mut samples = BTreeMap::new();
        for line in page.text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            let value = value.parse().expect("a value is a number");
            let before = samples.insert(series.to_owned(), value);
            assert_eq!(before, None, "{series} comes twice");
        }
        Scrape {
            text: page.text,
            samples,
        }
    }
}

impl Scrape {
    /// Returns one sample; nothing where there is none.
    #[must_use]
    pub fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// Returns one sample.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn value(&self, series: &str) -> f64 {
        let value = self.get(series);
        value.unwrap_or_else(|| panic!("no {series} in:\n{}", self.text))
    }

    /// Returns whether there are a type, a help, and a sample of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let is_told = ["TYPE", "HELP"].iter().all(|what| {
            let line = format!("# {what} {name} ");
            self.text.lines().any(|each| each.starts_with(&line))
        });
        let is_of_it = |series: &String| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['{', '_']))
        };
        is_told && self.samples.keys().any(is_of_it)
    }
}
