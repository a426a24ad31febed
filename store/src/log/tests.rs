use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;

use codevol_protocol::id::{BlobId, FleetId, ManifestId};
use codevol_protocol::key::SecretKey;
use codevol_protocol::name::Text;
use codevol_protocol::release::{Origin, UnixMillis};

use super::*;

fn opened() -> (tempfile::TempDir, Log) {
    let temp = tempfile::tempdir().unwrap();
    let log = Log::open(&Dir::open(temp.path()).unwrap()).unwrap();
    (temp, log)
}

fn append(log: &mut Log, signed: &SignedRelease) -> Result<Append, LogError> {
    let mut landing = Landing::default();
    let next = log.prepare(signed, &mut landing)?;
    log.append(next, landing.commit(None)?)
}

fn signed(seq: u64, parent: Option<ReleaseId>, message: &str) -> SignedRelease {
    let release = Release {
        fleet: FleetId::of(b"fleet"),
        volume: "pipes".parse().unwrap(),
        epoch: 1,
        seq: Seq(seq),
        parent,
        manifest: ManifestId::of(b"manifest"),
        manifest_bytes: 1,
        entries: 1,
        total_bytes: 1,
        ignore_rules: BlobId::of(b""),
        created_at: UnixMillis(seq),
        origin: Origin::Push,
        author: Text::cut("alice"),
        host: Text::cut("host"),
        message: Text::cut(message),
        git: None,
        fingerprints: Vec::new(),
    };
    release.sign(&SecretKey::from_seed(&[7; 32]))
}

fn next(log: &Log, message: &str) -> SignedRelease {
    let newest = log.newest();
    let seq = newest.map_or(1, |newest| newest.release.seq.0 + 1);
    signed(seq, newest.map(|newest| newest.id), message)
}

fn filled(count: u64) -> (tempfile::TempDir, Log) {
    let (temp, mut log) = opened();
    for _ in 0..count {
        let signed = next(&log, "m");
        assert_eq!(append(&mut log, &signed).unwrap(), Append::Appended);
    }
    (temp, log)
}

fn reopen(temp: &tempfile::TempDir) -> Result<Log, LogError> {
    Log::open(&Dir::open(temp.path()).unwrap())
}

#[test]
fn what_was_appended_is_there_after_a_restart() {
    let (temp, log) = filled(12);
    let again = reopen(&temp).unwrap();
    assert!(again.iter().eq(log.iter()));
    assert_eq!(again.iter().len(), 12);
    let newest = again.newest().unwrap();
    assert_eq!(newest.release.seq, Seq(12));
    assert_eq!(again.get(Seq(12)), Some(newest));
    assert_eq!(again.get(Seq(0)), None);
    assert_eq!(again.get(Seq(13)), None);
    assert_eq!(again.by_id(&newest.id), Some(newest));
    assert_eq!(again.find(&newest.id.to_string()), Ok(newest));
    assert_eq!(again.find(&newest.id.short()), Ok(newest));
    assert_eq!(again.find("x"), Err(FindError::None("x".to_owned())));
    assert_eq!(again.find(""), Err(FindError::None(String::new())));
}

#[test]
fn a_prefix_of_several_ids_names_none() {
    let (_temp, log) = filled(17);
    // Of seventeen ids two begin with the same digit.
    let several = "0123456789abcdef"
        .chars()
        .any(|digit| matches!(log.find(&digit.to_string()), Err(FindError::Several { .. })));
    assert!(several);
}

#[test]
fn the_first_writer_of_a_seq_wins() {
    let (temp, mut first) = filled(1);
    let mut second = reopen(&temp).unwrap();
    let (a, b) = (next(&first, "a"), next(&second, "b"));
    assert_eq!(append(&mut first, &a).unwrap(), Append::Appended);
    assert_eq!(append(&mut second, &b).unwrap(), Append::Lost);
    assert_eq!(second.newest().unwrap().id, a.id());
    // To say the same twice is no loss; to say another thing later is one.
    assert_eq!(append(&mut second, &a).unwrap(), Append::Appended);
    assert_eq!(append(&mut first, &b).unwrap(), Append::Lost);
    assert_eq!(reopen(&temp).unwrap().newest().unwrap().id, a.id());
}

#[test]
fn a_record_that_does_not_follow_is_refused() {
    let (temp, mut log) = filled(2);
    let newest = log.newest().unwrap().id;
    for wrong in [
        signed(3, Some(ReleaseId::of(b"other")), "m"),
        signed(4, Some(newest), "m"),
    ] {
        let error = append(&mut log, &wrong).unwrap_err();
        assert!(matches!(error, LogError::Chain { .. }), "{error:?}");
    }
    assert!(matches!(
        append(&mut log, &signed(0, None, "m")),
        Err(LogError::Release { .. })
    ));
    assert_eq!(reopen(&temp).unwrap().iter().len(), 2);
}

