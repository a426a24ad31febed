use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use codevol_protocol::evidence::Evidence;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::Text;

use super::*;

fn opened() -> (tempfile::TempDir, Journal) {
    let temp = tempfile::tempdir().unwrap();
    let journal = reopen(&temp).unwrap();
    (temp, journal)
}

fn reopen(temp: &tempfile::TempDir) -> Result<Journal, JournalError> {
    Journal::open(&Dir::open(temp.path()).unwrap())
}

fn event(detail: &str) -> Event {
    Event {
        actor: Text::cut("alice"),
        action: "activate".into(),
        volume: Some("pipes".parse().unwrap()),
        release: Some(ReleaseId::of(b"r")),
        node: None,
        evidence: Some(Evidence::Proven),
        outcome: "good".into(),
        detail: Some(Text::cut(detail)),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn filled(count: i64) -> (tempfile::TempDir, Journal) {
    let (temp, mut journal) = opened();
    for n in 0..count {
        journal.append(at(n), event("why\nand \"how\"")).unwrap();
    }
    (temp, journal)
}

fn bad_line(error: &JournalError) -> u64 {
    let JournalError::Bad(bad) = error else {
        panic!("{error:?}");
    };
    bad.line
}

#[test]
fn a_line_has_the_documented_fields_in_their_order() {
    let (temp, _) = filled(1);
    let text = std::fs::read_to_string(temp.path().join(CURRENT)).unwrap();
    let release = ReleaseId::of(b"r");
    let start = format!(
        "{{\"at\":\"1970-01-01T00:00:00Z\",\"seq\":1,\"prev\":\"{}\",\"actor\":\"alice\",\
         \"action\":\"activate\",\"volume\":\"pipes\",\"release\":\"{release}\",\"node\":null,\
         \"evidence\":\"proven\",\"outcome\":\"good\",\"detail\":\"why\\nand \\\"how\\\"\",\"hash\":\"",
        "0".repeat(64)
    );
    assert!(text.starts_with(&start), "{text}");
    assert!(text.ends_with("\"}\n"), "{text}");
    // What docs tell a user to check by hand: the hash is that of the line without it.
    let hash = &text[start.len()..start.len() + 64];
    let body = text.replace(&format!(",\"hash\":\"{hash}\""), "");
    assert_eq!(
        blake3::hash(body.trim_end().as_bytes()).to_hex().as_str(),
        hash
    );
}

#[test]
fn the_chain_goes_on_after_a_restart() {
    let (temp, journal) = filled(3);
    assert_eq!(journal.verify().unwrap(), 3);
    drop(journal);
    let mut journal = reopen(&temp).unwrap();
    assert_eq!(journal.cut_bytes(), 0);
    assert_eq!(journal.append(at(9), event("later")).unwrap(), 4);
    assert_eq!(journal.verify().unwrap(), 4);
    let tail = journal.tail(2).unwrap();
    assert_eq!(tail.iter().map(|line| line.seq).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(tail[1].event, event("later"));
    assert_eq!(tail[1].prev, tail[0].hash);
    assert_eq!(journal.tail(100).unwrap().len(), 4);
    assert!(journal.tail(0).unwrap().is_empty());
}

#[test]
fn every_prefix_of_a_journal_opens_with_its_whole_lines_and_takes_more() {
    let (temp, _) = filled(2);
    let path = temp.path().join(CURRENT);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.write_all_at(&whole[..length], 0).unwrap();
        let lines = whole[..length]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count() as u64;
        let mut journal = reopen(&temp).unwrap();
        assert_eq!(journal.verify().unwrap(), lines, "{length} bytes");
        let kept = std::fs::metadata(&path).unwrap().len();
        assert_eq!(kept + journal.cut_bytes(), length as u64);
        assert_eq!(journal.append(at(9), event("more")).unwrap(), lines + 1);
        assert_eq!(journal.verify().unwrap(), lines + 1);
    }
}

#[test]
fn a_flipped_byte_names_its_line() {
    let (temp, journal) = filled(3);
    let path = temp.path().join(CURRENT);
    let whole = std::fs::read(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mut line = 1;
    for (at, byte) in whole.iter().enumerate() {
        for flip in [1, 0x20, 0x80] {
            file.write_all_at(&[byte ^ flip], at as u64).unwrap();
            let error = journal.verify().unwrap_err();
            assert_eq!(bad_line(&error), line, "byte {at}: {error}");
            // The last line is looked at in any case; what is written after damage is not.
            if line == 3 {
                assert_eq!(bad_line(&reopen(&temp).unwrap_err()), 3, "byte {at}");
            }
        }
        file.write_all_at(&[*byte], at as u64).unwrap();
        line += u64::from(*byte == b'\n');
    }
    assert_eq!(journal.verify().unwrap(), 3);
}

#[test]
fn a_line_that_was_taken_out_or_put_in_is_noticed() {
    let (temp, journal) = filled(4);
    let path = temp.path().join(CURRENT);
    let whole = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for (order, line) in [
        (vec![0, 1, 3], 3),
        (vec![1, 2, 3], 0),
        (vec![0, 2, 1, 3], 2),
        (vec![0, 1, 1, 2, 3], 3),
        (vec![0, 1, 2], 3),
    ] {
        let text: String = order.iter().map(|index| lines[*index]).collect();
        let file = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.write_all_at(text.as_bytes(), 0).unwrap();
        match journal.verify() {
            // Without its beginning it is what is left of an older one.
            Ok(count) => assert_eq!((line, count), (0, 3)),
            Err(error) => assert_eq!(bad_line(&error), line, "{order:?}: {error}"),
        }
    }
}

#[test]
fn the_chain_is_carried_from_file_to_file() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    let mut journal = Journal::open_bounded(&dir, 1_500, 16).unwrap();
    for n in 1..=20 {
        assert_eq!(journal.append(at(1), event("x")).unwrap(), n);
    }
    let files = files(&dir).unwrap();
    assert!(files.len() > 3, "{files:?}");
    assert_eq!(journal.verify().unwrap(), 20);
    let seqs: Vec<u64> = journal
        .tail(7)
        .unwrap()
        .iter()
        .map(|line| line.seq)
        .collect();
    assert_eq!(seqs, (14..=20).collect::<Vec<_>>());
    drop(journal);
    // Killed between the two steps of a rotation.
    let aside = format!("journal-{:012}.jsonl", 20);
    dir.rename(CURRENT, &dir, &aside).unwrap();
    let mut journal = Journal::open_bounded(&dir, 1_500, 16).unwrap();
    assert_eq!(journal.verify().unwrap(), 20);
    assert_eq!(journal.append(at(1), event("x")).unwrap(), 21);
    // The oldest file was carried off; then one in the middle.
    dir.remove_file(&files[0]).unwrap();
    assert!(journal.verify().unwrap() < 21);
    dir.remove_file(&files[2]).unwrap();
    assert_eq!(bad_line(&journal.verify().unwrap_err()), 1);
}

#[test]
fn what_a_failed_append_left_behind_is_cut_before_the_next() {
    let (temp, mut journal) = filled(1);
    // As after a disk that was full in the middle of a line.
    journal.file.write_all(b"{\"at\":\"19").unwrap();
    journal.dirty = true;
    assert_eq!(journal.append(at(2), event("next")).unwrap(), 2);
    assert_eq!(journal.verify().unwrap(), 2);
    drop(journal);
    assert_eq!(reopen(&temp).unwrap().verify().unwrap(), 2);
}

#[test]
fn the_longest_event_fits_a_line() {
    let (_temp, mut journal) = opened();
    let mut longest = event(&"\u{1}".repeat(1 << 20));
    longest.actor = Text::cut("\u{1}".repeat(1 << 20));
    journal.append(at(1), longest.clone()).unwrap();
    assert_eq!(journal.tail(1).unwrap()[0].event, longest);
}

fn read(temp: &tempfile::TempDir) -> Result<(Found, Vec<u64>), JournalError> {
    let mut seqs = Vec::new();
    let reader = Reader::new(Dir::open(temp.path()).unwrap());
    let found = reader.read(|line| seqs.push(line.seq))?;
    Ok((found, seqs))
}

/// A journal of 20 lines in several files, and the names of these.
fn rotated(files_aside_max: usize) -> (tempfile::TempDir, Journal, Vec<String>) {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    let mut journal = Journal::open_bounded(&dir, 1_500, files_aside_max).unwrap();
    for n in 1..=20 {
        assert_eq!(journal.append(at(1), event("x")).unwrap(), n);
    }
    let files = files(&dir).unwrap();
    (temp, journal, files)
}

#[test]
fn only_so_many_files_are_kept_and_what_is_missing_is_said() {
    let (temp, journal, files) = rotated(2);
    assert_eq!(files.len(), 3, "{files:?}");
    let (found, seqs) = read(&temp).unwrap();
    let first = seqs[0];
    assert!(first > 1, "{seqs:?}");
    assert_eq!(seqs, (first..=20).collect::<Vec<_>>());
    assert_eq!((found.first, found.last), (Some(first), Some(20)));
    assert_eq!((found.files, found.lines), (3, 21 - first));
    assert_eq!(journal.verify().unwrap(), found.lines);
    let whole = read(&rotated(16).0).unwrap().0;
    assert_eq!((whole.first, whole.lines), (Some(1), 20));
}

#[test]
fn damage_in_any_file_is_named_with_that_file() {
    let (temp, _journal, files) = rotated(16);
    for name in &files {
        let path = temp.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut number = 1;
        for (at, byte) in whole.iter().enumerate() {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[byte ^ 1], at as u64).unwrap();
            let JournalError::Bad(bad) = read(&temp).unwrap_err() else {
                panic!("{name}: byte {at} is no bad line");
            };
            assert_eq!((&bad.file, bad.line), (name, number), "byte {at}: {bad}");
            file.write_all_at(&[*byte], at as u64).unwrap();
            number += u64::from(*byte == b'\n');
        }
    }
    assert_eq!(read(&temp).unwrap().0.lines, 20);
}

#[test]
fn files_that_are_swapped_or_cut_short_are_named() {
    let (temp, _journal, files) = rotated(16);
    let path = |index: usize| temp.path().join(&files[index]);
    let aside = temp.path().join("elsewhere");
    let swap = |(a, b): (usize, usize)| {
        std::fs::rename(path(a), &aside).unwrap();
        std::fs::rename(path(b), path(a)).unwrap();
        std::fs::rename(&aside, path(b)).unwrap();
    };
    swap((1, 2));
    let error = read(&temp).unwrap_err();
    assert!(error.to_string().contains(&files[1]), "{error}");
    assert_eq!(bad_line(&error), 1);
    swap((1, 2));
    let whole = std::fs::read(path(1)).unwrap();
    let write = |bytes: &[u8]| {
        let options = OpenOptions::new().write(true).truncate(true).open(path(1));
        options.unwrap().write_all_at(bytes, 0).unwrap();
    };
    write(&whole[..whole.len() - 1]);
    let error = read(&temp).unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
    // Without its last line, the first one of the next file has another one before it.
    let end = whole[..whole.len() - 1].iter().rposition(|b| *b == b'\n');
    write(&whole[..=end.unwrap()]);
    let error = read(&temp).unwrap_err();
    assert!(error.to_string().contains(&files[2]), "{error}");
    assert_eq!(bad_line(&error), 1);
}

#[test]
fn a_line_that_is_being_written_is_no_damage() {
    let (temp, mut journal) = filled(2);
    journal.file.write_all(b"{\"at\":\"19").unwrap();
    let (found, seqs) = read(&temp).unwrap();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(found.cut_bytes, 9);
}

#[test]
fn a_journal_is_read_while_it_is_appended_to_and_put_aside() {
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open(temp.path()).unwrap();
    let mut journal = Journal::open_bounded(&dir, 1_500, 4).unwrap();
    let writer = std::thread::spawn(move || {
        for _ in 0..300 {
            journal.append(at(1), event("x")).unwrap();
        }
    });
    while !writer.is_finished() {
        let (_, seqs) = read(&temp).unwrap();
        let next = seqs.iter().skip(1).zip(&seqs).all(|(b, a)| *b == a + 1);
        assert!(next, "{seqs:?}");
    }
    writer.join().unwrap();
    assert_eq!(read(&temp).unwrap().0.last, Some(300));
}

#[test]
fn lines_that_are_written_together_are_the_same_lines() {
    let (one, several) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let opened = |temp: &tempfile::TempDir| {
        Journal::open_bounded(&Dir::open(temp.path()).unwrap(), 1_500, 16).unwrap()
    };
    let mut journal = opened(&one);
    for n in 0..9 {
        journal.append(at(n), event("x")).unwrap();
    }
    let mut journal = opened(&several);
    assert_eq!(journal.write_all([]).unwrap(), 0);
    for range in [0..1, 1..6, 6..9] {
        let end = u64::try_from(range.end).unwrap();
        let events = range.map(|n| (at(n), event("x")));
        assert_eq!(journal.write_all(events).unwrap(), end);
    }
    let names = files(&Dir::open(one.path()).unwrap()).unwrap();
    assert_eq!(files(&Dir::open(several.path()).unwrap()).unwrap(), names);
    for name in names {
        let text = |temp: &tempfile::TempDir| std::fs::read(temp.path().join(&name)).unwrap();
        assert_eq!(text(&one), text(&several), "{name}");
    }
}
