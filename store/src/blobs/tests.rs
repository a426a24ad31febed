use std::fs::OpenOptions;
use std::io::Write as _;

use proptest::prelude::*;

use super::*;

fn opened() -> (tempfile::TempDir, Blobs) {
    let temp = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(&Dir::open(temp.path()).unwrap()).unwrap();
    (temp, blobs)
}

fn overwrite(temp: &tempfile::TempDir, id: BlobId, bytes: &[u8]) {
    let path = temp.path().join(path(id));
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .unwrap();
    file.write_all(bytes).unwrap();
}

fn temporaries(temp: &tempfile::TempDir) -> usize {
    let entries = Dir::open(temp.path()).unwrap().entries().unwrap();
    entries
        .iter()
        .filter(|(_, kind)| *kind == Kind::File)
        .count()
}

#[test]
fn a_blob_reads_back_by_its_hash() {
    let (temp, blobs) = opened();
    // Around the length from which a file is written while it is hashed.
    for length in [0, 1, 100, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20] {
        let bytes: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        let id = blobs.put(&bytes).unwrap();
        assert_eq!(id, BlobId::of(&bytes));
        assert!(blobs.has(id).unwrap());
        assert_eq!(blobs.read(id, length).unwrap(), bytes);
        blobs.check(id).unwrap();
    }
    assert_eq!(blobs.ids().unwrap().len(), 7);
    assert!(
        blobs
            .read(BlobId::of(b"none"), 9)
            .unwrap_err()
            .is_not_found()
    );
    assert_eq!(temporaries(&temp), 0);
}

#[test]
fn a_blob_with_wrong_bytes_is_never_returned_under_its_id() {
    let (temp, blobs) = opened();
    let (good, flipped, cut) = (b"good".as_slice(), b"flipped".as_slice(), b"cut".as_slice());
    let ids = [good, flipped, cut].map(|bytes| blobs.put(bytes).unwrap());
    overwrite(&temp, ids[1], b"fLipped");
    overwrite(&temp, ids[2], b"cu");
    assert_eq!(blobs.read(ids[0], 9).unwrap(), good);
    for id in [ids[1], ids[2]] {
        assert!(matches!(blobs.read(id, 9), Err(BlobError::Damaged(found)) if found == id));
    }
    let verified = blobs.verify().unwrap();
    assert_eq!(verified.blobs, 3);
    assert_eq!(
        verified.damaged.iter().collect::<BTreeSet<_>>(),
        ids[1..].iter().collect()
    );
    // One of a wrong length is seen and replaced; for the other somebody must say so.
    blobs.put(cut).unwrap();
    assert_eq!(blobs.read(ids[2], 9).unwrap(), cut);
    blobs.remove(ids[1]).unwrap();
    blobs.put(flipped).unwrap();
    assert!(blobs.verify().unwrap().damaged.is_empty());
}

#[test]
fn bytes_other_than_announced_are_not_kept() {
    let (temp, blobs) = opened();
    for length in [5, 2 << 20] {
        let source = tempfile::NamedTempFile::new().unwrap();
        source.as_file().set_len(length).unwrap();
        let expected = BlobId::of(b"other");
        let put = |id| {
            let mut batch = blobs.batch();
            batch.put_expected(&mut source.reopen().unwrap(), id)?;
            batch.commit()
        };
        let error = put(expected).unwrap_err();
        assert!(matches!(error, BlobError::Other { .. }), "{error:?}");
        assert!(!blobs.has(expected).unwrap());
        let real = BlobId::of(&vec![0; usize::try_from(length).unwrap()]);
        assert!(!blobs.has(real).unwrap());
        put(real).unwrap();
        assert!(blobs.has(real).unwrap());
    }
    assert_eq!(temporaries(&temp), 0);
}

#[test]
fn a_batch_names_its_blobs_only_at_the_commit() {
    for count in [1_u32, 4, 5, 300] {
        let (temp, blobs) = opened();
        let mut batch = blobs.batch();
        let ids: BTreeSet<BlobId> = (0..count)
            .map(|n| batch.put(&mut n.to_le_bytes().as_slice()).unwrap().id)
            .collect();
        // The same once more is one blob.
        batch.put(&mut 0_u32.to_le_bytes().as_slice()).unwrap();
        assert!(blobs.ids().unwrap().is_empty());
        assert!(temporaries(&temp) <= ids.len());
        batch.commit().unwrap();
        assert!(blobs.ids().unwrap().iter().eq(&ids));
        assert_eq!(temporaries(&temp), 0);
        assert!(blobs.verify().unwrap().damaged.is_empty());
    }
}

#[test]
fn a_batch_that_is_dropped_or_was_killed_leaves_nothing() {
    let (temp, blobs) = opened();
    let mut batch = blobs.batch();
    batch.put(&mut b"dropped".as_slice()).unwrap();
    drop(batch);
    assert_eq!(temporaries(&temp), 0);
    blobs
        .dir
        .create_file(&persist::temporary_name().unwrap(), FILE_MODE)
        .unwrap();
    assert_eq!(temporaries(&temp), 1);
    let blobs = Blobs::open(&blobs.dir).unwrap();
    assert_eq!(temporaries(&temp), 0);
    assert!(blobs.ids().unwrap().is_empty());
}

#[test]
fn what_cannot_be_read_is_not_kept_and_the_batch_goes_on() {
    struct Failing(u64);
    impl io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("broken disk"));
            }
            let length = usize::try_from(self.0.min(buffer.len() as u64)).unwrap();
            buffer[..length].fill(7);
            self.0 -= length as u64;
            Ok(length)
        }
    }
    let (temp, blobs) = opened();
    let mut batch = blobs.batch();
    for length in [0, 10, 1 << 20, 5 << 20] {
        let error = batch.put(&mut Failing(length)).unwrap_err();
        assert!(matches!(error, BlobError::Read(_)), "{error:?}");
    }
    let id = batch.put(&mut b"fine".as_slice()).unwrap().id;
    batch.commit().unwrap();
    assert_eq!(blobs.ids().unwrap(), [id]);
    assert_eq!(temporaries(&temp), 0);
}

#[test]
fn what_is_not_needed_is_found_with_its_length() {
    let (_temp, blobs) = opened();
    let ids = [b"a", b"b", b"c"].map(|bytes| blobs.put(bytes).unwrap());
    let mut expected = [(ids[0], 1), (ids[2], 1)];
    expected.sort();
    let surplus = blobs.surplus(&BTreeSet::from([ids[1]])).unwrap();
    assert_eq!(surplus, expected);
    for (id, _) in surplus {
        blobs.remove(id).unwrap();
    }
    assert_eq!(blobs.ids().unwrap(), [ids[1]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_flipped_bit_is_always_found(bytes in prop::collection::vec(any::<u8>(), 1..2_000), at: prop::sample::Index, bit in 0..8_u8) {
        let (temp, blobs) = opened();
        let id = blobs.put(&bytes).unwrap();
        let mut flipped = bytes.clone();
        flipped[at.index(bytes.len())] ^= 1_u8 << bit;
        overwrite(&temp, id, &flipped);
        prop_assert!(matches!(blobs.read(id, 4_000), Err(BlobError::Damaged(_))));
        prop_assert!(matches!(blobs.check(id), Err(BlobError::Damaged(_))));
    }
}
