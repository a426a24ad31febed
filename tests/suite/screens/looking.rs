//! What is, what was, what differs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use codevol_tests::{Fleet, Machine, Transcript, wait_until};
use insta::assert_snapshot;

use super::filtered;

/// A fleet of one on r2, and a laptop.
fn fleet() -> (Fleet, Machine) {
    let fleet = Fleet::start_with(1, |source| {
        source.set("VOLUME__0__PUBLISH", "manual");
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    laptop.run(&["push", "-m", "begin"]).succeeds();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.save("pipes/logo.png", b"\0\x01");
    laptop.run(&["push", "-m", "null ids"]).succeeds();
    (fleet, laptop)
}

#[test]
fn how_things_stand() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    let agent = &fleet.agents[0];
    let mut told = Transcript::default();
    told.run(&laptop, &["status"]).exits(0);
    told.run(agent, &["status"]).exits(0);
    told.run(agent, &["status", "--json"]).exits(0);
    told.run(&laptop, &["health"]).exits(0);
    told.run(agent, &["health", "--ready"]).exits(0);
    told.run(agent, &["health", "--ready", "--json"]).exits(0);
    told.run(&laptop, &["ping", "dag-01"]).exits(0);
    told.run(&laptop, &["ping", "dag-01", "--json"]).exits(0);
    told.run(&laptop, &["ping", "dag-09"]).exits(4);
    told.run(&laptop, &["ignored"]).exits(0);
    fleet.source.save(".env", "PASSWORD=secret\n");
    told.run(&laptop, &["ignored", "--json"]).exits(0);
    told.run(&laptop, &["ignored", "--why", ".env"]).exits(0);
    told.run(&laptop, &["ignored", "--why", "definitions.py", "--json"])
        .exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol status
    pipes  r2  push by alice, now, "null ids"  live on 1 of 1

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r2 [id]  live  -  activated  -  now
    --- 0
    $ codevol status
    source [address]   connected

    pipes  r2  push by alice, now, "null ids"  live on 1 of 1

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r2 [id]  live  -  activated  -  now
    --- 0
    $ codevol status --json
    {"schema":"codevol.status/1","fleet":"[id]","listen":null,"source":{"address":"[address]","state":"connected"},"volumes":[{"name":"pipes","head":null,"live":2,"frozen":null,"rollout":null,"waits_for":[],"quarantined":[],"skipped":[],"watch":null,"release":{"seq":2,"id":"[id]","manifest":"[id]","parent":"[id]","origin":"push","author":"alice","message":"null ids","created_at":"[at]","files":5,"bytes":178,"git":null},"skew":[],"nodes":[{"name":"dag-01","state":"live","release":2,"staged":[2,1],"lag":0,"evidence":"activated","last_seen_at":"[at]","held":null,"drift":[],"drift_more":0,"environments":[],"dependencies":null,"code_servers":[],"error":null}],"not_in_git":[]}]}
    --- 0
    $ codevol health
    the source answers
    --- 0
    $ codevol health --ready
    the agent is ready
    --- 0
    $ codevol health --ready --json
    {"schema":"codevol.health/1","role":"agent","ready":true}
    --- 0
    $ codevol ping dag-01
    dag-01 at [address] answers in [took]
    --- 0
    $ codevol ping dag-01 --json
    {"schema":"codevol.ping/1","node":"dag-01","address":"[address]","rtt_ms":[took]}
    --- 0
    $ codevol ping dag-09
    error: there is no node `dag-09`
    hint: `codevol node ls` lists the members
    --- 4
    $ codevol ignored
    nothing is left out
    --- 0
    $ codevol ignored --json
    {"schema":"codevol.ignored/1","paths":[{"path":".env","ignored":true,"rule":".env","from":"built-in"}]}
    --- 0
    $ codevol ignored --why .env
    `.env` is left out, by `.env` (built-in)
    --- 0
    $ codevol ignored --why definitions.py --json
    {"schema":"codevol.ignored/1","paths":[{"path":"definitions.py","ignored":false,"rule":null,"from":null}]}
    --- 0
    "#);
}

#[test]
fn what_was() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    let agent = &fleet.agents[0];
    let mut told = Transcript::default();
    told.run(&laptop, &["log"]).exits(0);
    told.run(&laptop, &["log", "-n", "1", "--json"]).exits(0);
    told.run(&laptop, &["log", "r2"]).exits(0);
    let story = told.run(&laptop, &["log", "r2", "--json"]).exits(0).json();
    let mut steps = story["steps"].as_array().unwrap().iter();
    let at = steps.rfind(|step| step["step"] == "live");
    let at = at.unwrap()["at"].as_str().unwrap();
    told.run(&laptop, &["log", "--at", at]).exits(0);
    told.run(&laptop, &["log", "--at", at, "--node", "dag-01", "--json"])
        .exits(0);
    told.run(&laptop, &["audit", "verify"]).exits(0);
    told.run(&laptop, &["audit", "verify", "--json"]).exits(0);
    told.remark("on a server, what it holds itself");
    told.run(agent, &["log"]).exits(0);
    told.run(agent, &["log", "r2"]).exits(2);
    told.run(agent, &["diff"]).exits(78);
    assert_snapshot!(told.text(), @r#"
    $ codevol log
    RELEASE  RESULT  WHEN  ORIGIN  BY  FILES  GIT  MESSAGE
    r2 [id]  live  now  push  alice  5  null ids
    r1 [id]  superseded  now  push  alice  4  begin
    --- 0
    $ codevol log -n 1 --json
    {"schema":"codevol.log/1","releases":[{"seq":2,"id":"[id]","manifest":"[id]","parent":"[id]","origin":"push","author":"alice","message":"null ids","created_at":"[at]","files":5,"bytes":178,"git":null,"result":"live"}]}
    --- 0
    $ codevol log r2
    r2
      result    live
      id        [id]
      parent    [id]
      manifest  [id]
      tree      5 files, 178 B
      origin    push
      by        alice
      when      [at] (now)
      git       not known

      null ids

    WHEN  NODE  STEP  EVIDENCE  BY
    [at]  published  alice  null ids
    [at]  dag-01  staged
    [at]  dag-01  activated
    [at]  dag-01  verified  activated
    [at]          live moved to r2
    [at]          rollout done
    --- 0
    $ codevol log r2 --json
    {"schema":"codevol.log/1","release":{"seq":2,"id":"[id]","manifest":"[id]","parent":"[id]","origin":"push","author":"alice","message":"null ids","created_at":"[at]","files":5,"bytes":178,"git":null,"result":"live"},"steps":[{"line":[n],"at":"[at]","step":"published","release":2,"node":null,"by":"alice","evidence":null,"detail":"null ids"},{"line":[n],"at":"[at]","step":"staged","release":2,"node":"dag-01","by":"codevol","evidence":null,"detail":null},{"line":[n],"at":"[at]","step":"activated","release":2,"node":"dag-01","by":"codevol","evidence":null,"detail":null},{"line":[n],"at":"[at]","step":"verified","release":2,"node":"dag-01","by":"codevol","evidence":"activated","detail":null},{"line":[n],"at":"[at]","step":"live","release":2,"node":null,"by":"codevol","evidence":null,"detail":null},{"line":[n],"at":"[at]","step":"rollout-done","release":2,"node":null,"by":"codevol","evidence":null,"detail":null}],"steps_cut":0,"journal_first":1}
    --- 0
    $ codevol log --at [at]
    pipes at [at]: r2 live

      NODE  RELEASE  SINCE  FOUND  EVIDENCE  LINK
      dag-01  r2  [at]  good  activated
    --- 0
    $ codevol log --at [at] --node dag-01 --json
    {"schema":"codevol.at/1","at":"[at]","volume":"pipes","live":2,"frozen_by":null,"nodes":[{"node":"dag-01","release":2,"since":"[at]","evidence":"activated","found":"good","online":true,"held_by":null}],"line":[n],"set_back":null,"journal_first":1}
    --- 0
    $ codevol audit verify
    [n] lines in 1 file, 1 to [n]: one chain, nothing is damaged
    --- 0
    $ codevol audit verify --json
    {"schema":"codevol.audit/1","journal":"[PLACE]/source/state/journal","files":1,"lines":[n],"first":1,"last":[n],"cut_bytes":0,"bad":null}
    --- 0
    # on a server, what it holds itself
    $ codevol log
    RELEASE  RESULT  WHEN  ORIGIN  BY  FILES  GIT  MESSAGE
    r2 [id]  live  now  push  alice  5  null ids
    r1 [id]  superseded  now  push  alice  4  begin
    --- 0
    $ codevol log r2
    error: this daemon is an agent; that is asked of the source
    hint: run it on the source's host, or on an operator's machine
    --- 2
    $ codevol diff
    error: `[PLACE]/dag-01/codevol.toml` is the configuration of an agent: this asks the source
    hint: run it on the source's host or an operator's machine, or name the configuration of one with `-C FILE`
    --- 78
    "#);
}

/// Writes to a file of a release, as only who owns it can.
fn overwrite(path: &Path, text: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    codevol_tests::save(path, text.as_bytes());
}

#[test]
fn what_differs() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    let mut told = Transcript::default();
    told.run(&laptop, &["diff"]).exits(0);
    told.run(&laptop, &["diff", "r1", "r2"]).exits(0);
    told.run(&laptop, &["diff", "r1", "r2", "--json"]).exits(0);
    told.run(&laptop, &["verify"]).exits(0);
    let current = fleet.agents[0].root().join("current/pipes");
    overwrite(&current.join("orders.py"), "ORDERS = 'mine'\n");
    overwrite(&current.join("logo.png"), "\0\x02");
    codevol_tests::save(&current.join("notes.txt"), b"mine\n");
    fs::remove_file(current.join("__init__.py")).unwrap();
    wait_until("all of it is found", || {
        let verified = laptop.run(&["verify", "--json"]).exits(5).json();
        verified["nodes"][0]["drift"].as_array().unwrap().len() == 4
    });
    told.run(&laptop, &["diff", "--node", "dag-01"]).exits(0);
    told.run(&laptop, &["verify"]).exits(5);
    told.run(&laptop, &["verify", "--deep", "--json"]).exits(5);
    told.run(&laptop, &["status"]).exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol diff
    r2 and tree are the same
    --- 0
    $ codevol diff r1 r2
    added pipes/logo.png (file)
    binary files differ: nothing -> 2 B
    changed pipes/orders.py (file)
    --- r1/pipes/orders.py
    +++ r2/pipes/orders.py
    @@ -1,1 +1,1 @@
    -ORDERS = 1
    +ORDERS = 2
    --- 0
    $ codevol diff r1 r2 --json
    {"schema":"codevol.diff/1","from":"r1","to":"r2","files":[{"path":"pipes/logo.png","change":"added","old":null,"new":{"kind":"file","bytes":2,"executable":false,"target":null},"content":"binary"},{"path":"pipes/orders.py","change":"changed","old":{"kind":"file","bytes":11,"executable":false,"target":null},"new":{"kind":"file","bytes":11,"executable":false,"target":null},"content":{"text":{"hunks":"@@ -1,1 +1,1 @@\n-ORDERS = 1\n+ORDERS = 2\n","lines_cut":0}}}],"files_cut":0}
    --- 0
    $ codevol verify
    pipes  as released on 1 of 1  the release that each node runs

      NODE  RELEASE  DISK  CODE SERVER  EVIDENCE  LOOKED AT
      dag-01  r2  clean  -  activated  5 files, 178 B in [took]
    dag-01 clean
    --- 0
    $ codevol diff --node dag-01
    removed pipes/__init__.py (file)
    changed pipes/logo.png (file)
    binary files differ: 2 B -> 2 B
    added pipes/notes.txt (file)
    --- /dev/null
    +++ dag-01/pipes/notes.txt
    @@ -1,0 +1,1 @@
    +mine
    changed pipes/orders.py (file)
    --- r2/pipes/orders.py
    +++ dag-01/pipes/orders.py
    @@ -1,1 +1,1 @@
    -ORDERS = 2
    +ORDERS = 'mine'
    --- 0
    $ codevol verify
    pipes  drift on 1 of 1  the release that each node runs

      NODE  RELEASE  DISK  CODE SERVER  EVIDENCE  LOOKED AT
      dag-01  r2  drifted  -  activated  5 files, 167 B in [took]

    drift on dag-01; `codevol diff --node dag-01` shows how
      missing  pipes/__init__.py
      changed  pipes/logo.png
      foreign  pipes/notes.txt
      changed  pipes/orders.py
    dag-01 drifted: 4 paths
    --- 5
    $ codevol verify --deep --json
    {"schema":"codevol.verify/1","volume":"pipes","deep":true,"at":"[at]","drift":true,"nodes":[{"name":"dag-01","state":"drifted","release":2,"releases":2,"files":9,"bytes":178,"elapsed_ms":[took],"drift":[{"release":2,"path":"pipes/__init__.py","kind":"missing"},{"release":2,"path":"pipes/logo.png","kind":"changed"},{"release":2,"path":"pipes/notes.txt","kind":"foreign"},{"release":2,"path":"pipes/orders.py","kind":"changed"}],"drift_more":0,"evidence":"activated","code_servers":[],"error":null}],"source":{"blobs":7,"damaged":[],"damaged_more":0,"missing":[],"missing_more":0,"error":null}}
    --- 5
    $ codevol status
    pipes  r2  push by alice, now, "null ids"  live on 1 of 1

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r2 [id]  live  -  activated  -  now

    # Health
    #   on dag-01 4 paths are not as released: pipes/__init__.py (missing), pipes/logo.png (changed), pipes/notes.txt (foreign) and pipes/orders.py (changed); `codevol diff --node dag-01` shows how
    --- 0
    "#);
}

