//! The screens that are one table.

use codevol_protocol::call::{IgnoredPath, LogEntry, Member, ReleaseResult};
use codevol_protocol::key::SecretKey;
use codevol_protocol::release::Origin;
use codevol_protocol::role::Role;
use insta::assert_snapshot;

use super::sample::{self, HOSTILE, NOW, before, plain, text};
use super::{ignored, listed, log, node, one_line};

#[test]
fn what_is_remote_cannot_draw_on_the_screen() {
    assert_snapshot!(one_line(HOSTILE), @r"a\u{1b}[2J\u{1b}]0;x\u{7}\u{d}\n\u{202e}b\tc");
    assert_eq!(one_line(&"x".repeat(100)).len(), 75);
}

#[test]
fn long_lists_of_names_are_counted() {
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let first = |count| listed(names.iter().take(count));
    let shown = [0, 1, 2, 3, 5, 6, 7].map(first).join("\n");
    assert_snapshot!(shown, @"

    a
    a and b
    a, b and c
    a, b, c, d and e
    a, b, c, d, e and 1 more
    a, b, c, d, e and 2 more
    ");
}

fn entries() -> Vec<LogEntry> {
    let mut rollback = sample::release(43);
    rollback.origin = Origin::Rollback;
    rollback.author = text(HOSTILE);
    rollback.message = text("");
    let mut first = sample::release(41);
    (first.git, first.created_at) = (sample::git(true), before(90_000));
    vec![
        LogEntry {
            release: rollback,
            result: ReleaseResult::Live,
        },
        LogEntry {
            release: sample::release(42),
            result: ReleaseResult::Broken,
        },
        LogEntry {
            release: first,
            result: ReleaseResult::Superseded,
        },
    ]
}

#[test]
fn the_log_is_a_table() {
    assert_snapshot!(plain(&log::render(&entries(), NOW)), @r"
    RELEASE       RESULT      WHEN    ORIGIN    BY                                            FILES  GIT             MESSAGE
    r43 4a34a734  live        2h ago  rollback  a\u{1b}[2J\u{1b}]0;x\u{7}\u{d}\n\u{202e}b\tc  204
    r42 4b0f60af  broken      2h ago  push      alice                                         204                    null customer ids
    r41 dd4c9bc7  superseded  1d ago  push      alice                                         204    9c1d0aa, dirty  null customer ids
    ");
    assert_snapshot!(log::render(&[], NOW), @"nothing is published");
}

#[test]
fn one_release_is_told_whole() {
    let mut entry = entries().remove(2);
    entry.release.message = text("two lines,\nboth are shown");
    let errors = [sample::error("dag-01", 41, "verify")];
    assert_snapshot!(plain(&log::story(&entry, &errors, NOW)), @r#"
    r41
      result    superseded
      id        dd4c9bc7c49de68985e4fa6b0db6c29d15a1eb2ada57df1801d3b71a460edb1a
      parent    1e865b6c73bcd91c947d5b90c18245f306617e45ff2ddaf17f4af2bf32cb56f3
      manifest  83d9dab06011479163c7c4d5fa735f911bac86729f56aaa115b7eed2eb66e022
      tree      204 files, 399.5 KiB
      origin    push
      by        alice
      when      2025-11-23T15:00:00.000Z (1d ago)
      git       9c1d0aa, dirty, on main

      two lines,
      both are shown

    On dag-01, in step verify: ModuleNotFoundError: No module named 'polars'
      assets/orders.py:17
          File "assets/orders.py", line 17, in <module>
            import polars as pl
      [12 Dagster frames hidden]
      hint: that server's Python (/opt/venv, 3.11) lacks a package the release imports; codevol sends code, not packages
    "#);
}

#[test]
fn members_are_a_table() {
    let member = |name: &str, online, seen| Member {
        name: name.parse().unwrap(),
        role: Role::Agent,
        key: SecretKey::from_seed(&[7; 32]).public(),
        joined_at: before(300_000),
        last_seen_at: seen,
        online,
    };
    let members = [
        member("dag-01", true, Some(before(30))),
        member("dag-02", false, Some(before(840))),
        member("dag-03", false, None),
    ];
    assert_snapshot!(node::render(&members, NOW), @"
    NODE    ROLE   KEY       JOINED  SEEN
    dag-01  agent  5jfgyy7c  3d ago  now
    dag-02  agent  5jfgyy7c  3d ago  14m ago
    dag-03  agent  5jfgyy7c  3d ago  -
    ");
    assert_snapshot!(node::render(&[], NOW), @"no node is enrolled; `codevol invite` makes a token for one");
}

#[test]
fn what_is_left_out_names_its_rule() {
    let path = |path: &str, rule: Option<&str>| IgnoredPath {
        path: text(path),
        ignored: rule.is_some_and(|rule| !rule.starts_with('!')),
        rule: rule.map(text),
        from: rule.map(|_| text(".gitignore:3")),
    };
    let paths = [
        path("__pycache__/", Some("__pycache__/")),
        path("a.log", Some("*.log")),
    ];
    assert_snapshot!(ignored::render(&paths), @"
    PATH          RULE          FROM
    __pycache__/  __pycache__/  .gitignore:3
    a.log         *.log         .gitignore:3
    ");
    assert_snapshot!(ignored::render(&[]), @"nothing is left out");
    let why = [
        path("a.log", Some("*.log")),
        path("b.log", Some("!b.log")),
        path("c", None),
    ];
    assert_snapshot!(ignored::verdicts(&why), @"
    `a.log` is left out, by `*.log` (.gitignore:3)
    `b.log` is not left out, by `!b.log` (.gitignore:3)
    `c` is not left out: no rule says so
    ");
}
