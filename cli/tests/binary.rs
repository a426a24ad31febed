//! The binary as a person or a script meets it: help, errors, exit statuses, configuration.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use tempfile::TempDir;

/// A folder of its own for one test.
struct Sandbox {
    dir: TempDir,
}

impl Sandbox {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        // Links in the path of the temporary folder would show in what is printed.
        self.dir.path().canonicalize().unwrap().join(name)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a test's file needs no durability"
    )]
    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn mkdir(&self, name: &str, mode: u32) {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codevol"));
        command
            .args(args)
            .env_clear()
            .env("XDG_CONFIG_HOME", self.path("user"))
            .current_dir(self.path(""));
        command
    }

    /// The same, run by a user who may not do what root may.
    fn plain_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        if rustix::process::geteuid().is_root() {
            // A copy that a plain uid can reach. `cp` makes it: were it open for writing here, a fork
            // of another test could make it busy.
            let copy = self.path("codevol");
            let mut cp = Command::new("cp");
            let copied = cp.arg(env!("CARGO_BIN_EXE_codevol")).arg(&copy).status();
            assert!(copied.unwrap().success());
            command = Command::new(copy);
            command.args(args).env_clear().uid(65_534);
            command.current_dir(self.path(""));
        }
        command
    }

    /// Runs the binary here, and returns all that comes of it.
    fn codevol(&self, args: &[&str]) -> String {
        self.shown(&mut self.command(args))
    }

    fn shown(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.replace(self.path("").to_str().unwrap(), "[DIR]/")
        };
        format!(
            "{}--- {}\n{}",
            text(&output.stdout),
            output.status.code().unwrap(),
            text(&output.stderr)
        )
    }
}

const SOURCE: &str =
    "role = \"source\"\nstate_dir = \"state\"\n[[volume]]\nname = \"pipes\"\npath = \"tree\"\n";
const AGENT: &str =
    "role = \"agent\"\nsource = [\"a:1\"]\n[[volume]]\nname = \"pipes\"\nroot = \"root\"\n";

fn source() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("codevol.toml", SOURCE);
    sandbox.mkdir("tree", 0o755);
    sandbox
}

