use std::collections::BTreeMap;
use std::io;

use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::Manifest;

use super::*;

/// A tree of files, by path: their bytes, and whether they may be executed.
type Files<'a> = BTreeMap<&'a str, (&'a [u8], bool)>;

fn manifest(files: &Files<'_>, links: &[(&str, &str)]) -> Manifest {
    let mut entries: Vec<(RelPath, Entry)> = files
        .iter()
        .map(|(path, (bytes, executable))| {
            let entry = Entry::File {
                blob: BlobId::of(bytes),
                size: bytes.len() as u64,
                executable: *executable,
            };
            (path.parse().unwrap(), entry)
        })
        .collect();
    for (path, target) in links {
        let path: RelPath = path.parse().unwrap();
        let target: codevol_protocol::path::LinkTarget = target.parse().unwrap();
        entries.push((path, Entry::Symlink { target }));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Manifest::new(entries).unwrap()
}

fn between(old: &Files<'_>, new: &Files<'_>) -> TreeDiff {
    let read = |files: &Files<'_>, path: &RelPath| match files.get(path.as_str()) {
        Some((bytes, _)) => Ok(bytes.to_vec()),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let (before, after) = (manifest(old, &[]), manifest(new, &[]));
    compare(
        &changes(Some(&before), &after),
        (Some(&before), &|path, _| read(old, path)),
        (Some(&after), &|path, _| read(new, path)),
    )
}

fn hunks(file: &FileDiff) -> &str {
    match &file.content {
        Content::Text { hunks, .. } => hunks,
        other => panic!("{other:?}"),
    }
}

#[test]
fn changed_lines_stand_between_those_around_them() {
    let text = |third: &str| format!("1\n2\n{third}\n4\n5\n6\n7\n8\n");
    let (before, after) = (text("3"), text("three"));
    let old = Files::from([
        ("a", (before.as_bytes(), false)),
        ("gone", (b"x\n", false)),
        ("same", (b"s\n", false)),
    ]);
    let new = Files::from([
        ("a", (after.as_bytes(), false)),
        ("made", (b"y\n", false)),
        ("same", (b"s\n", true)),
    ]);
    let found = between(&old, &new);
    let paths: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a", "gone", "made", "same"]);
    let expected = "@@ -1,6 +1,6 @@\n 1\n 2\n-3\n+three\n 4\n 5\n 6\n";
    assert_eq!(hunks(&found.files[0]), expected);
    assert_eq!(hunks(&found.files[1]), "@@ -1,1 +1,0 @@\n-x\n");
    assert_eq!(hunks(&found.files[2]), "@@ -1,0 +1,1 @@\n+y\n");
    assert_eq!(found.files[3].content, Content::Same);
    let executable = |shape: &Option<Shape>| shape.as_ref().unwrap().executable;
    let same = &found.files[3];
    assert_eq!(
        (executable(&same.old), executable(&same.new)),
        (Some(false), Some(true))
    );
}

#[test]
fn what_is_no_text_or_too_long_is_named_only() {
    let long = vec![b'x'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    let new = Files::from([("bin", (&b"\0"[..], false)), ("long", (&long, false))]);
    let found = between(&Files::new(), &new);
    let contents: Vec<&Content> = found.files.iter().map(|file| &file.content).collect();
    assert_eq!(contents, [&Content::Binary, &Content::TooLong]);
}

#[test]
fn an_answer_is_bounded_and_says_what_was_cut() {
    let text = "0123456789abcde\n".repeat(60_000);
    let new = Files::from([
        ("a", (text.as_bytes(), false)),
        ("b", (text.as_bytes(), false)),
    ]);
    let found = between(&Files::new(), &new);
    let mut kept = 0;
    for file in &found.files {
        let Content::Text { hunks, lines_cut } = &file.content else {
            panic!("{:?}", file.content);
        };
        assert!(hunks.is_empty() || hunks.ends_with('\n'));
        assert_eq!(hunks.lines().count() as u64 + lines_cut, 60_001);
        kept += hunks.len();
    }
    assert!(
        kept <= HUNKS_BYTES_MAX && kept > HUNKS_BYTES_MAX - 32,
        "{kept}"
    );
}

#[test]
fn a_link_that_points_elsewhere_shows_both_targets() {
    let old = manifest(&Files::new(), &[("l", "a")]);
    let new = manifest(&Files::new(), &[("l", "b")]);
    let read = |_: &RelPath, _| Err(io::ErrorKind::NotFound.into());
    let found = compare(
        &changes(Some(&old), &new),
        (Some(&old), &read),
        (Some(&new), &read),
    );
    let target = |shape: &Option<Shape>| shape.as_ref().unwrap().target.clone();
    let file = &found.files[0];
    assert_eq!(target(&file.old), Some(Text::cut("a")));
    assert_eq!(target(&file.new), Some(Text::cut("b")));
    assert_eq!(file.content, Content::Same);
}