#[test]
fn what_is_configured() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    let mut told = Transcript::default();
    told.run(&fleet.source, &["config", "check"]).exits(0);
    told.run(&fleet.agents[0], &["config", "check", "--json"])
        .exits(0);
    told.run(&laptop, &["config", "show"]).exits(0);
    told.run(&laptop, &["config", "show", "--json"]).exits(0);
    codevol_tests::save(&laptop.file(), b"role = \"operator\"\nsorce = 1\n");
    told.run(&laptop, &["doctor"]).exits(1);
    told.run(&laptop, &["doctor", "--json"]).exits(1);
    told.run(&laptop, &["config", "check", "--json"]).exits(78);
    assert_snapshot!(told.text(), @r#"
    $ codevol config check
    [PLACE]/source/codevol.toml (source) is valid on this machine
    --- 0
    $ codevol config check --json
    {"schema":"codevol.config-check/1","file":"[PLACE]/dag-01/codevol.toml","role":"agent","environment":true,"warnings":[]}
    --- 0
    $ codevol config show
    # [PLACE]/alice/codevol.toml
    role = "operator"                         # file, line 1
    source = ["[address]"]              # file, line 4
    state_dir = "[PLACE]/alice/state"  # default
    --- 0
    $ codevol config show --json
    {"schema":"codevol.config/1","file":"[PLACE]/alice/codevol.toml","role":"operator","settings":[{"key":"role","value":"operator","origin":"file","line":1,"variable":null},{"key":"source","value":["[address]"],"origin":"file","line":4,"variable":null},{"key":"state_dir","value":"[PLACE]/alice/state","origin":"default","line":null,"variable":null}]}
    --- 0
    $ codevol doctor
    wrong  configuration  configuration `[PLACE]/alice/codevol.toml` has 2 faults; [PLACE]/alice/codevol.toml:2:1: unknown key `sorce`; did you mean `source`?; [PLACE]/alice/codevol.toml: `source` names no address: write `source = ["src01:7443"]`
                            mend: `codevol config check` shows where each stands

    1 thing is wrong; 0 warnings
    --- 1
    $ codevol doctor --json
    {"schema":"codevol.doctor/1","file":null,"role":null,"net":false,"wrong":1,"warnings":0,"checks":[{"check":"configuration","state":"wrong","message":"configuration `[PLACE]/alice/codevol.toml` has 2 faults; [PLACE]/alice/codevol.toml:2:1: unknown key `sorce`; did you mean `source`?; [PLACE]/alice/codevol.toml: `source` names no address: write `source = [\"src01:7443\"]`","mend":"`codevol config check` shows where each stands"}]}
    --- 1
    $ codevol config check --json
    {"schema":"codevol.error/1","kind":"config","message":"configuration `[PLACE]/alice/codevol.toml` has 2 faults","causes":["[PLACE]/alice/codevol.toml:2:1: unknown key `sorce`; did you mean `source`?","[PLACE]/alice/codevol.toml: `source` names no address: write `source = [\"src01:7443\"]`"],"hint":null}
    --- 78
    "#);
}
