//! Operators and publishers: commands from a machine that is not the source's host.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;
use std::time::{Duration, Instant};

use codevol_tests::{Fleet, FleetStatus, Machine, Relay, git, wait_until};
use rustix::process::Signal;

#[test]
fn an_operator_does_from_a_laptop_what_the_source_host_does() {
    let fleet = Fleet::start(1);
    let laptop = Machine::join(&fleet.source, "alice-laptop", "operator");
    assert!(laptop.status().is_live_everywhere(1));
    fleet.source.save("second.py", "x = 2\n");
    fleet.source.wait_live_everywhere(2);
    let sealed = laptop.path().join("r1.tar");
    let sealed = sealed.to_str().unwrap();
    for args in [
        &["log"][..],
        &["seal", "r1", "-o", sealed],
        &["gc", "--dry-run"],
        &["gc", "--yes"],
        &["log", "r2"],
        &["log", "--at", "0s ago"],
        &["log", "--at", "0s ago", "--node", "dag-01"],
        &["audit", "verify"],
        &["diff"],
        &["diff", "r1", "r2"],
        &["diff", "--node", "dag-01"],
        &["verify", "--deep"],
        &["plan"],
        &["retry", "r2"],
        &["rollback", "r1", "--node", "dag-01", "-y"],
        &["thaw", "--node", "dag-01"],
        &["ping", "dag-01"],
        &["ignored"],
        &["ignored", "--why", "second.py"],
        &["node", "ls"],
        &["health", "--ready"],
        &["invite", "--name", "dag-09"],
        &["freeze", "-m", "from a laptop"],
        &["thaw"],
        &["doctor"],
    ] {
        laptop.run(args).exits(0);
    }
    assert!(fs::metadata(sealed).unwrap().len() > 0);
    fleet.source.wait_live_everywhere(2);
    // It keeps no journal of its own: the source's is read, where that lies.
    let audit = laptop.run(&["audit", "verify", "--json"]).exits(0).json();
    let lies = audit["journal"].as_str().unwrap();
    assert!(lies.ends_with("source/state/journal"), "{audit}");
    assert!(audit["lines"].as_u64().unwrap() > 10, "{audit}");
    // Its key is no daemon's.
    let rotated = laptop.run(&["node", "rotate"]).exits(2);
    assert!(rotated.stderr.contains("join it anew"), "{rotated}");
    // A long call streams its steps, and the record and the journal name the member.
    let back = laptop.run(&["rollback", "r1", "-y", "--json"]).exits(0);
    let last: serde_json::Value =
        serde_json::from_str(back.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "rollout.done", "{back}");
    let status = fleet.source.wait_live_everywhere(3);
    assert_eq!(status.volume()["release"]["author"], "alice-laptop");
    let told = fleet.source.run(&["log", "r3", "--json"]).exits(0);
    assert!(told.stdout.contains("alice-laptop"), "{told}");
    // The laptop is a member that runs nothing: nobody waits for it.
    let nodes = fleet.source.run(&["node", "ls", "--json"]).exits(0).json();
    let nodes = nodes["nodes"].as_array().unwrap().clone();
    assert!(nodes.iter().any(|node| node["role"] == "operator"));
    assert_eq!(status.volume()["nodes"].as_array().unwrap().len(), 1);

    // Its own connection is cut, too: what it hears of that is the end of it.
    drop(laptop.run(&["node", "rm", "alice-laptop", "-y"]));
    let refused = laptop.run(&["status", "--json"]).exits(77);
    assert_eq!(refused.json()["kind"], "not-permitted", "{refused}");
}

