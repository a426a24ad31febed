//! What people and scripts read of each command, whole: screens and documents as a real fleet gives
//! them. What no two runs have in common stands in brackets: `[id]`, `[at]`, `[took]`.

#![expect(
    clippy::too_many_lines,
    reason = "the lines of what a command prints are counted as code"
)]

mod breaking;
mod enrolling;
mod looking;
mod publishing;
mod refusing;
mod storing;

/// What is different each time, and what it is replaced by.
const FILTERS: [(&str, &str); 18] = [
    ("cvj1[a-z2-7]+", "[token]"),
    ("ed25519:[a-z2-7]+", "[key]"),
    ("(agent|operator|publisher)  [a-z2-7]{8}  ", "$1  [key]  "),
    (
        "key [a-z2-7]{8} in place of [a-z2-7]{8}",
        "key [key] in place of [key]",
    ),
    ("[0-9a-f]{64}", "[id]"),
    (r"\b(r\d+) [0-9a-f]{8}\b", "$1 [id]"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{3}Z?", "[at]"),
    (
        r#""((elapsed|hashed|rtt|load)_ms)":[\d.]+"#,
        r#""$1":[took]"#,
    ),
    (r"\b(\d+\.\d\d ms|\d+ ms|\d+\.\ds)\b", "[took]"),
    (r"\b\d+s ago\b", "now"),
    ("by process [0-9]+", "by process [pid]"),
    // How well a delta is compressed depends on ids and keys.
    (r#"("elapsed_ms":\[took\],"bytes"):\d+"#, "$1:[n]"),
    (r"ok [\d.]+ (B|KiB)\b", "ok [n] B"),
    (r"\([\d.]+ (B|KiB), ", "([n] B, "),
    (r"127\.0\.0\.1:\d+", "[address]"),
    // What the journal holds besides depends on how the links fared.
    (r#""line":\d+,"(at|set_back)""#, r#""line":[n],"$1""#),
    (
        r#""lines":\d+,"first":1,"last":\d+"#,
        r#""lines":[n],"first":1,"last":[n]"#,
    ),
    (
        r"(?m)^\d+ lines in 1 file, 1 to \d+",
        "[n] lines in 1 file, 1 to [n]",
    ),
];

/// Has what is different each time replaced in what is compared from now on.
pub(super) fn filtered() -> insta::internals::SettingsBindDropGuard {
    let mut settings = insta::Settings::clone_current();
    for (pattern, replacement) in FILTERS {
        settings.add_filter(pattern, replacement);
    }
    settings.bind_to_scope()
}
