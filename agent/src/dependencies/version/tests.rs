use super::specifier::SPECIFIERS_MAX;
use super::*;

fn version(text: &str) -> Version {
    text.parse()
        .unwrap_or_else(|Invalid| panic!("{text} is a version"))
}

#[test]
fn versions_are_ordered_as_pep_440_says() {
    let ordered = "1.dev0 1.0.dev456 1.0a1 1.0a2.dev456 1.0a12.dev456 1.0a12 1.0b1.dev456 1.0b2 \
                   1.0b2.post345.dev456 1.0b2.post345 1.0rc1.dev456 1.0rc1 1.0 1.0+abc.5 1.0+abc.7 \
                   1.0+5 1.0.post456.dev34 1.0.post456 1.1.dev1 1.10 1!0.1";
    let ordered: Vec<&str> = ordered.split_whitespace().collect();
    for pair in ordered.windows(2) {
        assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
    }
    assert_eq!(version("1.0"), version("1"));
    assert_eq!(version("1.0rc1"), version("1-c.1"));
}

#[test]
fn each_spelling_has_one_normal_form() {
    for (text, normal) in [
        ("v1.0", "1.0"),
        ("1.0-alpha.1", "1.0a1"),
        ("1.0_BETA-2", "1.0b2"),
        ("1.0.preview3", "1.0rc3"),
        ("1.0c4", "1.0rc4"),
        ("1.0-5", "1.0.post5"),
        ("1.0.rev6", "1.0.post6"),
        ("1.0-r7", "1.0.post7"),
        ("1.0.dev", "1.0.dev0"),
        ("1.0a", "1.0a0"),
        (
            "1!2.3RC4.POST5.DEV6+Ubuntu-1_x",
            "1!2.3rc4.post5.dev6+ubuntu.1.x",
        ),
        (" 1.0 ", "1.0"),
    ] {
        assert_eq!(version(text).to_string(), normal, "{text}");
        assert_eq!(version(normal).to_string(), normal);
    }
}

#[test]
fn what_is_no_version_is_refused() {
    let long = "1.".repeat(BYTES_MAX);
    for text in [
        "",
        "a",
        "1.",
        "1..2",
        "1.0x",
        "1.0+",
        "1.0+a..b",
        "1 0",
        "1.0.dev1a1",
        "!1",
        "1!",
        "1.é",
        "99999999999999999999999",
        "1.0+99999999999999999999999",
        &long,
    ] {
        assert!(text.parse::<Version>().is_err(), "{text:?} was taken");
    }
}

/// Rules, the versions that are as they say, and those that are not: by pip's own judgement.
const JUDGED: [(&str, &str, &str); 20] = [
    ("==1.0", "1.0 1 1.0.0 1.0+local", "1.0.post1 1.0a1"),
    ("==1.0+local", "1.0+local", "1.0 1.0+other"),
    ("!=1.0", "1.1", "1.0 1.0+l"),
    ("==1.1.*", "1.1 1.1.5 1.1a1 1.1.post1 1.1+x", "1.11 1.2"),
    ("==1.1.0.*", "1.1", "1.1.1"),
    ("!=1.1.*", "1.2", "1.1.3"),
    ("~=2.2", "2.2 2.3 2.2.post1", "3.0 2.2a1 2.1"),
    ("~=1.4.5", "1.4.5 1.4.9", "1.5 1.4.4"),
    ("~=1.4.5a4", "1.4.5a4 1.4.5", "1.5"),
    ("~=2.2.post3", "2.2.post3 2.9", "2.2 3"),
    (">=1.2,<2", "1.2 1.9.9 1.2+l", "2.0 2.0a1 2.0.dev1 1.2a1"),
    ("<2.0a2", "2.0a1", "2.0a2 2.0"),
    (">1.7", "1.7.1 1.8 1.7.1.dev1", "1.7 1.7.post1 1.7+l"),
    (">1.7.post2", "1.7.post3 1.7.1", "1.7.post2"),
    ("<=1.0", "1.0 1.0+l 0.9", "1.0.post1"),
    (">=1.0a1", "1.0a1 1.0", "1.0.dev1"),
    ("===1.0", "1.0", "1 1.0+l"),
    ("==1!1.*", "1!1.5", "1.5"),
    (">1!0", "1!1", "99"),
    ("", "1 2a1", ""),
];

#[test]
fn a_rule_admits_what_pip_admits() {
    for (rule, good, bad) in JUDGED {
        let specifiers: Specifiers = rule.parse().unwrap_or_else(|Invalid| panic!("{rule}"));
        for (versions, admitted) in [(good, true), (bad, false)] {
            for text in versions.split_whitespace() {
                let found = specifiers.contain(&version(text));
                assert_eq!(found, admitted, "{text} by {rule:?}");
            }
        }
    }
}

#[test]
fn what_is_no_rule_is_refused() {
    let many = vec![">1"; SPECIFIERS_MAX + 1].join(",");
    for text in [
        "1.0",
        "=1.0",
        "==",
        "~=1",
        ">=1.0+l",
        "==1.0a1.*",
        "==*",
        ">=1.*",
        "=> 1",
        "==1.0 2.0",
        "~=1.0+l",
        "===a b",
        "===$(x)",
        &many,
    ] {
        assert!(text.parse::<Specifiers>().is_err(), "{text:?} was taken");
    }
}

#[test]
fn a_rule_is_written_without_anything_that_a_shell_would_read() {
    for (text, shown) in [
        (" >= 1.2 , < v2.0-RC1 ,", ">=1.2,<2.0rc1"),
        ("== 1!1.2.*", "==1!1.2.*"),
        ("===1.0+Foo", "===1.0+Foo"),
    ] {
        let specifiers: Specifiers = text.parse().unwrap();
        assert_eq!(specifiers.to_string(), shown);
    }
    assert!("==1.0".parse::<Specifiers>().unwrap().is_exact());
    assert!(!"==1.*,>=1".parse::<Specifiers>().unwrap().is_exact());
}