#[test]
fn help_names_every_command() {
    assert_snapshot!(Sandbox::new().codevol(&["--help"]), @"
    Keeps one code volume the same on every Dagster server

    Usage: codevol [OPTIONS] <COMMAND>

    Commands:
      demo         Show it all on this machine: a source, three agents, edits, a break and the way back
      init         Make this machine a source: configuration, keys, history
      source       Run the source daemon
      join         Enrol this machine, as what the token says
      adopt        Make what stands on an agent's volume its baseline, r0, to go back to
      agent        Run the agent daemon
      fetch        Fetch what is live, once, where no agent daemon runs
      push         Publish the tree, or named paths on top of what is live, and follow the rollout
      plan         Show what a push would publish
      status       Show what each server serves, and on what evidence
      log          List the releases; tell one's story, or what ran where at a time
      verify       Re-hash what the servers hold, and ask code servers what they loaded
      diff         Show what differs between releases, between one and the tree, or on a server's disk
      rollback     Go back to an older release and freeze the volume; or take one node back and hold it
      freeze       Let nothing new go live
      thaw         End a freeze; or let a node go on that is held
      retry        Roll out once more a release that was found broken
      seal         Write one release as an OCI image or a tar
      ignored      Show what is left out of the tree, and by which rule
      invite       Print a token with which one machine may join
      node         List the members, or take one out
      audit        Check a journal, which is chained line by line: this machine's, or else the source's
      gc           Delete what nobody needs any more on this machine
      health       Find out whether this machine's daemon answers
      doctor       Look at this machine, and say what mends what is not as it must be
      ping         Find out how long a node takes to answer over its live connection
      config       Check or show the configuration
      completions  Print a script that completes commands in a shell
      version      Print the version

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Global options:
      -C, --config <FILE>  Configuration file [env: CODEVOL_CONFIG]
          --json           Print JSON, errors too
      -v, --verbose        Say more
      -q, --quiet          Say nothing but the result
    --- 0
    ");
    assert_snapshot!(Sandbox::new().codevol(&["config", "check", "--help"]), @"
    Check syntax, meaning and this machine; exit 78 on a fault

    Usage: codevol config check [OPTIONS]

    Options:
          --no-environment  Leave out what depends on this machine
      -h, --help            Print help

    Global options:
      -C, --config <FILE>  Configuration file [env: CODEVOL_CONFIG]
          --json           Print JSON, errors too
      -v, --verbose        Say more
      -q, --quiet          Say nothing but the result
    --- 0
    ");
}

#[test]
fn wrong_usage_exits_2_and_is_a_document_for_scripts() {
    let sandbox = Sandbox::new();
    assert_snapshot!(sandbox.codevol(&["versoin"]), @"
    --- 2
    error: unrecognized subcommand 'versoin'

      tip: some similar subcommands exist: 'verify', 'version'

    Usage: codevol [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(sandbox.codevol(&["versoin", "--json"]), @r#"
    {"schema":"codevol.error/1","kind":"usage","message":"unrecognized subcommand 'versoin'","causes":[],"hint":"`codevol --help` lists the commands"}
    --- 2
    "#);
    assert_snapshot!(sandbox.codevol(&["--json"]), @r#"
    {"schema":"codevol.error/1","kind":"usage","message":"no command was given","causes":[],"hint":"`codevol --help` lists the commands"}
    --- 2
    "#);
    assert_snapshot!(sandbox.codevol(&["completions", "--json"]), @r#"
    {"schema":"codevol.error/1","kind":"usage","message":"the following required arguments were not provided: <SHELL>","causes":[],"hint":"`codevol --help` lists the commands"}
    --- 2
    "#);
}

#[test]
fn the_version_is_told_to_people_and_scripts() {
    let sandbox = Sandbox::new();
    let version = env!("CARGO_PKG_VERSION");
    for args in [&["version"][..], &["--version"]] {
        assert_eq!(sandbox.codevol(args), format!("codevol {version}\n--- 0\n"));
    }
    assert_eq!(
        sandbox.codevol(&["version", "--json"]),
        format!("{{\"schema\":\"codevol.version/1\",\"version\":\"{version}\"}}\n--- 0\n")
    );
}

#[test]
fn each_shell_is_given_its_completions() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.codevol(&["completions", shell]);
        assert!(script.contains("no-environment"), "{shell}: {script}");
        assert!(script.ends_with("\n--- 0\n"), "{shell}: {script}");
    }
    let document = sandbox.codevol(&["completions", "fish", "--json"]);
    let begins = "{\"schema\":\"codevol.completions/1\",\"shell\":\"fish\",\"script\":\"";
    assert!(document.starts_with(begins), "{document}");
}

#[test]
fn standard_output_that_is_full_is_a_failure_and_one_that_is_gone_is_not() {
    let sandbox = Sandbox::new();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let shown = sandbox.shown(sandbox.command(&["version"]).stdout(full));
    assert_snapshot!(shown, @"
    --- 1
    error: cannot write to standard output
      caused by: no space left on device
    ");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let shown = sandbox.shown(sandbox.command(&["version"]).stdout(writer));
    assert_eq!(shown, "--- 0\n");
}

#[test]
fn a_missing_file_is_told_without_an_error_number() {
    let sandbox = Sandbox::new();
    assert_snapshot!(sandbox.codevol(&["-C", "gone.toml", "config", "check"]), @"
    --- 78
    error: cannot read `gone.toml`
      caused by: no such file or directory
    hint: `codevol init DIR` or `codevol join TOKEN` writes one, `-C FILE` names one
    ");
    assert_snapshot!(sandbox.codevol(&["-C", "gone.toml", "config", "check", "--json"]), @r#"
    {"schema":"codevol.error/1","kind":"config","message":"cannot read `gone.toml`","causes":["no such file or directory"],"hint":"`codevol init DIR` or `codevol join TOKEN` writes one, `-C FILE` names one"}
    --- 78
    "#);
    sandbox.mkdir("folder", 0o755);
    assert_snapshot!(sandbox.codevol(&["-C", "folder", "config", "check"]), @"
    --- 78
    error: cannot read `folder`
      caused by: is a directory
    ");
    sandbox.write("huge.toml", &"#\n".repeat(1 << 20));
    assert_snapshot!(sandbox.codevol(&["-C", "huge.toml", "config", "check"]), @"
    --- 78
    error: cannot read `huge.toml`
      caused by: it is longer than 1048576 bytes
    ");
}

#[test]
fn a_demo_has_no_json() {
    assert_snapshot!(Sandbox::new().codevol(&["demo", "--once", "--json"]), @r#"
    {"schema":"codevol.error/1","kind":"usage","message":"`demo` is for people: it has no JSON","causes":[],"hint":null}
    --- 2
    "#);
}

#[test]
fn a_token_that_cannot_be_read_is_told_with_its_file() {
    let sandbox = Sandbox::new();
    assert_snapshot!(sandbox.codevol(&["join", "@gone.token", "--root", "app"]), @"
    --- 78
    error: cannot read the token from `gone.token`
      caused by: no such file or directory
    ");
}

#[test]
fn the_file_is_named_by_option_then_variable_then_found() {
    let sandbox = Sandbox::new();
    let shown = sandbox.codevol(&["config", "show"]);
    assert!(shown.contains("no configuration was found"), "{shown}");
    assert!(shown.contains("[DIR]/user/codevol/agent.toml"), "{shown}");
    let first_line = |command: &mut Command| {
        let shown = sandbox.shown(command);
        shown.lines().next().unwrap_or_default().to_owned()
    };
    for name in [
        "user/codevol/agent.toml",
        "codevol.toml",
        "variable.toml",
        "option.toml",
    ] {
        sandbox.write(name, AGENT);
    }
    fs::rename(sandbox.path("codevol.toml"), sandbox.path("later.toml")).unwrap();
    let mut show = sandbox.command(&["config", "show"]);
    if !Path::new("/etc/codevol").exists() {
        assert_eq!(first_line(&mut show), "# [DIR]/user/codevol/agent.toml");
    }
    fs::rename(sandbox.path("later.toml"), sandbox.path("codevol.toml")).unwrap();
    assert_eq!(first_line(&mut show), "# codevol.toml");
    show.env("CODEVOL_CONFIG", "variable.toml");
    assert_eq!(first_line(&mut show), "# variable.toml");
    show.args(["-C", "option.toml"]);
    assert_eq!(first_line(&mut show), "# option.toml");
}

#[test]
fn a_valid_configuration_is_said_to_be_valid() {
    let sandbox = source();
    assert_snapshot!(sandbox.codevol(&["config", "check"]), @"
    codevol.toml (source) is valid on this machine
    --- 0
    ");
    assert_snapshot!(sandbox.codevol(&["config", "check", "--json"]), @r#"
    {"schema":"codevol.config-check/1","file":"codevol.toml","role":"source","environment":true,"warnings":[]}
    --- 0
    "#);
    fs::remove_dir(sandbox.path("tree")).unwrap();
    assert_snapshot!(sandbox.codevol(&["config", "check", "--no-environment"]), @"
    codevol.toml (source) is valid; this machine was not looked at
    --- 0
    ");
}

#[test]
fn variables_come_before_the_file_and_unknown_ones_are_warned_of() {
    let sandbox = source();
    let mut command = sandbox.command(&["config", "show"]);
    command.env("CODEVOL_LISTEN", "127.0.0.1:0");
    command.env("CODEVOL_VOLUME__0__WACH__SETTLE", "1s");
    command.env("CODEVOL_VOLUME__0__PATH", "elsewhere");
    let shown = sandbox.shown(&mut command);
    // How wide the first column is depends on where the folder lies.
    let squeezed = shown.lines().map(|line| match line.split_once("  #") {
        Some((value, remark)) => format!("{}  #{remark}\n", value.trim_end()),
        None => format!("{line}\n"),
    });
    assert_snapshot!(squeezed.collect::<String>(), @r#"
    # codevol.toml
    role = "source"  # file, line 1
    listen = "127.0.0.1:0"  # environment, CODEVOL_LISTEN
    # advertise is not set  # default
    state_dir = "[DIR]/state"  # file, line 2
    control_socket = "[DIR]/state/control.sock"  # default

    [metrics]
    # listen is not set  # default

    [[volume]]
    name = "pipes"  # file, line 4
    path = "[DIR]/elsewhere"  # environment, CODEVOL_VOLUME__0__PATH
    publish = "auto"  # default
    ignore = []  # default
    keep = 20  # default

    [volume.watch]
    mode = "auto"  # default
    settle = "20ms"  # default
    settle_max = "2s"  # default
    rescan = "60s"  # default

    [volume.rollout]
    canary = "auto"  # default
    wave = "all"  # default
    on_broken = "return"  # default
    require_online = "any"  # default
    verify_timeout = "90s"  # default
    --- 0
    warning: the variable `CODEVOL_VOLUME__0__WACH__SETTLE` means nothing here; did you mean `CODEVOL_VOLUME__0__WATCH__SETTLE`?
    "#);
}

#[test]
fn quiet_says_no_warning_and_verbose_names_the_file() {
    let sandbox = source();
    let mut quiet = sandbox.command(&["-q", "config", "check"]);
    quiet.env("CODEVOL_NOTHING", "1");
    assert!(sandbox.shown(&mut quiet).ends_with("--- 0\n"));
    let verbose = sandbox.codevol(&["-v", "config", "check"]);
    assert!(
        verbose.ends_with("--- 0\nconfiguration codevol.toml\n"),
        "{verbose}"
    );
}

#[test]
fn faults_are_shown_to_people_and_listed_for_scripts() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "codevol.toml",
        "role = \"source\"\nlisen = 1\n[[volume]]\nname = \"A\"\n",
    );
    assert_snapshot!(sandbox.codevol(&["config", "check"]), @r#"
    --- 78
    error: configuration `codevol.toml` has 3 faults
    codevol.toml:2:1: unknown key `lisen`
      |
    2 | lisen = 1
      | ^^^^^ did you mean `listen`?

    codevol.toml:3:1: this `[[volume]]` has no `path`
      |
    3 | [[volume]]
      | ^^^^^^^^^^

    codevol.toml:4:8: `A` is not a name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit
      |
    4 | name = "A"
      |        ^^^
    "#);
    assert_snapshot!(sandbox.codevol(&["config", "check", "--json"]), @r#"
    {"schema":"codevol.error/1","kind":"config","message":"configuration `codevol.toml` has 3 faults","causes":["codevol.toml:2:1: unknown key `lisen`; did you mean `listen`?","codevol.toml:3:1: this `[[volume]]` has no `path`","codevol.toml:4:8: `A` is not a name: use 1 to 63 of a-z, 0-9 and `-`, beginning with a letter or digit"],"hint":null}
    --- 78
    "#);
}

#[test]
fn a_source_without_its_tree_is_told() {
    let sandbox = source();
    fs::remove_dir(sandbox.path("tree")).unwrap();
    assert_snapshot!(sandbox.codevol(&["config", "check"]), @r#"
    --- 78
    error: configuration `codevol.toml` has 1 fault
    codevol.toml:5:8: cannot read `[DIR]/tree`: no such file or directory
      |
    5 | path = "tree"
      |        ^^^^^^
    "#);
    sandbox.write("tree", "a file");
    assert_snapshot!(sandbox.codevol(&["config", "check"]), @r#"
    --- 78
    error: configuration `codevol.toml` has 1 fault
    codevol.toml:5:8: `[DIR]/tree` is not a directory
      |
    5 | path = "tree"
      |        ^^^^^^
    "#);
}

#[test]
fn state_that_others_can_read_is_told() {
    let sandbox = source();
    sandbox.mkdir("state", 0o750);
    sandbox.write("state/node.key", "secret");
    fs::set_permissions(
        sandbox.path("state/node.key"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    assert_snapshot!(sandbox.codevol(&["config", "check"]), @r#"
    --- 78
    error: configuration `codevol.toml` has 2 faults
    codevol.toml:2:13: `[DIR]/state` has mode 0750, open to others: `chmod 700 [DIR]/state`
      |
    2 | state_dir = "state"
      |             ^^^^^^^

    codevol.toml:2:13: `[DIR]/state/node.key` has mode 0644, open to others: `chmod 600 [DIR]/state/node.key`
      |
    2 | state_dir = "state"
      |             ^^^^^^^
    "#);
}

#[test]
fn links_do_not_hide_that_places_lie_in_one_another() {
    let sandbox = Sandbox::new();
    sandbox.write("codevol.toml", AGENT);
    sandbox.mkdir("root/inner", 0o755);
    std::os::unix::fs::symlink("root/inner", sandbox.path("state")).unwrap();
    fs::set_permissions(
        sandbox.path("root/inner"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    assert_snapshot!(sandbox.codevol(&["config", "check"]), @r#"
    --- 78
    error: configuration `codevol.toml` has 1 fault
    codevol.toml:5:8: the state folder, `[DIR]/state`, lies in this tree, `[DIR]/root`: keep them apart
      |
    5 | root = "root"
      |        ^^^^^^
    "#);
    assert!(
        sandbox
            .codevol(&["config", "check", "--no-environment"])
            .contains("--- 0")
    );
}

#[test]
fn a_folder_that_we_may_not_write_is_told_with_its_owner_and_mode() {
    let sandbox = Sandbox::new();
    sandbox.write("codevol.toml", AGENT);
    sandbox.mkdir("", 0o755);
    sandbox.mkdir("state", 0o555);
    sandbox.mkdir("root", 0o555);
    let shown = sandbox.shown(&mut sandbox.plain_command(&["config", "check"]));
    let folders = ["cannot write `[DIR]/state`", "cannot write `[DIR]/root`"];
    for folder in folders {
        let line = shown.lines().find(|line| line.contains(folder));
        let line = line.unwrap_or_else(|| panic!("{folder} is not in {shown}"));
        assert!(
            line.contains("permission denied; it belongs to uid "),
            "{line}"
        );
        assert!(line.contains("has mode 0555, and this is uid "), "{line}");
    }
    assert!(shown.starts_with("--- 78\n"), "{shown}");
}

#[test]
fn a_tree_that_may_not_be_read_is_refused_before_anything_is_made() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("", 0o777);
    // Its owner may not either.
    sandbox.mkdir("tree", 0o311);
    let shown = sandbox.shown(&mut sandbox.plain_command(&["init", "tree"]));
    assert!(shown.starts_with("--- 78\n"), "{shown}");
    let why = "cannot read `[DIR]/tree`: permission denied; it belongs to uid ";
    assert!(shown.contains(why), "{shown}");
    assert!(shown.contains("let that user read the tree"), "{shown}");
    assert!(!sandbox.path("codevol.toml").exists());
    assert!(!sandbox.path("state").exists());
}

#[test]
fn a_log_filter_that_is_not_heeded_is_warned_of() {
    let sandbox = source();
    sandbox.mkdir("state", 0o700);
    let warned = |filter: &str| {
        let mut command = sandbox.command(&["source"]);
        // It has no keys: it logs, and ends.
        let shown = sandbox.shown(command.env("RUST_LOG", filter));
        assert!(
            shown.contains("cannot open the source's identity"),
            "{shown}"
        );
        shown.contains("`RUST_LOG` is invalid and not heeded")
    };
    assert!(warned("codevol=debgu"));
    assert!(!warned("codevol=debug"));
    assert!(!warned(""));
}
