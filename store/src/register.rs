//! A small value that is replaced with every release: two slots in one file, written in turn, in
//! place. That costs one `fdatasync` of bytes that are allocated already, and no change of any
//! directory; a new file and its name would cost two commits of the file system's journal.
//!
//! ```text
//!   | checksum generation length | value, padded |  checksum generation length | value, padded |
//!   '-------------- slot of an even generation --'--------------- slot of an odd generation ---'
//! ```
//! The newest slot that is whole counts. A write that is cut short spoils the slot of the value
//! before the present one, so the present one stays. Whoever owns a register is the only writer.

use std::os::unix::fs::FileExt as _;

use rustix::fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dir::{Dir, DirError};
use crate::persist;
use crate::state::{self, StateError};

const MODE: u32 = 0o600;
/// A slot is so many bytes or a multiple: no two share a block of the disk.
const BLOCK_BYTES: usize = 4096;
/// Largest file that is read.
const BYTES_MAX: u64 = 64 << 20;

/// A durable value that is replaced often.
#[derive(Debug)]
pub struct Register<T> {
    dir: Dir,
    name: String,
    schema: &'static str,
    slot_bytes: usize,
    generation: u64,
    value: T,
}

impl<T: Serialize + DeserializeOwned> Register<T> {
    /// Reads a register; nothing where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, none of its slots is whole, or it is of another schema.
    pub fn open(dir: &Dir, name: &str, schema: &'static str) -> Result<Option<Self>, StateError> {
        let bytes = match dir.read(name, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let slot_bytes = bytes.len() / 2;
        let slots = bytes.chunks_exact(slot_bytes.max(1)).map(read_slot);
        let Some((generation, text)) = slots.flatten().max_by_key(|(generation, _)| *generation)
        else {
            let name = name.to_owned();
            return Err(StateError::Torn { name });
        };
        Ok(Some(Self {
            value: state::decode(name, schema, text)?,
            dir: dir.try_clone()?,
            name: name.to_owned(),
            schema,
            slot_bytes,
            generation,
        }))
    }

    /// Reads a register; where there is no file, makes one of the default value, durably.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::create`].
    pub fn open_or_create(dir: &Dir, name: &str, schema: &'static str) -> Result<Self, StateError>
    where
        T: Default,
    {
        match Self::open(dir, name, schema)? {
            Some(register) => Ok(register),
            None => Self::create(dir, name, schema, T::default()),
        }
    }

    /// Makes a register, durably; whatever has its name is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(
        dir: &Dir,
        name: &str,
        schema: &'static str,
        value: T,
    ) -> Result<Self, StateError> {
        let text = state::encode(name, schema, &value)?;
        let slot_bytes = write_file(dir, name, 0, &text)?;
        Ok(Self {
            dir: dir.try_clone()?,
            name: name.to_owned(),
            schema,
            slot_bytes,
            generation: 0,
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
        let text = state::encode(&self.name, self.schema, &value)?;
        let generation = self.generation + 1;
        match slot(generation, &text, self.slot_bytes) {
            Some(slot) => self.overwrite(generation, &slot)?,
            None => self.slot_bytes = write_file(&self.dir, &self.name, generation, &text)?,
        }
        self.generation = generation;
        self.value = value;
        Ok(())
    }

    fn overwrite(&self, generation: u64, slot: &[u8]) -> Result<(), DirError> {
        let offset = place(generation, self.slot_bytes) as u64;
        let file = self.dir.open_writable(&self.name)?;
        file.write_all_at(slot, offset)
            .map_err(|error| DirError::io("write", &self.name, error))?;
        fs::fdatasync(&file).map_err(|errno| DirError::sync(&self.name, errno))
    }
}

/// Writes a file whose slots have room for twice the text, with the text in one of them.
fn write_file(dir: &Dir, name: &str, generation: u64, text: &[u8]) -> Result<usize, DirError> {
    let slot_bytes = (text.len() * 2).next_multiple_of(BLOCK_BYTES);
    // Not sparse: a later write in place must find its blocks allocated.
    let mut bytes = vec![b'\n'; slot_bytes * 2];
    let at = place(generation, slot_bytes);
    if let Some(slot) = slot(generation, text, slot_bytes) {
        bytes.splice(at..at + slot_bytes, slot);
    }
    persist::write(dir, name, MODE, &bytes)?;
    Ok(slot_bytes)
}

const fn place(generation: u64, slot_bytes: usize) -> usize {
    if generation.is_multiple_of(2) {
        0
    } else {
        slot_bytes
    }
}

/// Returns a whole slot; nothing where the text does not fit.
fn slot(generation: u64, text: &[u8], slot_bytes: usize) -> Option<Vec<u8>> {
    let length = text.len();
    let checksum = checksum(generation, text);
    let mut slot = format!("{checksum} {generation} {length}\n").into_bytes();
    slot.extend_from_slice(text);
    (slot.len() <= slot_bytes).then(|| {
        slot.resize(slot_bytes, b'\n');
        slot
    })
}

/// Returns what a slot holds, if it is whole.
fn read_slot(slot: &[u8]) -> Option<(u64, &[u8])> {
    let end = slot.iter().position(|byte| *byte == b'\n')?;
    let (head, rest) = slot.split_at_checked(end + 1)?;
    let mut words = std::str::from_utf8(head).ok()?.split_whitespace();
    let found = words.next()?;
    let generation = words.next()?.parse().ok()?;
    let text = rest.get(..words.next()?.parse().ok()?)?;
    (checksum(generation, text).as_str() == found).then_some((generation, text))
}

fn checksum(generation: u64, text: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&generation.to_le_bytes()).update(text);
    hasher.finalize().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "codevol.test/1";

    fn state() -> (tempfile::TempDir, Dir) {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        (temp, dir)
    }

    fn reopened(dir: &Dir) -> String {
        let register = Register::<String>::open(dir, "word", SCHEMA)
            .unwrap()
            .unwrap();
        register.get().clone()
    }

    #[test]
    fn a_register_reads_back_as_it_was_replaced_whatever_the_length() {
        let (_temp, dir) = state();
        assert!(
            Register::<String>::open(&dir, "word", SCHEMA)
                .unwrap()
                .is_none()
        );
        let mut register = Register::create(&dir, "word", SCHEMA, String::new()).unwrap();
        for length in [1, 9, 3, 5_000, 4_000, 0, 100_000, 7] {
            let word = "x".repeat(length);
            register.replace(word.clone()).unwrap();
            assert_eq!(register.get(), &word);
            assert_eq!(reopened(&dir), word, "{length}");
        }
    }

    #[test]
    fn a_register_that_is_there_is_opened_and_one_that_is_not_is_made() {
        let (_temp, dir) = state();
        let open = || Register::<String>::open_or_create(&dir, "word", SCHEMA).unwrap();
        let mut register = open();
        assert_eq!(reopened(&dir), "");
        register.replace("kept".to_owned()).unwrap();
        assert_eq!(open().get(), "kept");
    }

    #[test]
    fn a_write_cut_short_at_any_byte_leaves_the_old_value_or_the_new_one() {
        let (temp, dir) = state();
        let path = temp.path().join("word");
        let mut register = Register::create(&dir, "word", SCHEMA, "older".to_owned()).unwrap();
        register.replace("old".to_owned()).unwrap();
        let before = std::fs::read(&path).unwrap();
        register.replace("new".to_owned()).unwrap();
        let after = std::fs::read(&path).unwrap();
        let slot = after.len() / 2;
        let text = 2 + after[..slot]
            .iter()
            .rposition(|byte| *byte == b'}')
            .unwrap();
        for cut in (0..=text).chain([slot]) {
            let torn = [&after[..cut], &before[cut..]].concat();
            persist::write(&dir, "word", MODE, &torn).unwrap();
            let is_whole = torn[..text] == after[..text];
            let expected = if is_whole { "new" } else { "old" };
            assert_eq!(reopened(&dir), expected, "cut at {cut} of {text}");
        }
    }

    #[test]
    fn after_a_torn_write_the_next_one_spares_the_value_that_counts() {
        let (temp, dir) = state();
        let path = temp.path().join("word");
        let mut register = Register::create(&dir, "word", SCHEMA, "a".to_owned()).unwrap();
        register.replace("b".to_owned()).unwrap();
        register.replace("c".to_owned()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[70] ^= 1;
        persist::write(&dir, "word", MODE, &bytes).unwrap();
        let mut register = Register::<String>::open(&dir, "word", SCHEMA)
            .unwrap()
            .unwrap();
        assert_eq!(register.get(), "b");
        register.replace("d".to_owned()).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[70] ^= 1;
        persist::write(&dir, "word", MODE, &bytes).unwrap();
        assert_eq!(reopened(&dir), "b");
    }

    #[test]
    fn a_register_without_a_whole_value_names_its_file() {
        let (temp, dir) = state();
        drop(Register::create(&dir, "word", SCHEMA, "a".to_owned()).unwrap());
        let whole = std::fs::read(temp.path().join("word")).unwrap();
        for bytes in [vec![], b"\n".to_vec(), vec![0; 8192], whole[1..].to_vec()] {
            persist::write(&dir, "word", MODE, &bytes).unwrap();
            let error = Register::<String>::open(&dir, "word", SCHEMA).unwrap_err();
            assert_eq!(
                error.to_string(),
                "state file `word` is damaged: neither of its two values is whole"
            );
        }
    }

    #[test]
    fn a_value_that_was_not_written_is_not_held() {
        let (temp, dir) = state();
        let home = dir.ensure_dir("home", 0o700).unwrap();
        let mut register = Register::create(&home, "word", SCHEMA, "a".to_owned()).unwrap();
        dir.remove_tree("home").unwrap();
        // In place, and in a longer file.
        for length in [1, 9_000] {
            register.replace("b".repeat(length)).unwrap_err();
            assert_eq!(register.get(), "a");
        }
        drop(temp);
    }
}
