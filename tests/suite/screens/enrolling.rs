//! How a machine becomes a source, an agent, an operator's; and how members go.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use codevol_tests::{Address, Agent, Defines, Machine, Place, Source, Transcript, project, save};
use insta::assert_snapshot;

use super::filtered;

/// A source that runs, its first release published.
fn source() -> Source {
    let place = Arc::new(Place::new());
    let mut source = Source::init(&place);
    project(&source, &Defines::asset("first"));
    source.start();
    source
}

#[test]
fn a_folder_becomes_a_source() {
    let _filtered = filtered();
    let mut told = Transcript::default();
    for json in [&[][..], &["--json"]] {
        let source = Source::new(&Arc::new(Place::new()), "pipes");
        project(&source, &Defines::asset("first"));
        let tree = source.tree().to_str().unwrap();
        let init = ["init", tree, "--listen", "127.0.0.1:0"];
        told.run(&source, &[&init, json].concat()).exits(0);
        told.run(&source, &[&init, json].concat()).exits(4);
    }
    let source = Source::new(&Arc::new(Place::new()), "pipes");
    let key = source.place().path().join("operator.key");
    let tree = source.tree().to_str().unwrap();
    let init = ["init", tree, "--operator-key", key.to_str().unwrap()];
    told.run(&source, &init).exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol init [PLACE]/pipes --listen [address]
    Volume   pipes = [PLACE]/pipes (a Dagster project, by its definitions.py)
    Wrote    [PLACE]/source/codevol.toml
    Keys     [PLACE]/source/state

    Next:  codevol -C [PLACE]/source/codevol.toml source
    then:  codevol -C [PLACE]/source/codevol.toml invite --name dag-01
    --- 0
    $ codevol init [PLACE]/pipes --listen [address]
    error: `[PLACE]/source/codevol.toml` exists already
    hint: name another file with `-C FILE`, or remove this one
    --- 4
    $ codevol init [PLACE]/pipes --listen [address] --json
    {"schema":"codevol.init/1","file":"[PLACE]/source/codevol.toml","volume":"pipes","path":"[PLACE]/pipes","state_dir":"[PLACE]/source/state","project":"definitions.py"}
    --- 0
    $ codevol init [PLACE]/pipes --listen [address] --json
    {"schema":"codevol.error/1","kind":"exists","message":"`[PLACE]/source/codevol.toml` exists already","causes":[],"hint":"name another file with `-C FILE`, or remove this one"}
    --- 4
    $ codevol init [PLACE]/pipes --operator-key [PLACE]/operator.key
    Volume   pipes = [PLACE]/pipes (no Dagster project was recognised in it; it is published all the same)
    Wrote    [PLACE]/source/codevol.toml
    Keys     [PLACE]/source/state

    Next:  codevol -C [PLACE]/source/codevol.toml source
    then:  codevol -C [PLACE]/source/codevol.toml invite --name dag-01
    Operator key  [PLACE]/operator.key: carry it off this host, and keep it. The source runs without it
    --- 0
    "#);
}

