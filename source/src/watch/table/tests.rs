//! The table by single events, those that cannot be made to order among them.

use std::fs;

use super::*;

fn rel(path: &str) -> RelPath {
    path.parse().unwrap()
}

fn rules() -> Arc<Rules> {
    Arc::new(Rules::new(&[]).unwrap())
}

fn event(watch: i32, flags: ReadFlags, name: Option<&[u8]>) -> Event {
    let name = name.map(<[u8]>::to_vec);
    Event { watch, flags, name }
}

#[test]
fn what_a_scan_finds_before_the_watch_is_to_be_looked_at_once_more() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let mut table = Table::new(dir.path(), None).unwrap();
    let both = [rel("a"), rel("a/b")];
    assert_eq!(table.follow(&both, rules(), false).unwrap().unwrap(), both);
    assert!(
        table
            .follow(&both, rules(), false)
            .unwrap()
            .unwrap()
            .is_empty()
    );
    assert_eq!(table.len(), 3);
}

#[test]
fn a_root_in_the_place_of_the_watched_one_is_watched_from_the_next_whole_scan_on() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("a")).unwrap();
    let mut table = Table::new(&root, None).unwrap();
    let below = [rel("a")];
    assert!(table.follow(&below, rules(), true).unwrap().is_some());
    fs::rename(&root, dir.path().join("aside")).unwrap();
    fs::create_dir_all(root.join("a")).unwrap();
    assert!(table.follow(&below, rules(), false).unwrap().is_some());
    // Nobody knows what changed in it between the scan and the watch.
    assert_eq!(table.follow(&below, rules(), true).unwrap(), None);
    drop(table.read());
    fs::File::create(root.join("b")).unwrap();
    fs::File::create(root.join("a/c")).unwrap();
    let seen: Vec<_> = table.read().dirty.into_keys().collect();
    assert_eq!(seen, [rel("a/c"), rel("b")]);
    assert_eq!(table.len(), 2);
}

#[test]
fn the_end_of_a_path_does_not_end_the_watch_of_the_directory_that_was_renamed_from_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let mut table = Table::new(dir.path(), None).unwrap();
    table.follow(&[rel("a")], rules(), false).unwrap();
    fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    // The scan knows, and the events that say so are still to come.
    let both = [rel("a"), rel("b")];
    table.follow(&both, rules(), false).unwrap();
    table.follow(&[rel("b")], rules(), false).unwrap();
    let watch = table.by_path.get(&rel("b")).unwrap();
    assert_eq!(table.by_watch.get(watch), Some(&Watched::Dir(rel("b"))));
    inotify::remove_watch(&*table.inotify, *watch).unwrap();
}

#[test]
fn after_an_overflow_the_next_whole_scan_watches_everything_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let mut table = Table::new(dir.path(), None).unwrap();
    table.follow(&[rel("a")], rules(), true).unwrap();
    // `a` is another directory now, and the events that said so are lost.
    fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let mut news = News::default();
    table.take_in(event(-1, ReadFlags::QUEUE_OVERFLOW, None), &mut news);
    assert_eq!(news.unsure, [UnsureReason::Overflow]);
    let both = [rel("a"), rel("b")];
    assert!(
        table
            .follow(&[rel("a")], rules(), false)
            .unwrap()
            .unwrap()
            .is_empty()
    );
    assert_eq!(table.follow(&both, rules(), true).unwrap().unwrap(), both);
    assert!(
        table
            .follow(&both, rules(), true)
            .unwrap()
            .unwrap()
            .is_empty()
    );
    let outside = tempfile::tempdir().unwrap();
    fs::rename(dir.path().join("b"), outside.path().join("b")).unwrap();
    fs::create_dir(dir.path().join("b")).unwrap();
    table.stale = true;
    table.follow(&both, rules(), true).unwrap();
    // The root's, and one for each inode, each known by its path.
    assert_eq!((table.len(), table.by_path.len()), (3, 2));
    for (path, watch) in &table.by_path {
        assert_eq!(table.by_watch.get(watch), Some(&Watched::Dir(path.clone())));
    }
}

#[test]
fn the_last_write_or_close_of_a_batch_is_what_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::new(dir.path(), None).unwrap();
    let root = *table.by_watch.keys().next().unwrap();
    let (modify, close) = (ReadFlags::MODIFY, ReadFlags::CLOSE_WRITE);
    for (flags, kind) in [
        (vec![ReadFlags::CREATE, modify, close], DirtyKind::Closed),
        (vec![modify, close, modify], DirtyKind::Modified),
        (vec![modify, ReadFlags::ATTRIB], DirtyKind::Modified),
        (vec![modify, ReadFlags::MOVED_FROM], DirtyKind::Closed),
        (vec![ReadFlags::ATTRIB], DirtyKind::Other),
    ] {
        let mut news = News::default();
        for flag in flags {
            table.take_in(event(root, flag, Some(b"a")), &mut news);
        }
        assert_eq!(news.dirty, BTreeMap::from([(rel("a"), kind)]));
    }
}

#[test]
fn a_name_that_is_no_path_makes_its_directory_dirty() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let mut table = Table::new(dir.path(), None).unwrap();
    table.follow(&[rel("d")], rules(), true).unwrap();
    let watch = table.by_path.get(&rel("d")).copied().unwrap();
    let mut news = News::default();
    table.take_in(event(watch, ReadFlags::CREATE, Some(b"\xff")), &mut news);
    assert_eq!(news.dirty, BTreeMap::from([(rel("d"), DirtyKind::Other)]));
    assert!(news.unsure.is_empty());
}
