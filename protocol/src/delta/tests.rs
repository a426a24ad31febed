use proptest::prelude::*;

use super::*;

const SMALL: Cut = Cut {
    segment_bytes: 10,
    margin_bytes: 4,
};

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

fn file(bytes: &str, executable: bool) -> Entry {
    Entry::File {
        blob: BlobId::of(bytes.as_bytes()),
        size: bytes.len() as u64,
        executable,
    }
}

fn tree(entries: &[(&str, Entry)]) -> Manifest {
    let mut entries: Vec<_> = entries.iter().map(|(p, e)| (path(p), e.clone())).collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Manifest::new(entries).unwrap()
}

fn entry_at(tree: &Manifest, index: u64) -> &Entry {
    &tree.entries()[usize::try_from(index).unwrap()].1
}

/// A tree of up to a dozen files over few names, bytes and both modes; so they meet often.
fn any_tree() -> impl Strategy<Value = Manifest> {
    let entry = prop_oneof![
        8 => ("[ab]{0,25}", any::<bool>()).prop_map(|(bytes, x)| file(&bytes, x)),
        1 => Just(Entry::Symlink { target: "gone".parse().unwrap() }),
        1 => Just(Entry::Dir),
    ];
    prop::collection::btree_map("d?/?[a-e]".prop_map(|p| p.replace('/', "-")), entry, 0..12)
        .prop_map(|map| {
            let mut entries: Vec<_> = map.into_iter().map(|(p, e)| (path(&p), e)).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Manifest::new(entries).unwrap()
        })
}

/// Builds the new tree from the old one, and from the new one only what travels.
fn apply(plan: &Plan, old: Option<&Manifest>, new: &Manifest) -> Manifest {
    let held = |path: &RelPath| old.unwrap().entry(path).unwrap().blob().unwrap();
    let mut arrived: BTreeMap<u64, BlobId> = BTreeMap::new();
    for piece in plan.pieces_from(Position::default()) {
        let index = piece.position.entry;
        arrived.insert(index, entry_at(new, index).blob().unwrap());
    }
    let entries = (0..).zip(plan.steps()).zip(new.entries());
    let built = entries.map(|((index, step), (path, entry))| {
        let blob = match step {
            Step::Keep => held(path),
            Step::Local { from } => held(from),
            Step::Again { entry } => arrived[entry],
            Step::Receive { .. } => arrived[&index],
            Step::Symlink | Step::Dir => return (path.clone(), entry.clone()),
        };
        let &Entry::File {
            size, executable, ..
        } = entry
        else {
            panic!("{path} is no file");
        };
        let entry = Entry::File {
            blob,
            size,
            executable,
        };
        (path.clone(), entry)
    });
    Manifest::new(built.collect()).unwrap()
}