#[test]
fn ci_publishes_by_its_environment_alone_and_does_nothing_else() {
    let fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    let ci = Machine::join(&fleet.source, "ci", "publisher");
    let joined = fs::read_to_string(ci.path().join("state/membership.json")).unwrap();
    let joined: serde_json::Value = serde_json::from_str(&joined).unwrap();
    let source_key = joined["value"]["source_key"].as_str().unwrap();
    let (listen, key_file) = (fleet.source.listen(), ci.key_file());
    let key_file = key_file.to_str().unwrap();
    let env = [
        ("CODEVOL_SOURCE", listen.as_str()),
        ("CODEVOL_SOURCE_KEY", source_key),
        ("CODEVOL_KEY_FILE", key_file),
    ];
    let status = ci.run_by_environment(&env, &["status", "--json"]).exits(0);
    assert_eq!(status.json()["schema"], "codevol.status/1");
    let sealed = ci.path().join("r1.tar");
    for args in [
        &["rollback", "-y"][..],
        &["node", "ls"],
        &["invite"],
        &["freeze"],
        &["log"],
        &["audit", "verify"],
        &["gc", "--dry-run"],
        &["seal", "r1", "-o", sealed.to_str().unwrap()],
    ] {
        let refused = ci.run_by_environment(&env, args).exits(77);
        assert!(refused.stderr.contains("publisher"), "{refused}");
    }
    let before = fleet.source.status().head();
    let definitions = ci.save("checkout/definitions.py", "x = 1\n");
    let checkout = definitions.parent().unwrap().to_str().unwrap();
    let push = ["push", checkout, "-m", "build 7"];
    ci.run_by_environment(&env, &push).succeeds();
    let status = fleet.source.wait_live_everywhere(before + 1);
    assert_eq!(status.volume()["release"]["author"], "ci", "{status}");
    // A part of it is named, and a key that others can read is none.
    let part = ci.run_by_environment(&env[..2], &["status"]).exits(78);
    assert!(part.stderr.contains("CODEVOL_KEY_FILE"), "{part}");
    fs::set_permissions(key_file, fs::Permissions::from_mode(0o644)).unwrap();
    let open = ci.run_by_environment(&env, &["status"]).exits(78);
    assert!(open.stderr.contains("chmod 600"), "{open}");
    let stranger = [("CODEVOL_SOURCE_KEY", source_key)];
    ci.run_by_environment(&stranger, &["status"]).exits(78);
}

