use codevol_protocol::name::Text;
use insta::assert_snapshot;

use super::*;

fn shape(kind: &str, bytes: Option<u64>, executable: Option<bool>, target: Option<&str>) -> Shape {
    Shape {
        kind: Text::cut(kind),
        bytes,
        executable,
        target: target.map(Text::cut),
    }
}

fn file(path: &str, change: ChangeKind, content: Content) -> FileDiff {
    let plain = shape("file", Some(2_150), Some(false), None);
    FileDiff {
        path: path.parse().unwrap(),
        change,
        old: (change != ChangeKind::Added).then(|| plain.clone()),
        new: (change != ChangeKind::Removed).then_some(plain),
        content,
    }
}

fn text(hunks: &str, lines_cut: u64) -> Content {
    Content::Text {
        hunks: hunks.to_owned(),
        lines_cut,
    }
}

#[test]
fn a_diff_shows_lines_modes_links_and_what_was_cut() {
    let mut mode = file("run.sh", ChangeKind::Changed, Content::Same);
    mode.new = Some(shape("file", Some(2_150), Some(true), None));
    let mut link = file("latest", ChangeKind::Changed, Content::Same);
    link.old = Some(shape("symlink", None, None, Some("r1")));
    link.new = Some(shape("symlink", None, None, Some("r2")));
    let mut made = file("empty", ChangeKind::Added, Content::Same);
    made.new = Some(shape("dir", None, None, None));
    let diff = TreeDiff {
        from: Text::cut("r41"),
        to: Text::cut("tree"),
        files: vec![
            file(
                "a.py",
                ChangeKind::Changed,
                text("@@ -1,2 +1,2 @@\n a\n-b\u{1b}[31m\n+c\r\n", 3),
            ),
            file(
                "b.py",
                ChangeKind::Removed,
                text("@@ -1,1 +1,0 @@\n-x\n", 0),
            ),
            file("c.png", ChangeKind::Added, Content::Binary),
            file("d.csv", ChangeKind::Changed, Content::TooLong),
            file("e.py", ChangeKind::Changed, Content::Unreadable),
            made,
            link,
            mode,
        ],
        files_cut: 12,
    };
    let shown = render(&diff);
    assert!(shown.contains("\u{1b}[32m+c"), "{shown:?}");
    assert_snapshot!(anstream::adapter::strip_str(&shown).to_string(), @r"
    changed a.py (file)
    --- r41/a.py
    +++ tree/a.py
    @@ -1,2 +1,2 @@
     a
    -b\u{1b}[31m
    +c\u{d}
    3 more lines of a.py are not shown
    removed b.py (file)
    --- r41/b.py
    +++ /dev/null
    @@ -1,1 +1,0 @@
    -x
    added c.png (file)
    binary files differ: nothing -> 2.1 KiB
    changed d.csv (file)
    too long to be compared: 2.1 KiB -> 2.1 KiB
    changed e.py (file)
    cannot be read
    added empty (empty directory)
    changed latest (link to r1 -> link to r2)
    changed run.sh (file -> executable)
    12 paths differ too, and are not shown
    ");
    let same = TreeDiff {
        files: Vec::new(),
        files_cut: 0,
        ..diff
    };
    assert_snapshot!(render(&same), @"r41 and tree are the same");
}