#[test]
fn a_server_becomes_an_agent() {
    let _filtered = filtered();
    let source = source();
    let mut told = Transcript::default();
    told.run(&source, &["invite", "--name", "dag-01"]).exits(0);
    told.run(&source, &["invite", "--name", "dag-02", "--json"]);
    for (name, json) in [("dag-01", &[][..]), ("dag-02", &["--json"])] {
        let agent = Agent::new(source.place(), name);
        let (token, root) = (source.invite(name), agent.root().to_str().unwrap());
        let join = ["join", &token, "--root", root];
        told.run(&agent, &[&join, json].concat()).exits(0);
        told.run(&agent, &[&join, json].concat()).exits(4);
        let other = Agent::new(source.place(), "dag-03");
        let root = other.root().to_str().unwrap();
        let join = ["join", &token, "--root", root];
        told.run(&other, &[&join, json].concat()).exits(77);
    }
    let lost = Address::Unix("/nowhere/x.sock".into());
    let agent = Agent::new(source.place(), "dag-04");
    let joined = agent.enrol(&source.invite("dag-04"), Some(&lost));
    told.keep(
        &agent,
        &["join", "TOKEN", "--code-server", "/nowhere/x.sock"],
        &joined,
    );
    assert_snapshot!(told.text(), @r#"
    $ codevol invite --name dag-01
    [token]
    --- 0
    $ codevol invite --name dag-02 --json
    {"token":"[token]","name":"dag-02","role":"agent","expires_at":"[at]"}
    --- 0
    $ codevol join [token] --root [PLACE]/dag-01/root
    Joined   as dag-01, for volume pipes
    Root     [PLACE]/dag-01/root
    Wrote    [PLACE]/dag-01/codevol.toml

    Next:  codevol -C [PLACE]/dag-01/codevol.toml agent
    --- 0
    $ codevol join [token] --root [PLACE]/dag-01/root
    error: `[PLACE]/dag-01/codevol.toml` exists already
    hint: name another file with `-C FILE`, or remove this one
    --- 4
    $ codevol join [token] --root [PLACE]/dag-03/root
    error: the source does not let this node in
      caused by: the source refused: join token was used already
    hint: make a new token on the source: codevol invite --name NAME
    --- 77
    $ codevol join [token] --root [PLACE]/dag-02/root --json
    {"schema":"codevol.join/1","file":"[PLACE]/dag-02/codevol.toml","node":"dag-02","role":"agent","volume":"pipes","root":"[PLACE]/dag-02/root","source":["[address]"],"source_key":"[key]","key_file":"[PLACE]/dag-02/state/node.key","adopted":null}
    --- 0
    $ codevol join [token] --root [PLACE]/dag-02/root --json
    {"schema":"codevol.error/1","kind":"exists","message":"`[PLACE]/dag-02/codevol.toml` exists already","causes":[],"hint":"name another file with `-C FILE`, or remove this one"}
    --- 4
    $ codevol join [token] --root [PLACE]/dag-03/root --json
    {"schema":"codevol.error/1","kind":"not-permitted","message":"the source does not let this node in","causes":["the source refused: join token was used already"],"hint":"make a new token on the source: codevol invite --name NAME"}
    --- 77
    $ codevol join TOKEN --code-server /nowhere/x.sock
    Joined   as dag-04, for volume pipes
    Root     [PLACE]/dag-04/root
    Wrote    [PLACE]/dag-04/codevol.toml

    Next:  codevol -C [PLACE]/dag-04/codevol.toml agent
    warning: code server unix:/nowhere/x.sock: cannot connect to it: No such file or directory
    --- 0
    "#);
}

#[test]
fn a_machine_becomes_an_operators_or_a_publisher() {
    let _filtered = filtered();
    let source = source();
    let mut told = Transcript::default();
    for role in ["operator", "publisher"] {
        for json in [&[][..], &["--json"]] {
            let name = format!("{role}-{}", json.len());
            let invite = ["invite", "--role", role, "--name", &name];
            let invited = told.run(&source, &[&invite, json].concat()).exits(0);
            let token = match json {
                [] => invited.stdout.trim_end().to_owned(),
                _ => invited.json()["token"].as_str().unwrap().to_owned(),
            };
            let machine = Machine::new(&source, &name);
            told.run(&machine, &[&["join", &token], json].concat())
                .exits(0);
        }
    }
    let machine = Machine::new(&source, "other");
    told.run(&machine, &["join", "cvj1nonsense", "--json"])
        .exits(77);
    assert_snapshot!(told.text(), @r#"
    $ codevol invite --role operator --name operator-0
    [token]
    --- 0
    $ codevol join [token]
    Joined   as operator-0, role operator
    Wrote    [PLACE]/operator-0/codevol.toml
    Key      [PLACE]/operator-0/state/node.key

    Next:  codevol -C [PLACE]/operator-0/codevol.toml status
    --- 0
    $ codevol invite --role operator --name operator-1 --json
    {"token":"[token]","name":"operator-1","role":"operator","expires_at":"[at]"}
    --- 0
    $ codevol join [token] --json
    {"schema":"codevol.join/1","file":"[PLACE]/operator-1/codevol.toml","node":"operator-1","role":"operator","volume":null,"root":null,"source":["[address]"],"source_key":"[key]","key_file":"[PLACE]/operator-1/state/node.key","adopted":null}
    --- 0
    $ codevol invite --role publisher --name publisher-0
    [token]
    --- 0
    $ codevol join [token]
    Joined   as publisher-0, role publisher
    Wrote    [PLACE]/publisher-0/codevol.toml
    Key      [PLACE]/publisher-0/state/node.key

    For CI, in place of the configuration, with the key file as a secret:
      CODEVOL_SOURCE=[address]
      CODEVOL_SOURCE_KEY=[key]
      CODEVOL_KEY_FILE=<where CI puts that secret, mode 0600>

    Next:  codevol -C [PLACE]/publisher-0/codevol.toml status
    --- 0
    $ codevol invite --role publisher --name publisher-1 --json
    {"token":"[token]","name":"publisher-1","role":"publisher","expires_at":"[at]"}
    --- 0
    $ codevol join [token] --json
    {"schema":"codevol.join/1","file":"[PLACE]/publisher-1/codevol.toml","node":"publisher-1","role":"publisher","volume":null,"root":null,"source":["[address]"],"source_key":"[key]","key_file":"[PLACE]/publisher-1/state/node.key","adopted":null}
    --- 0
    $ codevol join [token] --json
    {"schema":"codevol.error/1","kind":"not-permitted","message":"the token is refused","causes":["join token is damaged: its checksum does not hold"],"hint":"copy it whole, or make a new one on the source: codevol invite --name NAME"}
    --- 77
    "#);
}

#[test]
fn members_are_listed_get_another_key_and_go() {
    let _filtered = filtered();
    let source = source();
    let agent = Agent::join_and_start(&source, "dag-01", None);
    let laptop = Machine::join(&source, "alice", "operator");
    source.wait_live_everywhere(1);
    let mut told = Transcript::default();
    told.run(&laptop, &["node", "ls"]).exits(0);
    told.run(&agent, &["node", "rotate"]).exits(0);
    told.run(&laptop, &["node", "rotate", "--json"]).exits(2);
    told.run(&source, &["node", "rotate"]).exits(2);
    told.run(&laptop, &["node", "rm", "dag-01"]).exits(2);
    told.run(&laptop, &["node", "rm", "dag-01", "-y"]).exits(0);
    told.run(&laptop, &["node", "rm", "dag-01", "-y", "--json"])
        .exits(4);
    told.run(&laptop, &["node", "ls", "--json"]).exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol node ls
    NODE  ROLE  KEY  JOINED  SEEN
    alice  operator  [key]  now  now
    dag-01  agent  [key]  now  now
    --- 0
    $ codevol node rotate
    node `dag-01` has the key [key] in place of [key], which is revoked
    --- 0
    $ codevol node rotate --json
    {"schema":"codevol.error/1","kind":"usage","message":"this machine has no daemon that could replace its key","causes":[],"hint":"take it out by `codevol node rm`, and join it anew: codevol invite --role operator"}
    --- 2
    $ codevol node rotate
    error: the source's own key is pinned by every node, and stays
    hint: `codevol node rotate` on an agent's host replaces that node's key
    --- 2
    $ codevol node rm dag-01
    error: nobody can answer: take `dag-01` out of the fleet? It keeps what it serves, and gets nothing new
    hint: say yes beforehand with `--yes`
    --- 2
    $ codevol node rm dag-01 -y
    node `dag-01` is a member no more
    --- 0
    $ codevol node rm dag-01 -y --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no node `dag-01`","causes":[],"hint":"`codevol node ls` lists the members"}
    --- 4
    $ codevol node ls --json
    {"schema":"codevol.nodes/1","nodes":[{"name":"alice","role":"operator","key":"[key]","joined_at":"[at]","last_seen_at":"[at]","online":true}]}
    --- 0
    "#);
}

/// What people have used until now, with a link that no release can carry.
fn lived_in(agent: &Agent) {
    save(&agent.root().join("pipes/orders.py"), b"ORDERS = 0\n");
    symlink("/etc/hosts", agent.root().join("hosts")).unwrap();
}

#[test]
fn what_stands_on_a_server_becomes_r0() {
    let _filtered = filtered();
    let source = source();
    let mut told = Transcript::default();
    for (name, json) in [("dag-01", &[][..]), ("dag-02", &["--json"])] {
        let agent = Agent::new(source.place(), name);
        lived_in(&agent);
        let (token, root) = (source.invite(name), agent.root().to_str().unwrap());
        let join = ["join", &token, "--root", root];
        told.run(&agent, &[&join, json].concat()).exits(4);
        let adopt = [&join[..], &["--adopt"], json].concat();
        told.run(&agent, &adopt).exits(0);
        told.run(&agent, &[&["adopt"], json].concat()).exits(4);
    }
    told.remark("later on");
    for (name, json) in [("dag-03", &[][..]), ("dag-04", &["--json"])] {
        let mut agent = Agent::join(&source, name, None);
        told.run(&agent, &[&["adopt"], json].concat()).exits(4);
        lived_in(&agent);
        told.run(&agent, &[&["adopt"], json].concat()).exits(0);
        agent.start();
        told.run(&agent, &[&["adopt"], json].concat()).exits(4);
    }
    assert_snapshot!(told.text(), @r#"
    $ codevol join [token] --root [PLACE]/dag-01/root
    error: the root `[PLACE]/dag-01/root` is not empty
    hint: `--adopt` makes what stands there r0, to go back to; or name an empty or a new folder
    --- 4
    $ codevol join [token] --root [PLACE]/dag-01/root --adopt
    Joined   as dag-01, for volume pipes
    Root     [PLACE]/dag-01/root
    Wrote    [PLACE]/dag-01/codevol.toml
    Adopted  1 file (11 B) as r0, a copy: what stands in [PLACE]/dag-01/root stays as it is
    Dagster  goes on with [PLACE]/dag-01/root itself until it is started with `-d [PLACE]/dag-01/root/current`: only there it sees releases, and r0 where it must go back

    Next:  codevol -C [PLACE]/dag-01/codevol.toml agent
    warning: `hosts` is not in r0: the link leaves the volume
    --- 0
    $ codevol adopt
    error: what stands in `[PLACE]/dag-01/root` was not adopted
      caused by: the volume holds releases already
    hint: a baseline is what stood there before the first release: there is one
    --- 4
    $ codevol join [token] --root [PLACE]/dag-02/root --json
    {"schema":"codevol.error/1","kind":"exists","message":"the root `[PLACE]/dag-02/root` is not empty","causes":[],"hint":"`--adopt` makes what stands there r0, to go back to; or name an empty or a new folder"}
    --- 4
    $ codevol join [token] --root [PLACE]/dag-02/root --adopt --json
    {"schema":"codevol.join/1","file":"[PLACE]/dag-02/codevol.toml","node":"dag-02","role":"agent","volume":"pipes","root":"[PLACE]/dag-02/root","source":["[address]"],"source_key":"[key]","key_file":"[PLACE]/dag-02/state/node.key","adopted":"[id]"}
    warning: `hosts` is not in r0: the link leaves the volume
    --- 0
    $ codevol adopt --json
    {"schema":"codevol.error/1","kind":"exists","message":"what stands in `[PLACE]/dag-02/root` was not adopted","causes":["the volume holds releases already"],"hint":"a baseline is what stood there before the first release: there is one"}
    --- 4
    # later on
    $ codevol adopt
    error: what stands in `[PLACE]/dag-03/root` was not adopted
      caused by: nothing stands there that could be adopted
    --- 4
    $ codevol adopt
    Adopted  1 file (11 B) as r0, a copy: what stands in [PLACE]/dag-03/root stays as it is
    Dagster  goes on with [PLACE]/dag-03/root itself until it is started with `-d [PLACE]/dag-03/root/current`: only there it sees releases, and r0 where it must go back
    warning: `hosts` is not in r0: the link leaves the volume
    --- 0
    $ codevol adopt
    error: the agent runs, and holds the volume
      caused by: state directory is in use
      caused by: `lock` is held by process [pid]
    hint: stop it, adopt, and start it again
    --- 4
    $ codevol adopt --json
    {"schema":"codevol.error/1","kind":"empty","message":"what stands in `[PLACE]/dag-04/root` was not adopted","causes":["nothing stands there that could be adopted"],"hint":null}
    --- 4
    $ codevol adopt --json
    {"schema":"codevol.adopt/1","volume":"pipes","release":"[id]","files":1,"bytes":11,"skipped":[{"path":"hosts","why":"the link leaves the volume"}],"opened":[]}
    warning: `hosts` is not in r0: the link leaves the volume
    --- 0
    $ codevol adopt --json
    {"schema":"codevol.error/1","kind":"running","message":"the agent runs, and holds the volume","causes":["state directory is in use","`lock` is held by process [pid]"],"hint":"stop it, adopt, and start it again"}
    --- 4
    "#);
}

#[test]
fn a_backup_becomes_a_source_again() {
    let _filtered = filtered();
    let mut source = source();
    let tree = source.tree().to_str().unwrap().to_owned();
    let restore = ["init", &tree, "--restore"];
    let mut told = Transcript::default();
    told.run(&source, &restore).exits(78);
    source.process().terminate();
    let file = source.file();
    told.run(&source, &restore).exits(0);
    told.run(&source, &[&restore[..], &["--json"]].concat())
        .exits(0);
    let elsewhere = ["init", "/", "--restore", "--json"];
    told.run(&source, &elsewhere).exits(2);
    told.remark("without its configuration");
    fs::remove_file(&file).unwrap();
    let named = [&restore[..], &["--volume", "pipes"]].concat();
    told.run(&source, &named).exits(0);
    assert!(file.exists());
    told.run(&source, &named).exits(2);
    assert_snapshot!(told.text(), @r#"
    $ codevol init [PLACE]/tree --restore
    error: cannot use the state folder `[PLACE]/source/state`
      caused by: state directory is in use
      caused by: `lock` is held by process [pid]
    hint: stop the source that runs on it, if one does
    --- 78
    $ codevol init [PLACE]/tree --restore
    Restored  a fleet of 0 members
    Frozen    pipes, at r1 by this backup; servers may know newer ones

    Next:  codevol -C [PLACE]/source/codevol.toml source
    then:  codevol -C [PLACE]/source/codevol.toml status, until every server was heard
    then:  codevol -C [PLACE]/source/codevol.toml thaw: what stands in the tree goes live
    --- 0
    $ codevol init [PLACE]/tree --restore --json
    {"schema":"codevol.restore/1","file":"[PLACE]/source/codevol.toml","members":0,"volumes":[{"name":"pipes","head":1}]}
    --- 0
    $ codevol init / --restore --json
    {"schema":"codevol.error/1","kind":"usage","message":"`/` is no volume of `[PLACE]/source/codevol.toml`","causes":[],"hint":"name the folder that stands there as `path`"}
    --- 2
    # without its configuration
    $ codevol init [PLACE]/tree --restore --volume pipes
    Restored  a fleet of 0 members
    Frozen    pipes, at r1 by this backup; servers may know newer ones

    Next:  codevol -C [PLACE]/source/codevol.toml source
    then:  codevol -C [PLACE]/source/codevol.toml status, until every server was heard
    then:  codevol -C [PLACE]/source/codevol.toml thaw: what stands in the tree goes live
    --- 0
    $ codevol init [PLACE]/tree --restore --volume pipes
    error: `[PLACE]/source/codevol.toml` exists and says what `--volume` would
    hint: edit that file, or name another with `-C`
    --- 2
    "#);
}
