//! Bytes as a zstd frame with the old bytes as prefix: a few hundred bytes for a one-line edit, at
//! compression speed. Measured against whole files, chunking, rsync's algorithm and bsdiff before
//! it was chosen.

use std::fmt;

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, ResetDirective, SafeResult};

use crate::limits::ZSTD_WINDOW_LOG_MAX;

/// From this size on, speed matters more than the last bytes, in bytes.
const LARGE_BYTES: usize = 8 << 20;
const LEVEL: i32 = 3;
const LEVEL_LARGE: i32 = 1;
/// How much of a prefix zstd looks into at [`LEVEL`]: the last bytes of it, and none before.
const INDEXED_BYTES: usize = 1 << 20;
/// zstd looks into eight bytes for each place of its hash table
/// (`ZSTD_loadDictionaryContent`, zstd 1.5).
const INDEXED_LOG: u32 = 3;
const WINDOW_LOG_MIN: u32 = 10;

/// Why bytes could not be compressed or restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// zstd refused the bytes.
    #[error("zstd: {0}")]
    Zstd(&'static str),
    /// The frame holds fewer bytes than were declared.
    #[error("frame holds {found} bytes, not the {declared} declared")]
    Short {
        /// How many it holds.
        found: usize,
        /// How many were declared.
        declared: usize,
    },
}

/// Compresses piece after piece. What zstd works with takes longer to make than a small file to compress: all
/// pieces without a prefix share one.
#[derive(Default)]
pub struct Compressor(Option<CCtx<'static>>);

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// Returns the plain bytes as one frame that only `prefix` can restore (empty: none needed).
    ///
    /// # Errors
    /// When zstd runs out of memory.
    pub fn compress(&mut self, plain: &[u8], prefix: &[u8]) -> Result<Vec<u8>, PatchError> {
        let create = || CCtx::try_create().ok_or(PatchError::Zstd("no memory"));
        if !prefix.is_empty() {
            return compress_with(&mut create()?, plain, prefix);
        }
        let mut context = match self.0.take() {
            Some(used) => used,
            None => create()?,
        };
        checked(context.reset(ResetDirective::SessionAndParameters))?;
        compress_with(self.0.insert(context), plain, &[])
    }
}

/// Restores frame after frame, as [`Compressor`] makes them.
#[derive(Default)]
pub struct Restorer(Option<DCtx<'static>>);

impl fmt::Debug for Restorer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restorer").finish_non_exhaustive()
    }
}

impl Restorer {
    /// Restores exactly `declared` bytes. Memory is bounded by that number, whatever the frame says.
    ///
    /// # Errors
    /// When the frame is damaged, or holds more or fewer bytes.
    pub fn restore(
        &mut self,
        frame: &[u8],
        prefix: &[u8],
        declared: usize,
    ) -> Result<Vec<u8>, PatchError> {
        let create = || DCtx::try_create().ok_or(PatchError::Zstd("no memory"));
        if !prefix.is_empty() {
            return restore_with(&mut create()?, frame, prefix, declared);
        }
        let mut context = match self.0.take() {
            Some(used) => used,
            None => create()?,
        };
        checked(context.reset(ResetDirective::SessionAndParameters))?;
        restore_with(self.0.insert(context), frame, &[], declared)
    }
}

/// As [`Compressor::compress`], of a single piece.
///
/// # Errors
/// When zstd runs out of memory.
pub fn compress(plain: &[u8], prefix: &[u8]) -> Result<Vec<u8>, PatchError> {
    Compressor::default().compress(plain, prefix)
}

/// As [`Restorer::restore`], of a single frame.
///
/// # Errors
/// When the frame is damaged, or holds more or fewer bytes.
pub fn restore(frame: &[u8], prefix: &[u8], declared: usize) -> Result<Vec<u8>, PatchError> {
    Restorer::default().restore(frame, prefix, declared)
}

fn compress_with<'a>(
    context: &mut CCtx<'a>,
    plain: &[u8],
    prefix: &'a [u8],
) -> Result<Vec<u8>, PatchError> {
    // The window must reach from the end of the plain bytes back to the prefix's beginning.
    let window_log = window_log(plain.len() + prefix.len());
    let is_large = plain.len() + prefix.len() >= LARGE_BYTES;
    let is_long = prefix.len() > INDEXED_BYTES;
    let level = if is_large || is_long {
        LEVEL_LARGE
    } else {
        LEVEL
    };
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window_log),
        CParameter::EnableLongDistanceMatching(is_large),
        CParameter::ChecksumFlag(false),
    ] {
        checked(context.set_parameter(parameter))?;
    }
    if is_long && !is_large {
        // Large enough for all of the prefix. Beyond, long distance matching has a table of its own.
        checked(context.set_parameter(CParameter::HashLog(window_log - INDEXED_LOG)))?;
    }
    if !prefix.is_empty() {
        checked(context.ref_prefix(prefix))?;
    }
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(plain.len()));
    checked(context.compress2(&mut frame, plain))?;
    Ok(frame)
}

