//! An error with all that caused it, on one line: for logs.

use std::error::Error;
use std::fmt;

use crate::name::Printable;

/// Shows an error, then each cause behind `: `; control characters are neutralised.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Printable(&self.0.to_string()))?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {}", Printable(&cause.to_string()))?;
            next = cause.source();
        }
        Ok(())
    }
}