#[test]
fn a_record_that_was_never_finished_does_not_count() {
    let (temp, log) = filled(1);
    let bytes = codec::encode(&next(&log, "torn"));
    let dir = Dir::open(temp.path()).unwrap();
    let mut file = dir
        .create_file(&persist::temporary_name().unwrap(), MODE)
        .unwrap();
    file.write_all(&bytes[..bytes.len() / 2]).unwrap();
    let log = reopen(&temp).unwrap();
    assert_eq!(log.iter().len(), 1);
    assert_eq!(dir.entries().unwrap().len(), 1);
}

#[test]
fn a_flipped_byte_anywhere_names_its_record() {
    let (temp, _) = filled(3);
    let path = temp.path().join("000003");
    let length = std::fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    for at in 0..length {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let error = reopen(&temp).unwrap_err();
        assert_eq!(
            error.to_string(),
            "log record `000003` is damaged",
            "byte {at}"
        );
        file.write_all_at(&byte, at).unwrap();
    }
    reopen(&temp).unwrap();
    for length in [0, 31, length - 1] {
        file.set_len(length).unwrap();
        reopen(&temp).unwrap_err();
    }
}

#[test]
fn a_record_that_is_missing_or_in_the_place_of_another_is_noticed() {
    let (temp, _) = filled(3);
    let at = |name: &str| temp.path().join(name);
    std::fs::rename(at("000002"), at("aside")).unwrap();
    let error = reopen(&temp).unwrap_err();
    assert_eq!(error.to_string(), "record `000003` does not follow r1");
    std::fs::rename(at("000003"), at("000002")).unwrap();
    let error = reopen(&temp).unwrap_err();
    assert_eq!(error.to_string(), "record `000002` does not follow r1");
}

#[test]
fn what_others_have_kept_is_taken_in_and_a_gap_is_noted() {
    let (temp, mut log) = filled(2);
    let third = next(&log, "m");
    let stranger = ReleaseId::of(b"what came between");
    let sixth = signed(6, Some(stranger), "m");
    let seventh = signed(7, Some(sixth.id()), "m");
    for record in [&third, &sixth, &seventh, &sixth] {
        assert_eq!(log.take_in(record).unwrap(), Append::Appended);
    }
    assert_eq!(
        log.take_in(&signed(6, Some(stranger), "other")).unwrap(),
        Append::Lost
    );
    let mut log = reopen(&temp).unwrap();
    let seqs: Vec<u64> = log.iter().map(|r| r.release.seq.0).collect();
    assert_eq!(seqs, [1, 2, 3, 6, 7]);
    assert_eq!(log.get(Seq(6)).unwrap().id, sixth.id());
    assert!(log.get(Seq(5)).is_none());
    let eighth = next(&log, "m");
    assert_eq!(append(&mut log, &eighth).unwrap(), Append::Appended);
    // Only what was noted is a gap.
    let missing = temp.path().join("000007");
    std::fs::remove_file(missing).unwrap();
    assert!(matches!(reopen(&temp), Err(LogError::Chain { .. })));
}

#[test]
fn what_comes_late_is_taken_in_where_there_is_a_gap() {
    let (temp, mut log) = filled(2);
    let third = next(&log, "m");
    let fourth = signed(4, Some(third.id()), "m");
    let sixth = signed(6, Some(ReleaseId::of(b"lost")), "m");
    let _newest = log.take_in(&sixth).unwrap();
    assert_eq!(log.before_gap(), Some(Seq(2)));
    for record in [&fourth, &third] {
        assert_eq!(log.take_in(record).unwrap(), Append::Appended);
    }
    for mut log in [log, reopen(&temp).unwrap()] {
        let seqs: Vec<u64> = log.iter().map(|r| r.release.seq.0).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 6]);
        assert_eq!(log.by_id(&fourth.id()).unwrap().id, fourth.id());
        let other = signed(4, Some(third.id()), "other");
        assert_eq!(log.take_in(&other).unwrap(), Append::Lost);
    }
}

#[test]
fn a_gap_that_was_noted_before_its_record_came_harms_nothing() {
    let (temp, mut log) = filled(2);
    std::fs::File::create(temp.path().join("000006.gap")).unwrap();
    let third = next(&log, "m");
    assert_eq!(append(&mut log, &third).unwrap(), Append::Appended);
    let log = reopen(&temp).unwrap();
    assert_eq!(log.iter().len(), 3);
}