fn restore_with<'a>(
    context: &mut DCtx<'a>,
    frame: &[u8],
    prefix: &'a [u8],
    declared: usize,
) -> Result<Vec<u8>, PatchError> {
    if !prefix.is_empty() {
        checked(context.ref_prefix(prefix))?;
    }
    let mut plain = Vec::with_capacity(declared);
    checked(context.decompress(&mut plain, frame))?;
    if plain.len() == declared {
        Ok(plain)
    } else {
        Err(PatchError::Short {
            found: plain.len(),
            declared,
        })
    }
}

fn window_log(bytes: usize) -> u32 {
    bytes
        .next_power_of_two()
        .ilog2()
        .clamp(WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX)
}

fn checked(result: SafeResult) -> Result<usize, PatchError> {
    result.map_err(|code| PatchError::Zstd(zstd_safe::get_error_name(code)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Text that does not compress to nothing, as code does not.
    fn source(lines: usize) -> Vec<u8> {
        (0..lines)
            .map(|i| {
                format!(
                    "value_{} = {}\n",
                    i * 7919 % 1009,
                    blake3::hash(&i.to_le_bytes())
                )
            })
            .collect::<String>()
            .into_bytes()
    }

    #[test]
    fn a_one_line_edit_is_a_few_bytes() {
        let old = source(400);
        let mut new = old.clone();
        new.splice(12_000..12_010, *b"edited");
        let frame = compress(&new, &old).unwrap();
        assert!(frame.len() < 120, "{} bytes", frame.len());
        assert_eq!(restore(&frame, &old, new.len()), Ok(new));
    }

    #[test]
    fn an_edit_anywhere_stays_small_whatever_the_size() {
        for lines in [1_000, 8_000, 16_000, 32_000, 56_000, 64_000] {
            let old = source(lines);
            for at in [0, old.len() / 3, old.len() - 10] {
                let mut new = old.clone();
                new.splice(at..at + 10, *b"edited");
                let frame = compress(&new, &old).unwrap();
                let bytes_max = 120 + old.len() / 4_096;
                assert!(
                    frame.len() < bytes_max,
                    "{} of {} bytes",
                    frame.len(),
                    old.len()
                );
                assert_eq!(restore(&frame, &old, new.len()), Ok(new));
            }
        }
    }

    #[test]
    fn the_wrong_prefix_never_gives_the_right_bytes() {
        let old = source(400);
        let mut new = old.clone();
        new.extend(b"more");
        let frame = compress(&new, &old).unwrap();
        let mut damaged = old;
        damaged[5_000] ^= 1;
        assert_ne!(restore(&frame, &damaged, new.len()), Ok(new.clone()));
        assert_ne!(restore(&frame, &[], new.len()), Ok(new));
    }

    #[test]
    fn a_bomb_is_bounded_by_the_declared_size() {
        let bomb = compress(&vec![0; 64 << 20], &[]).unwrap();
        assert!(bomb.len() < 8 << 10);
        assert!(matches!(
            restore(&bomb, &[], 1_024),
            Err(PatchError::Zstd(_))
        ));
    }

    #[test]
    fn a_short_frame_is_no_answer() {
        let frame = compress(b"abc", &[]).unwrap();
        assert_eq!(
            restore(&frame, &[], 4),
            Err(PatchError::Short {
                found: 3,
                declared: 4
            })
        );
    }

    #[test]
    fn an_edit_in_a_large_file_stays_small() {
        let old = source(200_000);
        assert!(old.len() > LARGE_BYTES);
        let mut new = old.clone();
        new.splice(9_000_000..9_000_003, *b"edited");
        let frame = compress(&new, &old).unwrap();
        assert!(frame.len() < 16 << 10, "{} bytes", frame.len());
        assert_eq!(restore(&frame, &old, new.len()), Ok(new));
    }

    #[test]
    fn what_came_before_changes_no_frame_and_no_bytes() {
        let pieces = [
            source(3),
            Vec::new(),
            source(200_000),
            source(40),
            source(1),
        ];
        let (mut compressor, mut restorer) = (Compressor::default(), Restorer::default());
        for prefix in [&[][..], &source(30)] {
            for plain in &pieces {
                let frame = compressor.compress(plain, prefix).unwrap();
                assert_eq!(frame, compress(plain, prefix).unwrap());
                // Nor does a frame that is none.
                assert!(restorer.restore(b"no frame", prefix, 9).is_err());
                let restored = restorer.restore(&frame, prefix, plain.len());
                assert!(restored.as_ref() == Ok(plain), "{} bytes", plain.len());
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_compressed_is_restored(
            plain in prop::collection::vec(any::<u8>(), 0..3000),
            prefix in prop::collection::vec(any::<u8>(), 0..3000),
        ) {
            let frame = compress(&plain, &prefix).unwrap();
            prop_assert_eq!(restore(&frame, &prefix, plain.len()), Ok(plain));
        }

        #[test]
        fn no_frame_makes_restore_panic(
            frame in prop::collection::vec(any::<u8>(), 0..200), declared in 0..10_000_usize,
        ) {
            if let Ok(plain) = restore(&frame, b"prefix", declared) {
                prop_assert_eq!(plain.len(), declared);
            }
        }
    }
}
