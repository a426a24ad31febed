//! Why a call was not carried out.

use serde::{Deserialize, Serialize};

use crate::name::Text;

/// Why a call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CallFailure {
    /// What sort of failure: it decides the exit code.
    pub sort: FailureSort,
    /// One word, for scripts: `frozen`, `blast-guard`, `not-found` ...
    pub kind: Text,
    /// What failed, in a sentence.
    pub message: Text,
    /// Why, outermost first.
    pub causes: Vec<Text>,
    /// What to do about it.
    pub hint: Option<Text>,
}

/// Sorts of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureSort {
    /// It went wrong.
    Failed,
    /// The words of the call are off.
    Usage,
    /// A rule forbids it as things stand.
    Refused,
    /// Someone needed for it does not answer.
    Unavailable,
    /// The caller may not.
    Denied,
    /// The configuration or the environment forbids it.
    Configuration,
}

impl CallFailure {
    /// Makes a failure without causes.
    #[must_use]
    pub fn new(sort: FailureSort, kind: &str, message: impl Into<String>) -> Self {
        Self {
            sort,
            kind: Text::cut(kind),
            message: Text::cut(message),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(Text::cut(hint)),
            ..self
        }
    }

    /// Adds an error and all that caused it.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self.causes.push(Text::cut(error.to_string()));
            next = error.source();
        }
        self
    }
}