proptest! {
    #[test]
    fn the_plan_applied_to_the_old_tree_is_the_new_one(
        old in prop::option::of(any_tree()), new in any_tree(), missing in any_tree()
    ) {
        let missing = missing.entries().iter().filter_map(|(_, e)| e.blob()).collect();
        let plan = plan_without(old.as_ref(), &new, &missing, SMALL);
        prop_assert_eq!(apply(&plan, old.as_ref(), &new), new);
        for step in plan.steps() {
            if let Step::Local { from } = step {
                let blob = old.as_ref().unwrap().entry(from).unwrap().blob().unwrap();
                prop_assert!(!missing.contains(&blob));
            }
        }
    }

    #[test]
    fn nothing_that_is_held_travels_and_nothing_travels_twice(
        old in any_tree(), new in any_tree()
    ) {
        let mut known: BTreeSet<_> = old.entries().iter().filter_map(|(_, e)| e.blob()).collect();
        let plan = plan_without(Some(&old), &new, &BTreeSet::new(), SMALL);
        for piece in plan.pieces_from(Position::default()) {
            let entry = entry_at(&new, piece.position.entry);
            if piece.position.segment == 0 {
                prop_assert!(known.insert(entry.blob().unwrap()));
            }
        }
    }

    #[test]
    fn pieces_cover_each_file_once_and_resume_anywhere(
        old in any_tree(), new in any_tree(), cut_at in any::<prop::sample::Index>()
    ) {
        let plan = plan_without(Some(&old), &new, &BTreeSet::new(), SMALL);
        let pieces: Vec<Piece> = plan.pieces_from(Position::default()).collect();
        let mut ends: BTreeMap<u64, u64> = BTreeMap::new();
        for piece in &pieces {
            let end = ends.entry(piece.position.entry).or_default();
            prop_assert_eq!(*end, piece.offset);
            *end += piece.length;
            prop_assert_eq!(plan.piece(piece.position), Some(piece.clone()));
            if let Some(range) = &piece.prefix {
                let size = old.entry(&range.path).unwrap().size();
                prop_assert!(range.length > 0 && range.offset + range.length <= size);
            }
        }
        for (entry, end) in ends {
            prop_assert_eq!(entry_at(&new, entry).size(), end);
        }
        if !pieces.is_empty() {
            let index = cut_at.index(pieces.len());
            let rest: Vec<Piece> = plan.pieces_from(pieces[index].position).collect();
            prop_assert_eq!(&rest[..], &pieces[index..]);
        }
    }
}

#[test]
fn a_rename_travels_not_at_all() {
    let old = tree(&[("a/x.py", file("same", false)), ("y", file("other", false))]);
    let new = tree(&[("b/x.py", file("same", false)), ("y", file("other", false))]);
    let plan = plan(Some(&old), &new);
    let from = path("a/x.py");
    assert_eq!(plan.steps(), [Step::Local { from }, Step::Keep]);
    assert_eq!(plan.received_bytes(), 0);
}

#[test]
fn a_change_of_mode_is_a_copy_of_what_is_held() {
    let old = tree(&[("run", file("same", false)), ("tool", file("same", true))]);
    let new = tree(&[("run", file("same", true))]);
    // The one with the same mode is preferred: it can be linked.
    let from = path("tool");
    assert_eq!(plan(Some(&old), &new).steps(), [Step::Local { from }]);
    let old = tree(&[("run", file("same", false))]);
    let from = path("run");
    assert_eq!(plan(Some(&old), &new).steps(), [Step::Local { from }]);
}

#[test]
fn duplicates_travel_once() {
    let new = tree(&[
        ("a", file("twice", false)),
        ("b", file("twice", true)),
        ("c", file("", false)),
    ]);
    let plan = plan(None, &new);
    assert_eq!(plan.steps()[1], Step::Again { entry: 0 });
    assert_eq!(plan.received_bytes(), 5);
    assert_eq!(plan.pieces_from(Position::default()).count(), 2);
}

#[test]
fn a_segments_prefix_is_the_old_files_same_range_and_a_margin() {
    let old = tree(&[("big", file(&"o".repeat(23), false))]);
    let new = tree(&[("big", file(&"n".repeat(45), false))]);
    let plan = plan_without(Some(&old), &new, &BTreeSet::new(), SMALL);
    let ranges: Vec<_> = plan
        .pieces_from(Position::default())
        .map(|piece| piece.prefix.map(|range| (range.offset, range.length)))
        .collect();
    let expected = [Some((0, 14)), Some((6, 17)), Some((16, 7)), None, None];
    assert_eq!(ranges, expected);
}

#[test]
fn a_missing_blob_travels_whole() {
    let old = tree(&[("a", file("held", false)), ("b", file("before", false))]);
    let new = tree(&[("a", file("held", false)), ("b", file("after", false))]);
    let missing = [BlobId::of(b"held"), BlobId::of(b"after")].into();
    let plan = plan_without(Some(&old), &new, &missing, Cut::default());
    let receive = |size| Step::Receive { size, prefix: None };
    assert_eq!(plan.steps(), [receive(4), receive(5)]);
}
