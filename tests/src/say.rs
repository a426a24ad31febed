//! What a person is to read even where the test passes, whose output is then kept back.

use std::io::{self, Write as _};
use std::thread;

/// Says something, with the test's name before it.
///
/// # Panics
/// When nobody can be told.
pub fn say(what: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by `eprintln!`, which the test runner keeps back.
    let said = format!("\n{test}: {what}\n");
    io::stderr().write_all(said.as_bytes()).expect("it is said");
}
