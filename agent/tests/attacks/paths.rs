//! Entries that would lead out of the release's directory, or that no tree has.

use codevol_protocol::codec;
use codevol_protocol::manifest::Manifest;

use crate::craft::{PUBLISHER, Push, RawEntry, key, push_of_entries, raw_file, raw_link, record};
use crate::scene::Scene;

async fn all_are_refused(cases: &[&[(&str, RawEntry)]]) {
    let mut scene = Scene::begin().await;
    for entries in cases {
        let what: String = format!("{entries:?}").chars().take(120).collect();
        let push = push_of_entries(scene.next(), entries);
        let failure = scene.refuses(&what, &push).await;
        assert_eq!(failure.kind.as_str(), "refused", "{what}: {failure:?}");
        assert!(!failure.retryable, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_could_leave_the_release_is_refused() {
    let long = "x".repeat(256);
    let longer = "d/".repeat(2_100) + "x";
    let deep = "d/".repeat(128) + "x";
    let x = || raw_file("x");
    all_are_refused(&[
        &[("../x", x())],
        &[("a/../../x", x())],
        &[("..", x())],
        &[("/etc/cron.d/x", x())],
        &[("a//b", x())],
        &[("./a", x())],
        &[("a/.", x())],
        &[("a/", x())],
        &[("", x())],
        &[(&long, x())],
        &[(&longer, x())],
        &[(&deep, x())],
        &[(".codevol", x())],
        &[(".codevol-release.json", x())],
        &[(".codevol/incoming/x", x())],
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_with_control_characters_is_refused() {
    let x = || raw_file("x");
    all_are_refused(&[
        &[("a\0b", x())],
        &[("a\nb", x())],
        &[("a\x1b[31m", x())],
        &[("a\u{7f}", x())],
        &[("a\u{85}", x())],
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_no_tree_is_refused() {
    let x = || raw_file("x");
    all_are_refused(&[
        &[("a", x()), ("a", x())],
        &[("b", x()), ("a", x())],
        &[("a", x()), ("a/b", x())],
        &[("a", RawEntry::Dir), ("a/b", x())],
        &[("a", raw_link("b")), ("a/b", x())],
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leaves_the_tree_is_refused() {
    all_are_refused(&[
        &[("a", raw_link("/etc/passwd"))],
        &[("a", raw_link("/proc/self/environ"))],
        &[("a", raw_link("../../x"))],
        &[("a", raw_link("../canary/x"))],
        &[("a", raw_link("b/../../x"))],
        &[("a", raw_link(""))],
        &[("a", raw_link("b\0c"))],
        // `d` is the root itself, so `e` leaves it only by way of `d`.
        &[("s/d", raw_link("..")), ("s/e", raw_link("d/../x"))],
        &[("a", raw_link("b/c")), ("b/c", raw_link("../../x"))],
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_no_text_and_a_mode_that_is_none_are_refused() {
    // One entry: its path as bytes, its kind, what the kind holds.
    let blob = *blake3::hash(b"x").as_bytes();
    let good = [&[1, 1, 1, b'a', 0][..], &blob, &[1, 0]].concat();
    assert_eq!(good, codec::encode_record(1, &vec![("a", raw_file("x"))]));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let last = good.len() - 1;
    let mut scene = Scene::begin().await;
    for (what, bytes) in [
        ("a path that is not UTF-8", changed(3, 0xff)),
        ("a kind that there is not", changed(4, 3)),
        // All there is of a mode is whether a file may be executed: no room for setuid.
        ("a mode bit that there is not", changed(last, 0o2)),
        ("a mode of setuid, setgid and sticky", changed(last, 0o7)),
        ("a version that there is not", changed(0, 2)),
        ("a byte too many", [&good[..], &[0]].concat()),
        ("a byte too few", good[..last].to_vec()),
        ("a number in more bytes than it needs", {
            let mut bytes = good.clone();
            bytes.splice(1..2, [0x81, 0]);
            bytes
        }),
    ] {
        let mut record = record(scene.next(), &bytes, &Manifest::default());
        (record.entries, record.total_bytes) = (1, 1);
        let push = Push::raw(record.sign(&key(PUBLISHER)), &bytes);
        let failure = scene.refuses(what, &push).await;
        assert_eq!(failure.kind.as_str(), "refused", "{what}: {failure:?}");
    }
}
