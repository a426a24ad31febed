//! A manifest takes every tree there is, and no list that could leave it.

use proptest::prelude::*;

use super::*;

pub(crate) fn file(content: &str) -> Entry {
    Entry::File {
        blob: BlobId::of(content.as_bytes()),
        size: content.len() as u64,
        executable: false,
    }
}

fn link(target: &str) -> Entry {
    Entry::Symlink {
        target: target.parse().unwrap(),
    }
}

/// A manifest of files with these contents.
pub(crate) fn tree(files: &[(&str, &str)]) -> Manifest {
    let entries: BTreeMap<RelPath, Entry> = files
        .iter()
        .map(|(path, content)| (path.parse().unwrap(), file(content)))
        .collect();
    Manifest::new(entries.into_iter().collect()).unwrap()
}

fn manifest(entries: &[(&str, Entry)]) -> Result<Manifest, ManifestError> {
    Manifest::new(
        entries
            .iter()
            .map(|(p, e)| (p.parse().unwrap(), e.clone()))
            .collect(),
    )
}

#[test]
fn a_path_that_two_trees_have_is_in_memory_once_and_neither_changes() {
    let one = tree(&[("a/b", "1"), ("a/c", "1"), ("a-b", "1"), ("e", "1")]);
    let other = tree(&[("a/c", "2"), ("a-b", "1"), ("d", "1"), ("e", "3")]);
    let mut sharing = other.clone();
    sharing.share_paths(&one);
    assert_eq!(sharing, other);
    let place = |manifest: &Manifest, path: &str| {
        let mut paths = manifest.entries().iter().map(|(path, _)| path.as_str());
        paths.find(|found| *found == path).map(str::as_ptr)
    };
    for path in ["a/c", "a-b", "e"] {
        assert_eq!(place(&sharing, path), place(&one, path), "{path}");
    }
    assert_eq!(place(&sharing, "d"), place(&other, "d"));
}

#[test]
fn duplicates_and_disorder_are_refused() {
    for paths in [["a", "a"], ["b", "a"], ["a-b", "a"]] {
        let entries = paths.map(|p| (p, file("")));
        assert!(
            matches!(manifest(&entries), Err(ManifestError::Unsorted(_))),
            "{paths:?}"
        );
    }
}

#[test]
fn nothing_lies_below_a_file_a_link_or_an_empty_directory() {
    for above in [file(""), link("b"), Entry::Dir] {
        let result = manifest(&[("a", above), ("a/b", file(""))]);
        assert_eq!(
            result,
            Err(ManifestError::BelowEntry("a/b".parse().unwrap()))
        );
    }
}

#[test]
fn a_link_that_leaves_the_tree_is_refused_also_through_another_link() {
    for entries in [
        vec![("a", link("../x"))],
        vec![("a", link("b/../../x"))],
        vec![("a/b", link("../../x"))],
        // `d` is the root itself, so `e` leaves it only by way of `d`.
        vec![("s/d", link("..")), ("s/e", link("d/../x"))],
        vec![("s/t/d", link("../..")), ("z", link("s/t/d/../x"))],
        // The link lies inside a linked directory's target.
        vec![("a", link("b/c")), ("b/c", link("../../x"))],
    ] {
        assert!(
            matches!(manifest(&entries), Err(ManifestError::LinkLeaves(_))),
            "{entries:?}"
        );
    }
}

#[test]
fn loops_dangling_and_inner_links_are_trees() {
    for entries in [
        vec![("a", link("b")), ("b", link("a"))],
        vec![("a", link("nowhere/at/all"))],
        vec![("a/b", link("../c")), ("c", file(""))],
        vec![("a/b", link(".."))],
    ] {
        assert!(manifest(&entries).is_ok(), "{entries:?}");
    }
}

#[test]
fn sizes_over_the_limits_are_refused() {
    let large = |size| Entry::File {
        blob: BlobId::of(b""),
        size,
        executable: false,
    };
    assert!(matches!(
        manifest(&[("a", large(FILE_BYTES_MAX + 1))]),
        Err(ManifestError::FileTooLarge(_))
    ));
    let names: Vec<String> = (0..5).map(|i| format!("f{i}")).collect();
    let entries: Vec<_> = names
        .iter()
        .map(|n| (n.as_str(), large(FILE_BYTES_MAX)))
        .collect();
    assert_eq!(manifest(&entries), Err(ManifestError::ReleaseTooLarge));
}

#[test]
fn one_byte_changed_or_added_is_another_manifest_or_none() {
    let tree = tree(&[("a.py", "1"), ("b/c.py", "2")]);
    let bytes = tree.encode();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            if let Ok(decoded) = Manifest::decode(&changed) {
                assert_ne!(decoded, tree);
                assert_ne!(decoded.id(), tree.id());
            }
        }
    }
    assert!(Manifest::decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Manifest::decode(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn an_unknown_version_names_both() {
    let mut bytes = tree(&[]).encode();
    bytes[0] = 9;
    let error = Manifest::decode(&bytes).unwrap_err();
    assert_eq!(
        error,
        ManifestError::Decode(DecodeError::Version { found: 9, known: 1 })
    );
}

proptest! {
    #[test]
    fn a_manifest_survives_its_encoding(
        files in prop::collection::btree_map("[a-d](/[a-d]){0,3}", ".{0,9}", 0..30)
    ) {
        let mut entries: BTreeMap<RelPath, Entry> = BTreeMap::new();
        for (path, content) in &files {
            let path: RelPath = path.parse().unwrap();
            if !entries.keys().any(|p| p.is_below(&path) || path.is_below(p)) {
                entries.insert(path, file(content));
            }
        }
        let manifest = Manifest::new(entries.into_iter().collect()).unwrap();
        prop_assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(manifest) = Manifest::decode(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}
