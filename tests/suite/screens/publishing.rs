//! Publishing and taking back.

use codevol_tests::{Fleet, Machine, Transcript};
use insta::assert_snapshot;

use super::filtered;

/// A fleet of one whose tree is published by hand, and a laptop.
fn fleet() -> (Fleet, Machine) {
    let fleet = Fleet::start_with(1, |source| {
        source.set("VOLUME__0__PUBLISH", "manual");
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    (fleet, laptop)
}

#[test]
fn a_tree_is_looked_at_and_published() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    let mut told = Transcript::default();
    told.run(&laptop, &["push", "-m", "begin"]).exits(0);
    told.run(&laptop, &["plan"]).exits(0);
    told.run(&laptop, &["push"]).exits(0);
    fleet
        .source
        .save("pipes/orders.py", "ORDERS = 2\nMORE = 3\n");
    fleet.source.save("pipes/new.py", "NEW = 1\n");
    fleet.source.remove("definitions.py");
    told.run(&laptop, &["plan"]).exits(0);
    told.run(&laptop, &["plan", "--json"]).exits(0);
    told.run(&laptop, &["push", "-m", "null ids", "--json"])
        .exits(0);
    fleet.source.save("pipes/orders.py", "ORDERS = 3\n");
    told.run(&laptop, &["push", "--no-wait"]).exits(0);
    fleet.source.wait_live_everywhere(3);
    told.run(&laptop, &["retry", "r3"]).exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol push -m begin
    Hashed  4 files (176 B)  [took]
    Release  r1 = 4 added  +7 -0 lines

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  ok [n] B  ok [took]  activated [took]

    Live on 1 of 1 in [took]
    Undo:  codevol rollback
    Waiting  up to 5m 00s for 1 node
    pipes published r1
    dag-01 staged r1 ([n] B, [took])
    dag-01 activated r1 ([took])
    dag-01 verified r1 (activated, [took])
    --- 0
    $ codevol plan
    Release  none: the tree is r1
    --- 0
    $ codevol push
    Release  r1, which the tree equals  +7 -0 lines

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  ok  ok  live

    Live on 1 of 1 in [took]
    Undo:  codevol rollback
    Waiting  up to 5m 00s for 1 node
    dag-01 staged r1
    dag-01 activated r1
    --- 0
    $ codevol plan
    Hashed  2 files (28 B)  [took]
    Release  r1 + 1 changed, 1 added, 1 removed, not published  +3 -2 lines

      - definitions.py
      + pipes/new.py
      ~ pipes/orders.py
    --- 0
    $ codevol plan --json
    {"schema":"codevol.plan/1","volume":"pipes","release":null,"base":1,"unchanged":false,"changes":[{"path":"definitions.py","kind":"removed"},{"path":"pipes/new.py","kind":"added"},{"path":"pipes/orders.py","kind":"changed"}],"changes_more":0,"skipped":[],"hashed_files":2,"hashed_bytes":28,"hashed_ms":[took],"deadline_ms":300000,"nodes":1,"lines":{"added":3,"removed":2,"uncounted":0}}
    --- 0
    $ codevol push -m null ids --json
    {"event":"release.published","at":"[at]","volume":"pipes","release":2,"node":null,"elapsed_ms":null,"bytes":null,"evidence":null,"wave":null,"error":null}
    {"event":"node.staged","at":"[at]","volume":"pipes","release":2,"node":"dag-01","elapsed_ms":[took],"bytes":[n],"evidence":null,"wave":1,"error":null}
    {"event":"node.activated","at":"[at]","volume":"pipes","release":2,"node":"dag-01","elapsed_ms":[took],"bytes":null,"evidence":null,"wave":1,"error":null}
    {"event":"node.verified","at":"[at]","volume":"pipes","release":2,"node":"dag-01","elapsed_ms":[took],"bytes":null,"evidence":"activated","wave":null,"error":null}
    {"event":"rollout.done","at":"[at]","volume":"pipes","release":2,"live":2,"returned":false,"wave":1,"waves":1,"nodes":{"dag-01":"live"},"held":[],"warnings":[],"error":null}
    --- 0
    $ codevol push --no-wait
    Hashed  1 file (11 B)  [took]
    Release  r3 = r2 + 1 changed  +1 -2 lines
    --- 0
    $ codevol retry r3
    Release  r3

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  -  -  live

    Live on 1 of 1 in [took]
    Undo:  codevol rollback
    Waiting  up to 5m 00s for 1 node
    --- 0
    "#);
}

#[test]
fn a_file_and_a_folder_of_a_laptop_are_published() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    laptop.run(&["push"]).succeeds();
    let file = laptop.save("orders.py", "ORDERS = 2\n");
    let push = ["push", "--as", "pipes/orders.py", file.to_str().unwrap()];
    let mut told = Transcript::default();
    told.run(&laptop, &[&push[..], &["--dry-run"]].concat())
        .exits(0);
    told.run(&laptop, &[&push[..], &["-m", "null ids"]].concat())
        .exits(0);
    told.run(&laptop, &["status"]).exits(0);
    let folder = laptop.save("checkout/definitions.py", "x = 1\n");
    let folder = folder.parent().unwrap().to_str().unwrap();
    told.run(&laptop, &["push", folder, "-q"]).exits(0);
    told.remark("what another fleet has sealed");
    let sealed = laptop.path().join("r2.tar");
    let sealed = sealed.to_str().unwrap();
    laptop.run(&["seal", "r2", "-o", sealed]).succeeds();
    told.run(&laptop, &["push", sealed]).exits(0);
    assert_eq!(fleet.source.status().head(), 4);
    assert_snapshot!(told.text(), @r#"
    $ codevol push --as pipes/orders.py [PLACE]/alice/orders.py --dry-run
    Hashed  1 file (11 B)  [took]
    Release  r1 + 1 changed, not published

      ~ pipes/orders.py
    --- 0
    $ codevol push --as pipes/orders.py [PLACE]/alice/orders.py -m null ids
    Hashed  1 file (11 B)  [took]
    Release  r2 = r1 + 1 changed  +1 -1 lines

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  ok [n] B  ok [took]  activated [took]

    Live on 1 of 1 in [took]
    Undo:  codevol rollback
    Waiting  up to 5m 00s for 1 node
    pipes published r2
    dag-01 staged r2 ([n] B, [took])
    dag-01 activated r2 ([took])
    dag-01 verified r2 (activated, [took])
    --- 0
    $ codevol status
    pipes  r2  hot-fix by alice, now, "null ids"  live on 1 of 1

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r2 [id]  live  -  activated  -  now
    --- 0
    $ codevol push [PLACE]/alice/checkout -q
    Hashed  1 file (6 B)  [took]
    Release  r3 = r2 + 1 changed, 3 removed  +1 -7 lines

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  ok [n] B  ok [took]  activated [took]

    Live on 1 of 1 in [took]
    Undo:  codevol rollback
    --- 0
    # what another fleet has sealed
    $ codevol push [PLACE]/alice/r2.tar
    Hashed  4 files (176 B)  [took]
    Release  r4 = r3 + 1 changed, 3 added  +7 -1 lines

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  ok [n] B  ok [took]  activated [took]

    Live on 1 of 1 in [took]
    Undo:  codevol rollback
    Take in  sealed r2 [id] of pipes; the source's own tree stays as it is, and the next push of it publishes it
    Waiting  up to 5m 00s for 1 node
    pipes published r4
    dag-01 staged r4 ([n] B, [took])
    dag-01 activated r4 ([took])
    dag-01 verified r4 (activated, [took])
    --- 0
    "#);
}

#[test]
fn a_volume_is_frozen_and_taken_back() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    laptop.run(&["push"]).succeeds();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    laptop.run(&["push", "-m", "second"]).succeeds();
    let mut told = Transcript::default();
    told.run(&laptop, &["freeze", "--json"]).exits(0);
    told.run(&laptop, &["freeze", "-m", "month end"]).exits(0);
    told.run(&laptop, &["thaw", "-m", "books closed"]).exits(0);
    told.run(&laptop, &["thaw", "--json"]).exits(0);
    told.run(&laptop, &["rollback"]).exits(2);
    told.run(&laptop, &["rollback", "-m", "wrong figures", "-y"])
        .exits(0);
    told.run(&laptop, &["status"]).exits(0);
    told.run(&laptop, &["status", "--json"]).exits(0);
    told.run(&laptop, &["rollback", "r2", "-y", "--json"])
        .exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol freeze --json
    {"schema":"codevol.done/1","message":"volume `pipes` is frozen"}
    --- 0
    $ codevol freeze -m month end
    volume `pipes` is frozen
    --- 0
    $ codevol thaw -m books closed
    volume `pipes` is thawed; it was frozen by alice: month end
    --- 0
    $ codevol thaw --json
    {"schema":"codevol.done/1","message":"volume `pipes` is not frozen: nothing was to be thawed"}
    --- 0
    $ codevol rollback
    error: nobody can answer: take volume `pipes` from r2 back to the release that was live before on every server, and freeze it until `thaw`?
    hint: say yes beforehand with `--yes`
    --- 2
    $ codevol rollback -m wrong figures -y
    Release  r3 = r2 + 1 changed  +1 -1 lines

      NODE  STAGE  ACTIVATE  VERIFY
      dag-01  ok [n] B  ok [took]  activated [took]

    Live on 1 of 1 in [took]
    The volume is frozen: `codevol thaw` lets new releases go live again
    Waiting  up to 5m 00s for 1 node
    pipes published r3
    dag-01 staged r3 ([n] B, [took])
    dag-01 activated r3 ([took])
    dag-01 verified r3 (activated, [took])
    --- 0
    $ codevol status
    pipes  r3  rollback by alice, now, "wrong figures"  live on 1 of 1

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r3 [id]  live  -  activated  -  now

    # Health
    #   frozen by alice, now: rolled back from r2 to r1; `codevol thaw` ends it
    --- 0
    $ codevol status --json
    {"schema":"codevol.status/1","fleet":"[id]","listen":"[address]","source":null,"volumes":[{"name":"pipes","head":3,"live":3,"frozen":{"why":"rolled back from r2 to r1","by":"alice","at":"[at]"},"rollout":null,"waits_for":[],"quarantined":[],"skipped":[],"watch":{"mode":"inotify","state":"ok","advice":null},"release":{"seq":3,"id":"[id]","manifest":"[id]","parent":"[id]","origin":"rollback","author":"alice","message":"wrong figures","created_at":"[at]","files":4,"bytes":176,"git":null},"skew":[],"nodes":[{"name":"dag-01","state":"live","release":3,"staged":[3,2,1],"lag":0,"evidence":"activated","last_seen_at":"[at]","held":null,"drift":[],"drift_more":0,"environments":[],"dependencies":null,"code_servers":[],"error":null}],"not_in_git":[]}]}
    --- 0
    $ codevol rollback r2 -y --json
    {"event":"release.published","at":"[at]","volume":"pipes","release":4,"node":null,"elapsed_ms":null,"bytes":null,"evidence":null,"wave":null,"error":null}
    {"event":"node.staged","at":"[at]","volume":"pipes","release":4,"node":"dag-01","elapsed_ms":[took],"bytes":[n],"evidence":null,"wave":1,"error":null}
    {"event":"node.activated","at":"[at]","volume":"pipes","release":4,"node":"dag-01","elapsed_ms":[took],"bytes":null,"evidence":null,"wave":1,"error":null}
    {"event":"node.verified","at":"[at]","volume":"pipes","release":4,"node":"dag-01","elapsed_ms":[took],"bytes":null,"evidence":"activated","wave":null,"error":null}
    {"event":"rollout.done","at":"[at]","volume":"pipes","release":4,"live":4,"returned":false,"wave":1,"waves":1,"nodes":{"dag-01":"live"},"held":[],"warnings":[],"error":null}
    --- 0
    "#);
}

