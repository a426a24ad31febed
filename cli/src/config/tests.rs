use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use codevol_agent::config::{Address, CodeServerConfig, DependencyPolicy};
use codevol_protocol::evidence::CodeServerKind;
use codevol_protocol::rollout::{Canary, OnBroken, Policy, RequireOnline, Wave};
use codevol_source::config::{PublishMode, WatchMode};
use insta::assert_snapshot;

use super::*;

const FILE: &str = "/etc/codevol/codevol.toml";

const SOURCE: &str = r#"role = "source"
[[volume]]
name = "pipes"
path = "/srv/pipes"
"#;

const AGENT: &str = r#"role = "agent"
source = ["src01:7443"]
[[volume]]
name = "pipes"
root = "/opt/dagster/app"
"#;

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, CommandError> {
    let named = |(name, value): &(&str, &str)| ((*name).to_owned(), OsString::from(value));
    let environment = Environment::new(variables.iter().map(named));
    Config::parse(text, Path::new(FILE), None, &environment)
}

fn parse(text: &str) -> Result<Loaded, CommandError> {
    parse_with(text, &[])
}

fn source(loaded: Loaded) -> SourceConfig {
    match loaded.config {
        Config::Source(config) => config,
        other @ (Config::Agent(_) | Config::Operator(_)) => panic!("not a source: {other:?}"),
    }
}

fn agent(loaded: Loaded) -> AgentConfig {
    match loaded.config {
        Config::Agent(config) => config,
        other @ (Config::Source(_) | Config::Operator(_)) => panic!("not an agent: {other:?}"),
    }
}

/// What a person sees of the faults.
fn faults(result: Result<Loaded, CommandError>) -> String {
    let error = result.expect_err("a faulty configuration was taken");
    assert_eq!(error.exit.code(), 78);
    assert_eq!(error.kind, "config");
    format!("{}\n{}", error.message, error.details.unwrap_or_default())
}

#[test]
fn two_keys_make_a_source() {
    let config = source(parse(SOURCE).unwrap());
    let file = Path::new(FILE);
    let name = "pipes".parse().unwrap();
    let expected = source_defaults(file, name, Path::new("/srv/pipes")).unwrap();
    assert_eq!(config, expected);
    assert_eq!(config.state_dir, Path::new("/etc/codevol/state"));
    assert_eq!(
        config.control_socket,
        Path::new("/etc/codevol/state/control.sock")
    );
    assert_eq!(config.listen.to_string(), "[::]:7443");
}

#[test]
fn every_key_of_a_source_is_read() {
    let text = r#"
role = "source"
listen = "127.0.0.1:0"
advertise = "src01:7443"
state_dir = "/var/lib/codevol/source"
control_socket = "/run/codevol/source.sock"
[[volume]]
name = "pipes"
path = "../tree"
publish = "manual"
ignore = ["scratch/**", "*.log"]
keep = 3
[volume.watch]
mode = "poll"
settle = "50ms"
settle_max = "3s"
rescan = "5m"
[volume.rollout]
canary = 2
wave = "50%"
on_broken = "stop"
require_online = "all"
verify_timeout = "2m"
"#;
    let config = source(parse(text).unwrap());
    assert_eq!(config.listen.port(), 0);
    assert_eq!(config.advertise.as_deref(), Some("src01:7443"));
    assert_eq!(config.state_dir, Path::new("/var/lib/codevol/source"));
    assert_eq!(config.control_socket, Path::new("/run/codevol/source.sock"));
    let volume = &config.volumes[0];
    assert_eq!(volume.path, Path::new("/etc/codevol/../tree"));
    assert_eq!(volume.publish, PublishMode::Manual);
    assert_eq!(volume.ignore, ["scratch/**", "*.log"]);
    assert_eq!(volume.keep, 3);
    assert_eq!(volume.watch.mode, WatchMode::Poll);
    assert_eq!(volume.watch.settle, Duration::from_millis(50));
    assert_eq!(volume.watch.settle_max, Duration::from_secs(3));
    assert_eq!(volume.watch.rescan, Duration::from_secs(300));
    let policy = Policy {
        canary: Canary::Nodes(2),
        wave: Wave::Percent(50),
        on_broken: OnBroken::Stop,
        require_online: RequireOnline::All,
        verify_timeout: Duration::from_secs(120),
    };
    assert_eq!(volume.rollout, policy);
}

