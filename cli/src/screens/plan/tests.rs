use codevol_protocol::call::{Change, ChangeKind, Lines, PushPlan};
use codevol_protocol::release::Seq;
use codevol_protocol::status::Skipped;
use insta::assert_snapshot;

use super::{dry_run, published};
use crate::screens::sample::{HOSTILE, release, text};

fn plan() -> PushPlan {
    let change = |path: &str, kind| Change {
        path: path.parse().unwrap(),
        kind,
    };
    PushPlan {
        release: Some(release(42)),
        base: Some(Seq(41)),
        changes: vec![
            change("assets/new.py", ChangeKind::Added),
            change("assets/orders.py", ChangeKind::Changed),
            change("old.py", ChangeKind::Removed),
        ],
        hashed_files: 2,
        hashed_bytes: 2_150,
        hashed_ms: 4,
        ..PushPlan::new("pipes".parse().unwrap(), 300_000)
    }
}

#[test]
fn a_push_says_what_it_publishes() {
    assert_snapshot!(published(&plan()), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r42 = r41 + 1 changed, 1 added, 1 removed
    ");
}

const fn lines(added: u64, removed: u64, uncounted: u64) -> Option<Lines> {
    Some(Lines {
        added,
        removed,
        uncounted,
    })
}

#[test]
fn changed_lines_stand_at_the_right() {
    let mut plan = plan();
    plan.lines = lines(12, 0, 0);
    assert_snapshot!(published(&plan), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r42 = r41 + 1 changed, 1 added, 1 removed  +12 -0 lines
    ");
    plan.changes
        .retain(|change| change.kind == ChangeKind::Changed);
    plan.lines = lines(4, 1, 0);
    assert_snapshot!(published(&plan), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r42 = r41 + 1 changed         +4 -1 lines
    ");
    plan.release = None;
    assert_snapshot!(dry_run(&plan), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r41 + 1 changed, not published  +4 -1 lines

      ~ assets/orders.py
    ");
}

#[test]
fn files_whose_lines_are_not_counted_are_told() {
    let mut plan = plan();
    plan.lines = lines(4, 1, 1);
    assert_snapshot!(published(&plan), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r42 = r41 + 1 changed, 1 added, 1 removed  +4 -1 lines, 1 file not counted
    ");
    plan.lines = lines(0, 0, 3);
    assert_snapshot!(published(&plan), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r42 = r41 + 1 changed, 1 added, 1 removed
    ");
}

#[test]
fn a_push_of_nothing_new_says_so() {
    let mut plan = plan();
    plan.changes.clear();
    (plan.unchanged, plan.hashed_files) = (true, 0);
    assert_snapshot!(published(&plan), @"Release  r42, which the tree equals");
    plan.release = None;
    assert_snapshot!(dry_run(&plan), @"Release  none: the tree is r41");
}

#[test]
fn a_push_of_a_release_that_is_there_says_what_that_changed() {
    let mut plan = plan();
    (plan.unchanged, plan.hashed_files) = (true, 0);
    assert_snapshot!(
        published(&plan),
        @"Release  r42 = r41 + 1 changed, 1 added, 1 removed, which the tree equals"
    );
}

#[test]
fn a_dry_run_lists_the_paths() {
    let mut plan = plan();
    plan.release = None;
    assert_snapshot!(dry_run(&plan), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r41 + 1 changed, 1 added, 1 removed, not published

      + assets/new.py
      ~ assets/orders.py
      - old.py
    ");
}

#[test]
fn long_lists_are_cut_and_counted() {
    let mut plan = plan();
    plan.release = None;
    let change = |n| Change {
        path: format!("f{n}").parse().unwrap(),
        kind: ChangeKind::Added,
    };
    plan.changes = (0..1_000).map(change).collect();
    plan.changes_more = 7;
    let screen = dry_run(&plan);
    assert_eq!(screen.lines().count(), 54);
    assert!(screen.starts_with("Hashed"), "{screen}");
    assert!(screen.ends_with("\n  and 957 more"), "{screen}");
}

#[test]
fn what_cannot_be_carried_is_listed() {
    let mut plan = plan();
    let skipped = |path: &str| Skipped {
        path: text(path),
        why: text("socket is not carried"),
    };
    plan.skipped = vec![skipped("run.sock"), skipped(HOSTILE)];
    assert_snapshot!(published(&plan), @r"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r42 = r41 + 1 changed, 1 added, 1 removed
    Left out 2 paths that cannot be carried:
      run.sock: socket is not carried
      a\u{1b}[2J\u{1b}]0;x\u{7}\u{d}\n\u{202e}b\tc: socket is not carried
    ");
}

#[test]
fn the_first_release_has_no_base() {
    let mut plan = plan();
    plan.base = None;
    assert_snapshot!(published(&plan), @"
    Hashed   2 files (2.1 KiB)             4 ms
    Release  r42 = 1 changed, 1 added, 1 removed
    ");
}

#[test]
fn a_release_without_changes_is_named_alone() {
    let mut plan = plan();
    plan.changes.clear();
    plan.hashed_files = 0;
    assert_snapshot!(published(&plan), @"Release  r42, the same tree as r41");
    plan.base = None;
    assert_snapshot!(published(&plan), @"Release  r42");
}
