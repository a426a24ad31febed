//! Small documents that must outlive the process: read once at the start, held in memory, replaced
//! whole. Whoever owns one is the only writer. What changes with every release is a register instead.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dir::{Dir, DirError};
use crate::persist::{self, Created};

/// Largest document: the membership of a full fleet fits well.
const BYTES_MAX: u64 = 64 << 20;
const MODE: u32 = 0o600;

/// A durable value and where it is kept.
#[derive(Debug)]
pub struct Document<T> {
    dir: Dir,
    name: &'static str,
    schema: &'static str,
    value: T,
}

/// A document cannot be read or replaced.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// None of a register's two values is whole.
    #[error("state file `{name}` is damaged: neither of its two values is whole")]
    Torn {
        /// The file.
        name: String,
    },
    /// The file is there, and is no such document: it was damaged or edited.
    #[error("state file `{name}` is damaged")]
    Corrupt {
        /// The file.
        name: String,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// The file is a document of another kind or version.
    #[error("state file `{name}` has the schema `{}`, not `{expected}`", .found.escape_debug())]
    Schema {
        /// The file.
        name: String,
        /// What the file says.
        found: String,
        /// What this build knows.
        expected: &'static str,
    },
    /// The value has no JSON form.
    #[error("cannot write state file `{name}` as JSON")]
    Encode {
        /// The file.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl StateError {
    /// Whether the same may succeed once its cause is gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Dir(error) => error.is_retryable(),
            Self::Torn { .. }
            | Self::Corrupt { .. }
            | Self::Schema { .. }
            | Self::Encode { .. } => false,
        }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self, Self::Dir(error) if error.is_no_space())
    }
}

#[derive(Deserialize)]
struct Head {
    schema: String,
}

#[derive(Serialize, Deserialize)]
struct Body<T> {
    schema: String,
    value: T,
}

impl<T: Serialize + DeserializeOwned> Document<T> {
    /// Reads a document; nothing where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is of another schema.
    pub fn open(
        dir: &Dir,
        name: &'static str,
        schema: &'static str,
    ) -> Result<Option<Self>, StateError> {
        let bytes = match dir.read(name, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let value = decode(name, schema, &bytes)?;
        Ok(Some(Self {
            dir: dir.try_clone()?,
            name,
            schema,
            value,
        }))
    }

    /// Makes a document where there is no file yet, durably.
    ///
    /// # Errors
    /// When a file is there already, or it cannot be written.
    pub fn create(
        dir: &Dir,
        name: &'static str,
        schema: &'static str,
        value: T,
    ) -> Result<Self, StateError> {
        let bytes = encode(name, schema, &value)?;
        if persist::create(dir, name, MODE, &bytes)? == Created::Exists {
            return Err(DirError::io("create", name, rustix::io::Errno::EXIST).into());
        }
        Ok(Self {
            dir: dir.try_clone()?,
            name,
            schema,
            value,
        })
    }

    /// Returns the value, as it is on disk.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// Replaces the value: durable first, in memory then.
    ///
    /// # Errors
    /// When it cannot be written; the old value stays, except after [`DirError::Sync`], when either
    /// may be on disk.
    pub fn replace(&mut self, value: T) -> Result<(), StateError> {
        let bytes = encode(self.name, self.schema, &value)?;
        persist::write(&self.dir, self.name, MODE, &bytes)?;
        self.value = value;
        Ok(())
    }

    /// Changes a copy of the value and replaces it by that.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub fn update(&mut self, change: impl FnOnce(&mut T)) -> Result<(), StateError>
    where
        T: Clone,
    {
        let mut value = self.value.clone();
        change(&mut value);
        self.replace(value)
    }
}

/// Reads a value out of the text that [`encode`] made of it.
pub(crate) fn decode<T: DeserializeOwned>(
    name: &str,
    schema: &'static str,
    bytes: &[u8],
) -> Result<T, StateError> {
    let corrupt = |source| StateError::Corrupt {
        name: name.to_owned(),
        source,
    };
    // The schema first: a document of another version need not parse as this one.
    let head: Head = serde_json::from_slice(bytes).map_err(corrupt)?;
    if head.schema != schema {
        return Err(StateError::Schema {
            name: name.to_owned(),
            found: head.schema,
            expected: schema,
        });
    }
    let body: Body<T> = serde_json::from_slice(bytes).map_err(corrupt)?;
    Ok(body.value)
}

pub(crate) fn encode<T: Serialize>(
    name: &str,
    schema: &'static str,
    value: &T,
) -> Result<Vec<u8>, StateError> {
    let body = Body {
        schema: schema.to_owned(),
        value,
    };
    let mut bytes = serde_json::to_vec_pretty(&body).map_err(|source| StateError::Encode {
        name: name.to_owned(),
        source,
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write as _;

    use super::*;

    type Table = BTreeMap<String, u64>;
    const SCHEMA: &str = "codevol.test/1";

    fn state() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    #[test]
    fn a_document_reads_back_as_it_was_replaced() {
        let (_temp, dir) = state();
        assert!(
            Document::<Table>::open(&dir, "table.json", SCHEMA)
                .unwrap()
                .is_none()
        );
        let mut document = Document::create(&dir, "table.json", SCHEMA, Table::new()).unwrap();
        document
            .update(|table| table.extend([("a".to_owned(), 1)]))
            .unwrap();
        let again = Document::<Table>::open(&dir, "table.json", SCHEMA)
            .unwrap()
            .unwrap();
        assert_eq!(again.get(), document.get());
        assert_eq!(again.get().len(), 1);
        Document::create(&dir, "table.json", SCHEMA, Table::new()).unwrap_err();
    }

    #[test]
    fn damaged_state_names_its_file() {
        let (_temp, dir) = state();
        let cases = [
            ("", "state file `table.json` is damaged"),
            (
                "{\"schema\":\"codevol.test/1\",\"val",
                "state file `table.json` is damaged",
            ),
            (
                "{\"schema\":\"codevol.test/1\",\"value\":3}",
                "state file `table.json` is damaged",
            ),
            (
                "{\"schema\":\"other/2\",\"value\":3}",
                "state file `table.json` has the schema `other/2`, not `codevol.test/1`",
            ),
        ];
        for (text, message) in cases {
            dir.remove_file("table.json").unwrap();
            let mut file = dir.create_file("table.json", MODE).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let error = Document::<Table>::open(&dir, "table.json", SCHEMA).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_value_that_was_not_written_is_not_held() {
        let (_temp, dir) = state();
        let home = dir.ensure_dir("home", 0o700).unwrap();
        let mut document = Document::create(&home, "table.json", SCHEMA, Table::new()).unwrap();
        // A directory that is gone refuses every new file, to root as well.
        dir.remove_tree("home").unwrap();
        document
            .update(|table| table.extend([("a".to_owned(), 1)]))
            .unwrap_err();
        assert!(document.get().is_empty());
    }
}
