use std::collections::BTreeMap;

use codevol_protocol::call::ChangeKind;

use super::*;

/// A tree of files with these bytes.
struct Tree(BTreeMap<RelPath, Vec<u8>>);

impl Tree {
    fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let files = files.into_iter();
        Self(
            files
                .map(|(path, bytes)| (path.parse().unwrap(), bytes.to_vec()))
                .collect(),
        )
    }

    fn manifest(&self) -> Manifest {
        let entry = |(path, bytes): (&RelPath, &Vec<u8>)| {
            let file = Entry::File {
                blob: BlobId::of(bytes),
                size: bytes.len() as u64,
                executable: false,
            };
            (path.clone(), file)
        };
        Manifest::new(self.0.iter().map(entry).collect()).unwrap()
    }

    fn read(&self, path: &RelPath) -> io::Result<Vec<u8>> {
        let bytes = self.0.get(path).cloned();
        bytes.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Counts between two trees, the changes being all of their paths.
fn between(old: &Tree, new: &Tree) -> Option<Lines> {
    let paths: std::collections::BTreeSet<_> = old.0.keys().chain(new.0.keys()).collect();
    let changes: Vec<Change> = paths
        .into_iter()
        .map(|path| Change {
            path: path.clone(),
            kind: ChangeKind::Changed,
        })
        .collect();
    count(
        (&changes, 0),
        (Some(&old.manifest()), &|path, _| old.read(path)),
        (Some(&new.manifest()), &|path, _| new.read(path)),
    )
}

const fn lines(added: u64, removed: u64, uncounted: u64) -> Option<Lines> {
    Some(Lines {
        added,
        removed,
        uncounted,
    })
}

#[test]
fn added_and_removed_lines_are_those_of_a_diff() {
    let old = Tree::of([("a.py", &b"one\ntwo\nthree\n"[..]), ("gone.py", b"x\ny\n")]);
    let new = Tree::of([
        ("a.py", &b"one\n2\n2.5\nthree\n"[..]),
        ("new.py", b"z\nno line end"),
    ]);
    assert_eq!(between(&old, &new), lines(4, 3, 0));
}

#[test]
fn a_line_end_at_the_end_is_a_change_of_that_line() {
    let (old, new) = (
        Tree::of([("a.py", &b"x\ny"[..])]),
        Tree::of([("a.py", &b"x\ny\n"[..])]),
    );
    assert_eq!(between(&old, &new), lines(1, 1, 0));
}

#[test]
fn binary_and_long_files_are_said_not_to_be_counted() {
    let long = vec![b'\n'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    let old = Tree::of([
        ("a.bin", &b"\0\n"[..]),
        ("b.csv", &long[1..]),
        ("c.py", b"x\n"),
    ]);
    let new = Tree::of([
        ("a.bin", &b"text\n"[..]),
        ("b.csv", &long),
        ("c.py", b"y\n"),
    ]);
    assert_eq!(between(&old, &new), lines(1, 1, 2));
}

#[test]
fn many_files_and_many_bytes_are_counted_up_to_a_bound() {
    let names: Vec<String> = (0..FILES_MAX + 7).map(|n| format!("f{n:05}")).collect();
    let many = Tree::of(names.iter().map(|name| (name.as_str(), &b"x\n"[..])));
    let none = Tree::of([]);
    assert_eq!(between(&none, &many), lines(FILES_MAX as u64, 0, 7));

    let full = vec![b'\n'; usize::try_from(FILE_BYTES_MAX).unwrap()];
    let fits = usize::try_from(BYTES_MAX / FILE_BYTES_MAX).unwrap();
    let large = Tree::of(names[..fits + 2].iter().map(|n| (n.as_str(), &full[..])));
    assert_eq!(between(&none, &large), lines(BYTES_MAX, 0, 2));
}

#[test]
fn what_cannot_be_read_is_said_not_to_be_counted() {
    let tree = Tree::of([("a.py", &b"x\n"[..])]);
    let manifest = tree.manifest();
    let changes: Vec<Change> = vec![Change {
        path: "a.py".parse().unwrap(),
        kind: ChangeKind::Added,
    }];
    let gone = |_: &RelPath, _: BlobId| Err(io::ErrorKind::NotFound.into());
    let counted = count((&changes, 3), (None, &gone), (Some(&manifest), &gone));
    assert_eq!(counted, lines(0, 0, 4));
    assert_eq!(count((&[], 0), (None, &gone), (None, &gone)), None);
}

#[test]
fn files_that_share_no_line_are_compared_at_once() {
    // Lines of two bytes, all of them other than those of the other side: the worst there is.
    let side = |odd: u32| -> Vec<u8> {
        let words = (0..u32::try_from(FILE_BYTES_MAX / 8).unwrap()).map(|n| n * 2 + odd);
        words
            .flat_map(|n| format!("{n:07}\n").into_bytes())
            .collect()
    };
    let (old, new) = (side(0), side(1));
    let count = FILE_BYTES_MAX / 8;
    assert_eq!(compare(&old, &new), (count, count));
}
