//! Which paths the rules leave out, and what they say of it.

use ignore::gitignore::GitignoreBuilder;

use super::*;

fn rules(config: &[&str], directories: &[(&str, RuleFiles)]) -> Rules {
    let config: Vec<String> = config.iter().map(|&rule| rule.to_owned()).collect();
    let mut rules = Rules::new(&config).unwrap();
    for (dir, files) in directories {
        rules.enter(dir, files.clone()).unwrap();
    }
    rules
}

fn git(text: &str) -> RuleFiles {
    RuleFiles {
        gitignore: Some(text.to_owned()),
        ..RuleFiles::default()
    }
}

fn own(text: &str) -> RuleFiles {
    RuleFiles {
        codevolignore: Some(text.to_owned()),
        ..RuleFiles::default()
    }
}

/// A trailing `/` says that the path is a directory.
fn ignored(rules: &Rules, path: &str) -> bool {
    let is_dir = path.ends_with('/');
    let path = path.trim_end_matches('/').parse().unwrap();
    rules.verdict(&path, is_dir) != Verdict::Included
}

fn check(rules: &Rules, out: &[&str], kept: &[&str]) {
    for path in out {
        assert!(ignored(rules, path), "{path} must be left out");
    }
    for path in kept {
        assert!(!ignored(rules, path), "{path} must be carried");
    }
}

#[test]
fn secrets_and_rubbish_are_left_out_of_every_tree() {
    let out = [
        ".git/",
        ".git",
        "sub/.git",
        ".git/config",
        "a/__pycache__/",
        "a/__pycache__/m.cpython-313.pyc",
        "m.pyc",
        ".venv/lib/python3.13/site.py",
        ".venv-3.13/",
        ".env",
        "a/.env.production",
        "secrets/token",
        "tls.pem",
        "tls.key",
        "id_rsa",
        "id_ed25519.pub",
        ".netrc",
        "#m.py#",
        ".#m.py",
        "m.py~",
        "m.py___jb_tmp___",
        "4913",
        "db.duckdb.wal",
        ".tmp_dagster_home_x/",
    ];
    let kept = [
        ".env.example",
        ".env.local.example",
        "m.py",
        "data/x.csv",
        "storage/m.py",
        "logs/m.py",
        "build/m.py",
        "env/m.py",
        "lib/m.py",
        "secrets",
        "sub/.codevol",
    ];
    check(&rules(&[], &[]), &out, &kept);
}

#[test]
fn tool_state_is_left_out_only_beside_the_tools_own_file() {
    let dagster = RuleFiles {
        dagster: true,
        ..RuleFiles::default()
    };
    let dbt = RuleFiles {
        dbt: true,
        ..RuleFiles::default()
    };
    let rules = rules(&[], &[("home", dagster), ("dbt", dbt)]);
    let out = [
        "home/storage/x",
        "home/schedules/",
        "dbt/logs/dbt.log",
        "dbt/target/run/a.sql",
        "dbt/.user.yml",
    ];
    let kept = [
        "storage/x",
        "home/sub/storage/x",
        "dbt/target/manifest.json",
        "dbt/models/logs/x",
        "target/run/a.sql",
    ];
    check(&rules, &out, &kept);
}

#[test]
fn dbts_manifest_is_kept_whatever_the_other_rules_say() {
    let files = RuleFiles {
        dbt: true,
        ..git("target/\n*.json\n")
    };
    let rules = rules(&["**/manifest.json"], &[("dbt", files)]);
    let out = ["dbt/target/", "dbt/target/other.json", "dbt/target/run/x"];
    check(&rules, &out, &["dbt/target/manifest.json"]);
    assert!(rules.is_walked(&"dbt/target".parse().unwrap()));
    assert!(!rules.is_walked(&"dbt/target/run".parse().unwrap()));
}

#[test]
fn a_deeper_gitignore_beats_those_above_it_and_is_beaten_by_codevols_own() {
    let rules = rules(
        &["d.x"],
        &[
            ("", own("c.x\n")),
            ("a", git("*.x\n!e.x\n")),
            ("a/b", git("!b.x\n!c.x\n!d.x\n")),
        ],
    );
    let out = ["a/b/a.x", "a/b/c.x", "a/b/d.x"];
    check(&rules, &out, &["a/b/b.x", "a/b/e.x", "b.x"]);
}