#[test]
fn a_canary_and_a_wave_are_a_word_or_a_number_within_bounds() {
    let with = |lines: &str| parse(&format!("{SOURCE}[volume.rollout]\n{lines}\n"));
    let read = |lines: &str| source(with(lines).unwrap()).volumes[0].rollout;
    assert_eq!(read("canary = 0").canary, Canary::Nodes(0));
    assert_eq!(read("canary = \"3\"").canary, Canary::Nodes(3));
    assert_eq!(read("wave = 1").wave, Wave::Nodes(1));
    assert_eq!(read("wave = \"100%\"").wave, Wave::Percent(100));
    let variable = [("CODEVOL_VOLUME__0__ROLLOUT__CANARY", "4")];
    let set = parse_with(SOURCE, &variable).unwrap();
    assert_eq!(source(set).volumes[0].rollout.canary, Canary::Nodes(4));
    let faulty = "canary = -1\nwave = 0\non_broken = \"halt\"\nrequire_online = \"al\"";
    assert_snapshot!(faults(with(faulty)), @r#"
    configuration `/etc/codevol/codevol.toml` has 4 faults
    /etc/codevol/codevol.toml:6:10: `-1` is neither `auto` nor a whole number from 0 to 20000
      |
    6 | canary = -1
      |          ^^

    /etc/codevol/codevol.toml:7:8: `0` is neither `all`, nor a whole number from 1 to 20000, nor `1%` to `100%`
      |
    7 | wave = 0
      |        ^

    /etc/codevol/codevol.toml:8:13: `halt` is not one of `return`, `stop`
      |
    8 | on_broken = "halt"
      |             ^^^^^^

    /etc/codevol/codevol.toml:9:18: `al` is not one of `any`, `all`; did you mean `all`?
      |
    9 | require_online = "al"
      |                  ^^^^
    "#);
    assert_snapshot!(faults(with("canary = true\nwave = \"0%\"")), @r#"
    configuration `/etc/codevol/codevol.toml` has 2 faults
    /etc/codevol/codevol.toml:6:10: `canary` must be a string or a whole number, not a boolean
      |
    6 | canary = true
      |          ^^^^

    /etc/codevol/codevol.toml:7:8: `0%` is neither `all`, nor a whole number from 1 to 20000, nor `1%` to `100%`
      |
    7 | wave = "0%"
      |        ^^^^
    "#);
}

#[test]
fn every_key_of_an_agent_is_read() {
    let text = r#"
role = "agent"
source = ["src01:7443", "[::1]:7443"]
[[volume]]
name = "pipes"
root = "app"
layout = "releases"
keep = 9
dependencies = "refuse"
python = "venv/bin/python"
requirements = ["a/requirements.txt"]
[[volume.code_server]]
address = "127.0.0.1:4000"
python = "/opt/other/bin/python"
[[volume.code_server]]
address = "unix:/run/code.sock"
kind = "api-grpc"
verify_timeout = "2m"
"#;
    let config = agent(parse(text).unwrap());
    assert_eq!(config.source, ["src01:7443", "[::1]:7443"]);
    let volume = &config.volumes[0];
    assert_eq!(volume.root, Path::new("/etc/codevol/app"));
    assert_eq!(volume.keep, 9);
    assert_eq!(volume.dependencies, DependencyPolicy::Refuse);
    let python = volume.python.as_deref();
    assert_eq!(python, Some(Path::new("/etc/codevol/venv/bin/python")));
    assert_eq!(volume.requirements, ["a/requirements.txt".parse().unwrap()]);
    let server = |address, kind, seconds, python: Option<&str>| CodeServerConfig {
        address,
        kind,
        verify_timeout: Duration::from_secs(seconds),
        python: python.map(Into::into),
    };
    let other = Some("/opt/other/bin/python");
    let tcp = Address::Tcp("127.0.0.1:4000".to_owned());
    let unix = Address::Unix("/run/code.sock".into());
    assert_eq!(
        volume.code_servers,
        [
            server(tcp, CodeServerKind::Auto, 60, other),
            server(unix, CodeServerKind::ApiGrpc, 120, None)
        ]
    );
}

#[test]
fn metrics_are_served_where_an_address_says_so_and_nowhere_else() {
    for text in [SOURCE, AGENT] {
        let metrics = |loaded: Loaded| match loaded.config {
            Config::Source(config) => config.metrics,
            Config::Agent(config) => config.metrics,
            Config::Operator(_) => None,
        };
        assert_eq!(metrics(parse(text).unwrap()), None);
        let address = "127.0.0.1:9464".parse().ok();
        let written = format!("{text}[metrics]\nlisten = \"127.0.0.1:9464\"\n");
        assert_eq!(metrics(parse(&written).unwrap()), address);
        let variable = [("CODEVOL_METRICS__LISTEN", "127.0.0.1:9464")];
        let set = parse_with(text, &variable).unwrap();
        assert_eq!(set.warnings, Vec::<String>::new());
        assert_eq!(metrics(set), address);
    }
    let faulty = format!("{SOURCE}[metrics]\nlisten = \"9464\"\nport = 1\n");
    assert_snapshot!(faults(parse(&faulty)), @r#"
    configuration `/etc/codevol/codevol.toml` has 2 faults
    /etc/codevol/codevol.toml:6:10: `9464` is not an address and port, as `127.0.0.1:9464`
      |
    6 | listen = "9464"
      |          ^^^^^^

    /etc/codevol/codevol.toml:7:1: unknown key `port`
      |
    7 | port = 1
      | ^^^^
    "#);
}

#[test]
fn an_operator_needs_only_the_source() {
    let loaded = parse("role = \"operator\"\nsource = [\"src01:7443\"]\n").unwrap();
    let expected = OperatorConfig {
        source: vec!["src01:7443".to_owned()],
        state_dir: "/etc/codevol/state".into(),
    };
    assert_eq!(loaded.config, Config::Operator(expected));
}

#[test]
fn an_unknown_key_is_shown_with_a_caret_and_the_key_that_was_meant() {
    assert_snapshot!(faults(parse(&SOURCE.replace("role = \"source\"", "role = \"source\"\nlisen = \"[::]:7443\""))), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:2:1: unknown key `lisen`
      |
    2 | lisen = "[::]:7443"
      | ^^^^^ did you mean `listen`?
    "#);
}

#[test]
fn a_key_of_a_later_feature_or_of_the_other_role_is_unknown() {
    let text = SOURCE.to_owned() + "root = \"/x\"\n[volume.hooks]\npost = 1\n";
    assert_snapshot!(faults(parse(&text)), @r#"
    configuration `/etc/codevol/codevol.toml` has 2 faults
    /etc/codevol/codevol.toml:5:1: unknown key `root`
      |
    5 | root = "/x"
      | ^^^^

    /etc/codevol/codevol.toml:6:9: unknown key `hooks`
      |
    6 | [volume.hooks]
      |         ^^^^^
    "#);
    let text = AGENT.replace(
        "root = \"/opt/dagster/app\"",
        "root = \"/app\"\nlayout = \"in-place\"\n",
    );
    assert_snapshot!(faults(parse(&text)), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:6:10: `in-place` is not one of `releases`
      |
    6 | layout = "in-place"
      |          ^^^^^^^^^^
    "#);
}

#[test]
fn a_value_of_the_wrong_type_is_told_in_words() {
    let text = r#"role = "source"
listen = 7443
[[volume]]
name = true
path = ["/srv"]
ignore = "scratch"
keep = "3"
watch = 2
"#;
    assert_snapshot!(faults(parse(text)), @r#"
    configuration `/etc/codevol/codevol.toml` has 6 faults
    /etc/codevol/codevol.toml:2:10: `listen` must be a string, not an integer
      |
    2 | listen = 7443
      |          ^^^^

    /etc/codevol/codevol.toml:4:8: `name` must be a string, not a boolean
      |
    4 | name = true
      |        ^^^^

    /etc/codevol/codevol.toml:5:8: `path` must be a string, not a list
      |
    5 | path = ["/srv"]
      |        ^^^^^^^^

    /etc/codevol/codevol.toml:6:10: `ignore` must be a list of strings, not a string
      |
    6 | ignore = "scratch"
      |          ^^^^^^^^^

    /etc/codevol/codevol.toml:7:8: `keep` must be a whole number, not a string
      |
    7 | keep = "3"
      |        ^^^

    /etc/codevol/codevol.toml:8:9: `watch` must be a table, not an integer
      |
    8 | watch = 2
      |         ^
    "#);
    assert_snapshot!(faults(parse("role = \"source\"\nvolume = 3\n")), @"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:2:10: `volume` must be a list of tables, each under `[[volume]]`, not an integer
      |
    2 | volume = 3
      |          ^
    ");
    assert_snapshot!(faults(parse("role = \"source\"\nvolume = [3]\n")), @"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:2:11: `volume` must be a table, not an integer
      |
    2 | volume = [3]
      |           ^
    ");
}

#[test]
fn a_bad_duration_is_told_with_its_unit_or_bounds() {
    for bad in [
        "20",
        "ms",
        "",
        "-1s",
        "1.5s",
        "20 ms",
        "20msx",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        assert!(duration(bad).is_err(), "{bad:?} was taken");
    }
    let text = SOURCE.to_owned()
        + "[volume.watch]\nsettle = \"20\"\nsettle_max = \"2h\"\nrescan = \"0s\"\n";
    assert_snapshot!(faults(parse(&text)), @r#"
    configuration `/etc/codevol/codevol.toml` has 3 faults
    /etc/codevol/codevol.toml:6:10: `20` is not a duration: write a whole number and ms, s, m, h or d, as `20ms` or `15m`
      |
    6 | settle = "20"
      |          ^^^^

    /etc/codevol/codevol.toml:7:14: `2h` is not between 1ms and 600s
      |
    7 | settle_max = "2h"
      |              ^^^^

    /etc/codevol/codevol.toml:8:10: `0s` is not between 1s and 86400s
      |
    8 | rescan = "0s"
      |          ^^^^
    "#);
}

#[test]
fn settle_is_not_longer_than_settle_max() {
    let text = SOURCE.to_owned() + "[volume.watch]\nsettle = \"3s\"\n";
    assert_snapshot!(faults(parse(&text)), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:6:10: `settle` (3s) is longer than `settle_max` (2s)
      |
    6 | settle = "3s"
      |          ^^^^
    "#);
}

#[test]
fn a_bad_name_or_address_is_shown() {
    let text = r#"role = "agent"
source = ["src01", "src01:0", "[::1:7443", "a b:1"]
[[volume]]
name = "Pipes"
root = "~/app"
[[volume.code_server]]
address = "unix:run/x"
kind = "codeserver"
[[volume.code_server]]
address = "4000"
"#;
    assert_snapshot!(faults(parse(text)), @r#"
    configuration `/etc/codevol/codevol.toml` has 9 faults
    /etc/codevol/codevol.toml:2:11: `src01` is not `host:port`, as `src01:7443` or `[::1]:7443`
      |
    2 | source = ["src01", "src01:0", "[::1:7443", "a b:1"]
      |           ^^^^^^^

    /etc/codevol/codevol.toml:2:20: `src01:0` is not `host:port`, as `src01:7443` or `[::1]:7443`
      |
    2 | source = ["src01", "src01:0", "[::1:7443", "a b:1"]
      |                    ^^^^^^^^^

    /etc/codevol/codevol.toml:2:31: `[::1:7443` is not `host:port`, as `src01:7443` or `[::1]:7443`
      |
    2 | source = ["src01", "src01:0", "[::1:7443", "a b:1"]
      |                               ^^^^^^^^^^^

    /etc/codevol/codevol.toml:2:44: `a b:1` is not `host:port`, as `src01:7443` or `[::1]:7443`
      |
    2 | source = ["src01", "src01:0", "[::1:7443", "a b:1"]
      |                                            ^^^^^^^

    /etc/codevol/codevol.toml:4:8: `Pipes` is not a name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit
      |
    4 | name = "Pipes"
      |        ^^^^^^^

    /etc/codevol/codevol.toml:5:8: `~/app`: `~` is not expanded here, write the whole path
      |
    5 | root = "~/app"
      |        ^^^^^^^

    /etc/codevol/codevol.toml:7:11: `unix:run/x` is not `unix:` and an absolute path
      |
    7 | address = "unix:run/x"
      |           ^^^^^^^^^^^^

    /etc/codevol/codevol.toml:8:8: `codeserver` is not one of `auto`, `code-server`, `api-grpc`; did you mean `code-server`?
      |
    8 | kind = "codeserver"
      |        ^^^^^^^^^^^^

    /etc/codevol/codevol.toml:10:11: `4000` is neither `host:port`, as `127.0.0.1:4000`, nor `unix:/path`
       |
    10 | address = "4000"
       |           ^^^^^^
    "#);
}

#[test]
fn names_and_addresses_are_not_given_twice() {
    let text = AGENT.to_owned()
        + "[[volume.code_server]]\naddress = \"a:1\"\n[[volume.code_server]]\naddress = \"a:1\"\n"
        + "[[volume]]\nname = \"pipes\"\nroot = \"/opt/other\"\n";
    assert_snapshot!(faults(parse(&text)), @r#"
    configuration `/etc/codevol/codevol.toml` has 2 faults
    /etc/codevol/codevol.toml:9:11: two code servers of a volume have this address
      |
    9 | address = "a:1"
      |           ^^^^^

    /etc/codevol/codevol.toml:11:8: two volumes are named `pipes`
       |
    11 | name = "pipes"
       |        ^^^^^^^
    "#);
}

#[test]
fn what_is_missing_is_told_where_it_is_missing() {
    assert_snapshot!(faults(parse("")), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml: no `role`: begin the file with `role = "source"` or `role = "agent"`
    "#);
    assert_snapshot!(faults(parse("role = \"agent\"\n")), @r#"
    configuration `/etc/codevol/codevol.toml` has 2 faults
    /etc/codevol/codevol.toml: `source` names no address: write `source = ["src01:7443"]`

    /etc/codevol/codevol.toml: no `[[volume]]`: there must be one at least
    "#);
    assert_snapshot!(faults(parse("role = \"source\"\n[[volume]]\n")), @"
    configuration `/etc/codevol/codevol.toml` has 2 faults
    /etc/codevol/codevol.toml:2:1: this `[[volume]]` has no `name`
      |
    2 | [[volume]]
      | ^^^^^^^^^^

    /etc/codevol/codevol.toml:2:1: this `[[volume]]` has no `path`
      |
    2 | [[volume]]
      | ^^^^^^^^^^
    ");
}

#[test]
fn all_syntax_faults_are_told_at_once() {
    assert_snapshot!(faults(parse("role = \"source\nlisten = = 3\ny\n")), @r#"
    configuration `/etc/codevol/codevol.toml` has 4 faults
    /etc/codevol/codevol.toml:1:15: invalid basic string, expected `"`
      |
    1 | role = "source
      |               ^

    /etc/codevol/codevol.toml:2:10: extra `=`, expected nothing
      |
    2 | listen = = 3
      |          ^

    /etc/codevol/codevol.toml:2:12: unexpected key or value, expected newline, `#`
      |
    2 | listen = = 3
      |            ^

    /etc/codevol/codevol.toml:3:2: key with no value, expected `=`
      |
    3 | y
      |  ^
    "#);
    assert_snapshot!(faults(parse("role = \"source\"\nlisten = \"1\"\nlisten = \"2\"\n")), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:3:1: duplicate key
      |
    3 | listen = "2"
      | ^^^^^^
    "#);
}

#[test]
fn a_fault_stands_in_its_column_behind_tabs_and_wide_or_hostile_characters() {
    let with = |source: &str| {
        let text = AGENT.replace("[\"src01:7443\"]", source);
        faults(parse(&text))
    };
    assert_snapshot!(with("[\t\"日本\",\t\"\u{202e}\"]"), @r#"
    configuration `/etc/codevol/codevol.toml` has 2 faults
    /etc/codevol/codevol.toml:2:12: `日本` is not `host:port`, as `src01:7443` or `[::1]:7443`
      |
    2 | source = [ "日本", "\u{202e}"]
      |            ^^^^^^

    /etc/codevol/codevol.toml:2:18: `\u{202e}` is not `host:port`, as `src01:7443` or `[::1]:7443`
      |
    2 | source = [ "日本", "\u{202e}"]
      |                    ^^^^^^^^^^
    "#);
    assert_snapshot!(with("[\"\u{1b}[31m\"]"), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:2:12: invalid basic string, expected non-double-quote visible characters, `\`
      |
    2 | source = ["\u{1b}[31m"]
      |            ^^^^^^
    "#);
    assert_snapshot!(with("[\"\\u001b[31m\"]"), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:2:11: `\u{1b}[31m` is not `host:port`, as `src01:7443` or `[::1]:7443`
      |
    2 | source = ["\u001b[31m"]
      |           ^^^^^^^^^^^^
    "#);
}

#[test]
fn trees_state_and_file_lie_apart() {
    let with = |state: &str, tree: &str| {
        let first = format!("role = \"source\"\nstate_dir = \"{state}\"");
        let text = SOURCE.replace("role = \"source\"", &first);
        parse(&text.replace("/srv/pipes", tree))
    };
    assert_snapshot!(faults(with("/srv/pipes/state", "/srv/pipes")), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:5:8: the state folder, `/srv/pipes/state`, lies in this tree, `/srv/pipes`: keep them apart
      |
    5 | path = "/srv/pipes"
      |        ^^^^^^^^^^^^
    "#);
    assert_snapshot!(faults(with("/srv/x/../pipes", "/srv/pipes")), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:5:8: the state folder, `/srv/x/../pipes`, lies in this tree, `/srv/pipes`: keep them apart
      |
    5 | path = "/srv/pipes"
      |        ^^^^^^^^^^^^
    "#);
    assert_snapshot!(faults(with("/srv", "/srv/pipes")), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:5:8: this tree, `/srv/pipes`, lies in the state folder, `/srv`: keep them apart
      |
    5 | path = "/srv/pipes"
      |        ^^^^^^^^^^^^
    "#);
    assert_snapshot!(faults(with("/var/lib/codevol", "/etc")), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:5:8: this file, `/etc/codevol/codevol.toml`, lies in this tree, `/etc`: keep them apart
      |
    5 | path = "/etc"
      |        ^^^^^^
    "#);
    with("/srv/pipes-state", "/srv/pipes").unwrap();
    let two = SOURCE.to_owned() + "[[volume]]\nname = \"b\"\npath = \"/srv/pipes/b\"\n";
    assert_snapshot!(faults(parse(&two)), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:7:8: two volumes share a tree: `/srv/pipes/b` and `/srv/pipes`
      |
    7 | path = "/srv/pipes/b"
      |        ^^^^^^^^^^^^^^
    "#);
}

#[test]
fn a_control_socket_that_no_system_takes_is_refused() {
    let folder = "x".repeat(86);
    let with = |folder: &str| {
        let first = format!("role = \"source\"\nstate_dir = \"/{folder}\"");
        parse(&SOURCE.replace("role = \"source\"", &first))
    };
    assert_eq!(
        source(with(&folder).unwrap())
            .control_socket
            .as_os_str()
            .len(),
        100
    );
    assert_snapshot!(faults(with(&(folder + "x"))), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:2:13: the control socket `/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/control.sock` has a path of 101 bytes, and 100 is the most that works
      |
    2 | state_dir = "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
      |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ set `control_socket` to a shorter path
    "#);
}

#[test]
fn the_environment_comes_before_the_file() {
    let variables = [
        ("CODEVOL_LISTEN", "127.0.0.1:1"),
        ("CODEVOL_VOLUME__0__WATCH__SETTLE", "30ms"),
        ("CODEVOL_VOLUME__0__IGNORE", "a, b/**"),
        ("CODEVOL_VOLUME__0__KEEP", "7"),
        ("CODEVOL_VOLUME__1__NAME", "second"),
        ("CODEVOL_VOLUME__1__PATH", "/srv/second"),
    ];
    let text = SOURCE.replace("[[volume]]", "listen = \"[::]:2\"\n[[volume]]");
    let loaded = parse_with(&text, &variables).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let config = source(loaded);
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.volumes[0].watch.settle, Duration::from_millis(30));
    assert_eq!(config.volumes[0].ignore, ["a", "b/**"]);
    assert_eq!(config.volumes[0].keep, 7);
    assert_eq!(config.volumes[1].path, Path::new("/srv/second"));
}

#[test]
fn a_fault_of_the_environment_names_its_variable() {
    let variables = [
        ("CODEVOL_LISTEN", "localhost"),
        ("CODEVOL_VOLUME__0__KEEP", "many"),
    ];
    let error = parse_with(SOURCE, &variables).expect_err("faulty variables were taken");
    assert_eq!(
        error.causes,
        [
            "CODEVOL_LISTEN: `localhost` is not an address and port, as `[::]:7443`",
            "CODEVOL_VOLUME__0__KEEP: `many` is not a whole number from 1 to 100000"
        ]
    );
}

#[test]
fn a_variable_that_means_nothing_is_warned_of_unless_it_is_reserved() {
    let variables = [
        ("CODEVOL_FOO", "1"),
        ("CODEVOL_LISTN", "1"),
        ("CODEVOL_VOLUME__7__NAME", "x"),
        ("CODEVOL_CONFIG", "/x"),
        ("CODEVOL_DAGSTER", "/x"),
        ("CODEVOL_REQUIRE_DAGSTER", "1"),
        ("CODEVOL_REQUIRE_DOCKER", "1"),
        ("CODEVOL_SOURCE_KEY", "k"),
        ("CODEVOL_KEY_FILE", "/k"),
        ("OTHER", "1"),
    ];
    assert_eq!(
        parse_with(SOURCE, &variables).unwrap().warnings,
        [
            "the variable `CODEVOL_FOO` means nothing here",
            "the variable `CODEVOL_LISTN` means nothing here; did you mean `CODEVOL_LISTEN`?",
            "the variable `CODEVOL_VOLUME__7__NAME` means nothing here; did you mean `CODEVOL_VOLUME__0__NAME`?",
        ]
    );
}

#[test]
fn a_daemon_refuses_the_file_of_another_role() {
    let role = Some(Role::Agent);
    let result = Config::parse(SOURCE, Path::new(FILE), role, &Environment::default());
    assert_snapshot!(faults(result), @r#"
    configuration `/etc/codevol/codevol.toml` has 1 fault
    /etc/codevol/codevol.toml:1:8: this is the configuration of role `source`, not of `agent`
      |
    1 | role = "source"
      |        ^^^^^^^^ name the other file with `-C FILE`
    "#);
}

#[test]
fn show_tells_each_value_and_where_it_came_from() {
    let text = AGENT.to_owned() + "[[volume.code_server]]\naddress = \"127.0.0.1:4000\"\n";
    let variables = [("CODEVOL_VOLUME__0__KEEP", "7")];
    let loaded = parse_with(&text, &variables).unwrap();
    let shown = show::toml(&loaded);
    assert_snapshot!(shown, @r#"
    # /etc/codevol/codevol.toml
    role = "agent"                                      # file, line 1
    source = ["src01:7443"]                             # file, line 2
    state_dir = "/etc/codevol/state"                    # default
    control_socket = "/etc/codevol/state/control.sock"  # default

    [metrics]
    # listen is not set                                 # default

    [[volume]]
    name = "pipes"                                      # file, line 4
    root = "/opt/dagster/app"                           # file, line 5
    layout = "releases"                                 # default
    keep = 7                                            # environment, CODEVOL_VOLUME__0__KEEP
    drift = "report"                                    # default
    scrub = "3600s"                                     # default
    dependencies = "warn"                               # default
    # python is not set                                 # default
    requirements = []                                   # default

    [[volume.code_server]]
    address = "127.0.0.1:4000"                          # file, line 7
    kind = "auto"                                       # default
    verify_timeout = "60s"                              # default
    # python is not set                                 # default
    "#);
    let again = parse(&shown).unwrap();
    assert_eq!(again.config, loaded.config, "what is shown loads as it is");
    let source = parse_with(SOURCE, &[("CODEVOL_ADVERTISE", "src01:1")]).unwrap();
    let document = serde_json::to_string(&show::document(&source)).unwrap();
    assert_snapshot!(document.replace("},{", "},\n{"), @r#"
    {"schema":"codevol.config/1","file":"/etc/codevol/codevol.toml","role":"source","settings":[{"key":"role","value":"source","origin":"file","line":1,"variable":null},
    {"key":"listen","value":"[::]:7443","origin":"default","line":null,"variable":null},
    {"key":"advertise","value":"src01:1","origin":"environment","line":null,"variable":"CODEVOL_ADVERTISE"},
    {"key":"state_dir","value":"/etc/codevol/state","origin":"default","line":null,"variable":null},
    {"key":"control_socket","value":"/etc/codevol/state/control.sock","origin":"default","line":null,"variable":null},
    {"key":"metrics.listen","value":null,"origin":"default","line":null,"variable":null},
    {"key":"volume.0.name","value":"pipes","origin":"file","line":3,"variable":null},
    {"key":"volume.0.path","value":"/srv/pipes","origin":"file","line":4,"variable":null},
    {"key":"volume.0.publish","value":"auto","origin":"default","line":null,"variable":null},
    {"key":"volume.0.ignore","value":[],"origin":"default","line":null,"variable":null},
    {"key":"volume.0.keep","value":20,"origin":"default","line":null,"variable":null},
    {"key":"volume.0.watch.mode","value":"auto","origin":"default","line":null,"variable":null},
    {"key":"volume.0.watch.settle","value":"20ms","origin":"default","line":null,"variable":null},
    {"key":"volume.0.watch.settle_max","value":"2s","origin":"default","line":null,"variable":null},
    {"key":"volume.0.watch.rescan","value":"60s","origin":"default","line":null,"variable":null},
    {"key":"volume.0.rollout.canary","value":"auto","origin":"default","line":null,"variable":null},
    {"key":"volume.0.rollout.wave","value":"all","origin":"default","line":null,"variable":null},
    {"key":"volume.0.rollout.on_broken","value":"return","origin":"default","line":null,"variable":null},
    {"key":"volume.0.rollout.require_online","value":"any","origin":"default","line":null,"variable":null},
    {"key":"volume.0.rollout.verify_timeout","value":"90s","origin":"default","line":null,"variable":null}]}
    "#);
}

#[test]
fn what_init_writes_shows_each_default_and_loads() {
    let file = Path::new(FILE);
    let name = "pipes".parse().unwrap();
    let config = source_defaults(file, name, Path::new("/srv/pipes")).unwrap();
    let text = render_source(&config, file).unwrap();
    assert_snapshot!(text, @r#"
    role = "source"

    # The UDP address where agents reach this host.
    # listen = "[::]:7443"
    # What agents are told to dial, where that is not the address above.
    # advertise = "src01.example.org:7443"
    # Where keys and everything that must survive lie. Nobody else may read it.
    # state_dir = "/etc/codevol/state"
    # Where commands on this host reach the daemon.
    # control_socket = "/etc/codevol/state/control.sock"

    [[volume]]
    # What the volume is called everywhere.
    name = "pipes"
    # The tree that is kept the same everywhere.
    path = "/srv/pipes"
    # auto: each save; manual: only `codevol push`.
    # publish = "auto"
    # More to leave out, as in .gitignore.
    # ignore = []
    # How many releases are kept whole.
    # keep = 20

    [volume.watch]
    # auto, inotify, or poll where there are no events.
    # mode = "auto"
    # How long the tree must be quiet.
    # settle = "20ms"
    # The longest wait for that, from the first change.
    # settle_max = "2s"
    # How often the whole tree is looked at in any case.
    # rescan = "60s"

    [volume.rollout]
    # How many activate first. auto: one, unless there is no code server.
    # canary = "auto"
    # How many of the others at a time: all, a number, or as "50%".
    # wave = "all"
    # return: all go back; stop: the broken one does, the others wait for you.
    # on_broken = "return"
    # all: nothing goes live while an enrolled server is away.
    # require_online = "any"
    # How long a server may take to say whether it is broken.
    # verify_timeout = "90s"

    [metrics]
    # Where metrics are served to whoever asks by HTTP; nowhere, if it is left out.
    # listen = "127.0.0.1:9464"
    "#);
    assert_eq!(source(parse(&text).unwrap()), config);
    assert_eq!(
        source(parse(&uncommented(&text)).unwrap()).volumes,
        config.volumes
    );
}

#[test]
fn what_join_writes_shows_each_default_and_loads() {
    let file = Path::new(FILE);
    let name = "pipes".parse().unwrap();
    let mut config = agent_defaults(file, name, Path::new("/opt/dagster/app")).unwrap();
    config.source = vec!["src01:7443".to_owned()];
    let text = render_agent(&config, file).unwrap();
    assert_snapshot!(text, @r#"
    role = "agent"

    # Where the source is reached, tried in order.
    source = ["src01:7443"]
    # Where keys and everything that must survive lie. Nobody else may read it.
    # state_dir = "/etc/codevol/state"
    # Where commands on this host reach the daemon.
    # control_socket = "/etc/codevol/state/control.sock"

    [[volume]]
    # What the source calls the volume.
    name = "pipes"
    # The folder of `current` and `releases`.
    root = "/opt/dagster/app"
    # Each release in a folder of its own.
    # layout = "releases"
    # How many releases are kept for going back.
    # keep = 5
    # What changed on the disk is told (report), or put back too (restore).
    # drift = "report"
    # How often all that is held is read through.
    # scrub = "3600s"
    # off, warn, or refuse a release whose packages are not installed.
    # dependencies = "warn"
    # The interpreter whose packages these are.
    # python = "/opt/venv/bin/python"
    # The files of the tree that name them, where not the usual ones.
    # requirements = []

    # The code server that loads this volume. Without one, nothing is reloaded or verified.
    # [[volume.code_server]]
    # address = "127.0.0.1:4000"
    # kind = "auto"
    # verify_timeout = "60s"
    # python = "/opt/venv/bin/python"

    [metrics]
    # Where metrics are served to whoever asks by HTTP; nowhere, if it is left out.
    # listen = "127.0.0.1:9464"
    "#);
    assert_eq!(agent(parse(&text).unwrap()), config);
    let all = agent(parse(&uncommented(&text)).unwrap());
    assert_eq!(all.volumes[0].code_servers.len(), 1);
}

#[test]
fn what_differs_from_the_defaults_is_written_and_loads() {
    let text = r#"role = "source"
listen = "127.0.0.1:0"
advertise = "src01:7443"
state_dir = "/var/lib/codevol/a \"b\" \\ é"
control_socket = "/run/codevol/source.sock"
metrics.listen = "[::1]:9464"
[[volume]]
name = "pipes"
path = "/srv/pipes"
publish = "manual"
ignore = ["a\\ b", "'c'"]
keep = 3
[volume.watch]
mode = "inotify"
settle = "50ms"
[volume.rollout]
canary = 0
wave = 3
on_broken = "stop"
require_online = "all"
verify_timeout = "5m"
[[volume]]
name = "second"
path = "/srv/second"
"#;
    let config = source(parse(text).unwrap());
    let written = render_source(&config, Path::new(FILE)).unwrap();
    assert_eq!(source(parse(&written).unwrap()), config);

    let text = AGENT.to_owned()
        + "keep = 2\ndependencies = \"off\"\npython = \"/opt/a b/bin/python\"\n"
        + "requirements = [\"a.txt\", \"b/uv.lock\"]\n[[volume.code_server]]\naddress = \"unix:/run/x\"\nkind = \"api-grpc\"\n"
        + "verify_timeout = \"5s\"\npython = \"/x/bin/python\"\n[[volume.code_server]]\naddress = \"a:1\"\n";
    let config = agent(parse(&text).unwrap());
    let written = render_agent(&config, Path::new(FILE)).unwrap();
    assert_eq!(agent(parse(&written).unwrap()), config);

    let operator = OperatorConfig {
        source: vec!["src01:7443".to_owned()],
        state_dir: "/home/a/.codevol".into(),
    };
    let written = render_operator(&operator, Path::new(FILE)).unwrap();
    assert_eq!(parse(&written).unwrap().config, Config::Operator(operator));
}

/// Takes the mark off each commented key and table, as a person does who sets it.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || rest.contains(" = ") => rest,
        _ => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}