#[test]
fn one_node_is_taken_back_and_held() {
    let _filtered = filtered();
    let (fleet, laptop) = fleet();
    laptop.run(&["push"]).succeeds();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    laptop.run(&["push", "-m", "second"]).succeeds();
    let back = ["rollback", "--node", "dag-01"];
    let mut told = Transcript::default();
    told.run(&laptop, &back).exits(2);
    told.run(&laptop, &[&back[..], &["-m", "look", "-y"]].concat())
        .exits(0);
    told.run(&laptop, &["status"]).exits(0);
    told.run(&laptop, &["status", "--json"]).exits(0);
    told.run(&fleet.agents[0], &["status"]).exits(0);
    fleet.source.save("pipes/orders.py", "ORDERS = 3\n");
    told.remark("it is left out, and so not all are live");
    told.run_for_last(&laptop, &["push", "--json"]).exits(3);
    told.run(&laptop, &["thaw", "--node", "dag-01", "-m", "seen"])
        .exits(0);
    fleet.source.wait_live_everywhere(3);
    told.run(&laptop, &["thaw", "--node", "dag-01", "--json"])
        .exits(0);
    let back = ["rollback", "r1", "--node", "dag-01", "-y", "--json"];
    told.run(&laptop, &back).exits(0);
    told.remark("on its own host");
    told.run(&fleet.agents[0], &["thaw"]).exits(0);
    fleet.source.wait_live_everywhere(3);
    told.run(&fleet.agents[0], &["rollback", "-y", "--json"])
        .exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol rollback --node dag-01
    error: nobody can answer: take node `dag-01` from r2 to the release that it ran before, and hold it there until it is thawed?
    hint: say yes beforehand with `--yes`
    --- 2
    $ codevol rollback --node dag-01 -m look -y
    dag-01 is on r1 (was on r2), activated in [took]
    It is held there: rollouts leave it out until `codevol thaw --node dag-01`
    Waiting  up to 5m 10s for its code servers
    --- 0
    $ codevol status
    pipes  r2  push by alice, now, "second"  live on 0 of 1

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r1  behind  -  activated  1  now

    # Health
    #   dag-01 is held on r1 by alice, now: look; rollouts leave it out until `codevol thaw --node dag-01`
    --- 0
    $ codevol status --json
    {"schema":"codevol.status/1","fleet":"[id]","listen":"[address]","source":null,"volumes":[{"name":"pipes","head":2,"live":2,"frozen":null,"rollout":null,"waits_for":[],"quarantined":[],"skipped":[],"watch":{"mode":"inotify","state":"ok","advice":null},"release":{"seq":2,"id":"[id]","manifest":"[id]","parent":"[id]","origin":"push","author":"alice","message":"second","created_at":"[at]","files":4,"bytes":176,"git":null},"skew":[],"nodes":[{"name":"dag-01","state":"behind","release":1,"staged":[2,1],"lag":1,"evidence":"activated","last_seen_at":"[at]","held":{"release":1,"why":"look","by":"alice","at":"[at]","asked_at":"source"},"drift":[],"drift_more":0,"environments":[],"dependencies":null,"code_servers":[],"error":null}],"not_in_git":[]}]}
    --- 0
    $ codevol status
    source [address]   connected

    pipes  r2  push by alice, now, "second"  live on 0 of 1

      NODE  RELEASE  STATE  CODE SERVER  EVIDENCE  LAG  SEEN
      dag-01  r1  behind  -  activated  1  now

    # Health
    #   dag-01 is held on r1 by alice, now: look; rollouts leave it out until `codevol thaw --node dag-01`
    --- 0
    # it is left out, and so not all are live
    $ codevol push --json
    {"event":"rollout.done","at":"[at]","volume":"pipes","release":3,"live":3,"returned":false,"wave":null,"waves":null,"nodes":{"dag-01":"behind"},"held":["dag-01"],"warnings":[],"error":null}
    --- 3
    $ codevol thaw --node dag-01 -m seen
    node `dag-01` goes with the others again; alice held it on r1: look
    --- 0
    $ codevol thaw --node dag-01 --json
    {"schema":"codevol.done/1","message":"node `dag-01` is not held in volume `pipes`: it goes with the others"}
    --- 0
    $ codevol rollback r1 --node dag-01 -y --json
    {"schema":"codevol.node-rollback/1","volume":"pipes","node":"dag-01","from":3,"to":1,"active":1,"held":true,"state":"live","evidence":"activated","elapsed_ms":[took],"error":null}
    --- 0
    # on its own host
    $ codevol thaw
    node `dag-01` goes with the others again; alice held it on r1: rolled back by hand
    --- 0
    $ codevol rollback -y --json
    {"schema":"codevol.node-rollback/1","volume":"pipes","node":"dag-01","from":3,"to":1,"active":1,"held":true,"state":"live","evidence":"activated","elapsed_ms":[took],"error":null}
    --- 0
    "#);
}