#[test]
fn a_later_rule_brings_back_what_it_names_in_an_ignored_directory() {
    let rules = rules(
        &[],
        &[(
            "",
            RuleFiles {
                codevolignore: Some("!/.venv/bin/tool.py\n!build/k*/*.py\n!x/**/y\n".to_owned()),
                ..git("build/\n/x/\n")
            },
        )],
    );
    let out = [".venv/bin/other.py", "build/a.py", "build/k/a.txt", "x/z"];
    let kept = [".venv/bin/tool.py", "build/keep/a.py", "x/y", "x/a/b/y"];
    check(&rules, &out, &kept);
    for (dir, walked) in [
        (".venv", true),
        (".venv/bin", true),
        (".venv/lib", false),
        ("build", true),
        ("build/keep", true),
        ("build/other", false),
        ("x/a/b", true),
    ] {
        assert_eq!(rules.is_walked(&dir.parse().unwrap()), walked, "{dir}");
    }
}

#[test]
fn a_rule_that_names_no_directory_brings_nothing_back_from_an_ignored_one() {
    let rules = rules(&["!*.py", "!**/m.py"], &[]);
    check(&rules, &[".venv/m.py", ".venv/"], &["m.py"]);
    assert!(!rules.is_walked(&".venv".parse().unwrap()));
}

#[test]
fn a_weaker_rule_does_not_bring_back_what_a_stronger_one_ignores() {
    let rules = rules(&["build/"], &[("", git("!build/m.py\n"))]);
    check(&rules, &["build/m.py"], &[]);
    assert!(!rules.is_walked(&"build".parse().unwrap()));
}

#[test]
fn the_verdict_names_the_rule_and_where_it_stands() {
    let rules = rules(&["scratch/**"], &[("a", git("# logs\n\n*.log\n"))]);
    for (path, rule, from) in [
        ("a/x/y.log", "*.log", "a/.gitignore:3"),
        ("scratch/x", "scratch/**", "configuration:1"),
        (".venv/lib/x.py", ".venv/", "built-in"),
    ] {
        let (rule, from) = (rule.to_owned(), from.to_owned());
        let verdict = rules.verdict(&path.parse().unwrap(), false);
        assert_eq!(verdict, Verdict::Ignored { rule, from }, "{path}");
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_an_error_that_names_it() {
    let mut rules = rules(&[], &[]);
    let error = rules.enter("a", git("ok\nb{\n")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read ignore rule `b{` (a/.gitignore:2)"
    );
    let long = "x\n".repeat(600_000);
    assert!(matches!(
        rules.enter("a", git(&long)),
        Err(RulesError::TooLong)
    ));
}

#[test]
fn the_canonical_text_means_at_the_root_what_the_lists_mean_in_their_places() {
    let dbt = RuleFiles {
        dbt: true,
        ..git("*.log\n/top\nmid/deep\n!sub/\n")
    };
    let files = [
        ("", git("*.x\n")),
        ("a[1]", dbt),
        ("a[1]/b", git("!k.x\n\\!odd\n")),
    ];
    let rules = rules(&["!k.log"], &files);
    let text = String::from_utf8(rules.canonical_text()).unwrap();
    let mut builder = GitignoreBuilder::new("");
    for line in text.lines() {
        builder.add_line(None, line).unwrap();
    }
    let single = builder.build().unwrap();
    for path in [
        "m.x",
        "a[1]/m.x",
        "a[1]/b/k.x",
        "k.x",
        "a[1]/m.log",
        "a[1]/c/m.log",
        "m.log",
        "a[1]/k.log",
        "a[1]/top",
        "a[1]/c/top",
        "a[1]/mid/deep",
        "a[1]/c/mid/deep",
        "a[1]/target/manifest.json",
        "a[1]/target/run",
        "a[1]/b/!odd",
        "a1/m.log",
        "tls.key",
    ] {
        let expected = single.matched(path, false).is_ignore();
        assert_eq!(ignored(&rules, path), expected, "{path}");
    }
}