#[test]
fn a_token_says_what_may_be_said_to_join() {
    let fleet = Fleet::without_agents();
    let invited = fleet.source.run(&["invite", "--name", "dag-01"]).exits(0);
    let agents = invited.stdout.trim_end();
    let operators = fleet
        .source
        .run(&["invite", "--role", "operator", "--name", "alice"])
        .exits(0);
    let operators = operators.stdout.trim_end();
    let alice = Machine::join(&fleet.source, "bob", "operator");
    let file = alice.path().join("other.toml");
    let join = |args: &[&str]| {
        let all = [&["-C", file.to_str().unwrap(), "join"], args].concat();
        alice.run_by_environment(&[], &all)
    };
    join(&[agents]).exits(2);
    join(&[operators, "--root", "/tmp/none"]).exits(2);
    // Neither used its token. The machine that has joined does not do so twice.
    join(&[operators]).exits(4);
    let state = alice.path().join("other-state");
    join(&[operators, "--state-dir", state.to_str().unwrap()]).succeeds();
    let mode = fs::metadata(state.join("node.key")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[test]
fn ci_publishes_a_folder_whole_with_its_commit_and_without_its_secrets() {
    let mut fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    let ci = Machine::join(&fleet.source, "ci", "publisher");
    let checkout = ci.path().join("checkout");
    ci.save("checkout/assets/orders.py", "x = 1\n");
    ci.save("checkout/definitions.py", "import assets.orders\n");
    ci.save("checkout/.env", "PASSWORD=secret\n");
    ci.save("checkout/.gitignore", "scratch/\n");
    ci.save("checkout/scratch/notes.txt", "mine\n");
    git(&checkout, &["init", "--quiet", "--initial-branch=main"]);
    git(&checkout, &["add", "-A"]);
    git(&checkout, &["commit", "--quiet", "-m", "first"]);
    let dir = checkout.to_str().unwrap();

    let plan = ci
        .run(&["push", dir, "--dry-run", "--json"])
        .exits(0)
        .json();
    assert!(plan["release"].is_null());
    let before = fleet.source.status().head();
    let pushed = ci.run(&["push", dir, "-m", "build 7", "--json"]).exits(0);
    assert_eq!(pushed.last_json()["event"], "rollout.done", "{pushed}");
    let status = fleet.source.wait_live_everywhere(before + 1);
    let release = &status.volume()["release"];
    assert_eq!(release["author"], "ci");
    assert_eq!(release["message"], "build 7");
    assert_eq!(release["origin"], "push");
    assert_eq!(release["git"]["branch"], "main");
    assert_eq!(release["git"]["dirty"], false);
    let current = fleet.agent().root().join("current");
    let read = |path: &str| fs::read_to_string(current.join(path));
    assert_eq!(read("assets/orders.py").unwrap(), "x = 1\n");
    for left_out in [".env", "scratch", ".git"] {
        assert!(!current.join(left_out).exists(), "{left_out} was sent");
    }
    // The same folder once more is the same release.
    ci.run(&["push", dir]).exits(0);
    assert_eq!(fleet.source.status().head(), before + 1);
    // An emptied checkout is no release by accident, and no file is a folder.
    ci.run(&["push", "/definitely/not/there"]).exits(2);
    ci.run(&["push", dir, "--thaw"]).exits(77);
}

#[test]
fn a_hot_fix_from_a_laptop_goes_on_top_of_what_is_live() {
    let mut fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    fleet.source.run(&["push"]).exits(0);
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let fixed = laptop.save("somewhere/orders.py", "fixed = True\n");
    let fixed = fixed.to_str().unwrap();
    let args = ["push", "--as", "assets/orders.py", fixed, "-m", "null ids"];
    let shown = laptop.run(&[&args[..], &["--dry-run"]].concat()).exits(0);
    assert!(shown.stdout.contains("assets/orders.py"), "{shown}");
    laptop.run(&args).exits(0);
    let status = fleet.source.wait_live_everywhere(2);
    let release = &status.volume()["release"];
    assert_eq!(release["origin"], "hot-fix");
    assert_eq!(release["author"], "alice");
    let current = fleet.agent().root().join("current");
    let read = fs::read_to_string(current.join("assets/orders.py")).unwrap();
    assert_eq!(read, "fixed = True\n");
    assert!(current.join("definitions.py").exists(), "the rest stays");
    // The source's own tree is pushed from here, too, and a frozen volume takes nothing.
    laptop.run(&["push"]).exits(0);
    fleet.source.wait_live_everywhere(3);
    fleet.source.run(&["freeze", "-m", "audit"]).exits(0);
    laptop.run(&args).exits(4);
    laptop.run(&["push", "--as", "a.py"]).exits(2);
    laptop.run(&["push", "--as", "../a.py", fixed]).exits(2);
}

#[test]
fn a_hot_fix_of_a_watched_volume_is_in_its_tree_and_shown_until_git_has_it() {
    let fleet = Fleet::start_with(1, |source| {
        let tree = source.tree();
        git(tree, &["init", "--quiet", "--initial-branch=main"]);
        git(tree, &["add", "-A"]);
        git(tree, &["commit", "--quiet", "-m", "first"]);
    });
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let fixed = laptop.save("orders.py", "fixed = True\n");
    let args = ["push", "--as", "extra.py", fixed.to_str().unwrap()];
    laptop.run(&args).exits(0);
    let status = fleet.source.wait_live_everywhere(2);
    assert_eq!(status.volume()["release"]["origin"], "hot-fix");
    let tree = fleet.source.tree();
    let in_tree = fs::read_to_string(tree.join("extra.py")).unwrap();
    assert_eq!(in_tree, "fixed = True\n");
    let unkept =
        |status: &FleetStatus, seq: u64| status.volume()["not_in_git"][0]["release"] == seq;
    fleet.source.wait("it is said", |status| unkept(status, 2));
    // The next save is laid over it, and it is still not in git.
    fleet.source.save("other.py", "x = 1\n");
    fleet.source.wait_live_everywhere(3);
    fleet
        .source
        .wait("it is still said", |status| unkept(status, 2));
    let shown = laptop.run(&["status"]).exits(0);
    assert!(
        shown.stdout.contains("r2 is a hot-fix that is not in git"),
        "{shown}"
    );
    git(tree, &["add", "-A"]);
    git(tree, &["commit", "--quiet", "-m", "the fix"]);
    fleet.source.wait("git has it", |status| {
        status.volume()["not_in_git"].as_array().unwrap().is_empty()
    });
}

#[test]
fn a_hot_fix_gives_way_to_an_edit_that_is_not_published() {
    let fleet = Fleet::start(1);
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let ci = Machine::join(&fleet.source, "ci", "publisher");
    fleet.source.save("extra.py", "second = 2\n");
    fleet.source.wait_live_everywhere(2);
    // What was rolled back stays in the tree, and nothing of the tree is published any more.
    fleet.source.run(&["rollback", "r1", "-y"]).exits(0);
    fleet.source.save("extra.py", "somebody = 'is at it'\n");
    let fixed = laptop.save("extra.py", "fixed = True\n");
    let fixed = fixed.to_str().unwrap();
    let args = ["push", "--as", "extra.py", fixed];
    let refused = laptop.run(&args).exits(4);
    assert!(refused.stderr.contains("`extra.py`"), "{refused}");
    assert!(refused.stderr.contains("--force"), "{refused}");
    // A tree that the daemon may not write to is said to be one.
    let mode = |mode| fs::set_permissions(fleet.source.tree(), fs::Permissions::from_mode(mode));
    mode(0o555).unwrap();
    let other = ["push", "--as", "other.py", fixed];
    let unwritten = laptop.run(&other).exits(78);
    assert!(
        unwritten.stderr.contains("permission denied"),
        "{unwritten}"
    );
    mode(0o755).unwrap();
    let in_tree = || fs::read_to_string(fleet.source.tree().join("extra.py")).unwrap();
    assert_eq!(in_tree(), "somebody = 'is at it'\n");
    let force = [&args[..], &["--force"]].concat();
    // CI writes to no tree, by force or not.
    ci.run(&args).exits(77);
    ci.run(&force).exits(77);
    laptop.run(&force).exits(0);
    let status = fleet.source.wait_live_everywhere(4);
    assert_eq!(in_tree(), "fixed = True\n");
    assert!(!status.volume()["frozen"].is_null(), "it stays frozen");
    // What it replaced is the daemon's user's own: so is what stands there now.
    let owner = |path: &str| fs::metadata(fleet.source.tree().join(path)).unwrap().uid();
    assert_eq!(owner("extra.py"), owner("definitions.py"));
}

#[test]
fn a_command_that_runs_ends_when_its_machine_is_taken_out() {
    let mut fleet = Fleet::start(1);
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    // The node says nothing: whoever has it look waits.
    fleet.agent().process().signal(Signal::STOP);
    let mut verify = laptop.command();
    verify.arg("verify").stdin(Stdio::null());
    verify.stdout(Stdio::piped()).stderr(Stdio::piped());
    let verify = verify.spawn().unwrap();
    let source = &fleet.source;
    let is_connected = || {
        let nodes = source.run(&["node", "ls", "--json"]).exits(0).json();
        let mut nodes = nodes["nodes"].as_array().unwrap().iter();
        nodes.any(|node| node["name"] == "alice" && node["online"] == true)
    };
    wait_until("the laptop is connected", is_connected);
    source.run(&["node", "rm", "alice", "-y"]).exits(0);
    let removed = Instant::now();
    let ended = verify.wait_with_output().unwrap();
    assert!(
        removed.elapsed() < Duration::from_secs(2),
        "it is cut at once"
    );
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(77), "{said}");
    assert!(said.contains("taken out of the fleet"), "{said}");
    fleet.agent().process().signal(Signal::CONT);
}

#[test]
fn a_push_whose_connection_is_lost_says_what_is_known_of_it() {
    let mut fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    fleet.source.run(&["push"]).exits(0);
    let relay = Relay::to(&fleet.source.listen());
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let fixed = laptop.save("orders.py", "fixed = True\n");
    // The node says nothing: the push waits for it.
    fleet.agent().process().signal(Signal::STOP);
    let mut push = laptop.command();
    push.env("CODEVOL_SOURCE", relay.address());
    push.args([
        "push",
        "--json",
        "--as",
        "orders.py",
        fixed.to_str().unwrap(),
    ]);
    push.stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let push = push.spawn().unwrap();
    wait_until("it is published", || fleet.source.status().head() == 2);
    relay.cut();
    let ended = push.wait_with_output().unwrap();
    fleet.agent().process().signal(Signal::CONT);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(69), "{said}");
    assert!(said.contains("r2 is published"), "{said}");
    // It went on all the same.
    fleet.source.wait_live_everywhere(2);
}
