//! What is not done, and why: each as the document that a script gets.

use std::os::unix::fs::symlink;

use codevol_tests::{Fleet, Machine, Transcript};
use insta::assert_snapshot;

use super::filtered;

#[test]
fn where_something_is_not_there_or_not_running() {
    let _filtered = filtered();
    let mut fleet = Fleet::start(1);
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    let nobody = Machine::new(&fleet.source, "bob");
    let mut told = Transcript::default();
    let mut refused = |machine: &codevol_tests::Host, args: &[&str], code| {
        told.run(machine, &[args, &["--json"]].concat()).exits(code);
    };
    refused(&nobody, &["status"], 78);
    refused(&laptop, &["log", "r9"], 4);
    refused(&laptop, &["log", "--at", "2020-01-01T00:00:00Z"], 4);
    refused(&laptop, &["log", "--at", "2999-01-01T00:00:00Z"], 2);
    refused(&laptop, &["diff", "r1", "r9"], 4);
    refused(&laptop, &["diff", "--node", "dag-09"], 4);
    refused(&laptop, &["rollback", "-y"], 4);
    refused(&laptop, &["rollback", "r9", "-y"], 4);
    refused(&laptop, &["rollback", "r9", "--node", "dag-01", "-y"], 4);
    refused(&laptop, &["rollback", "--node", "dag-09", "-y"], 4);
    refused(&laptop, &["retry", "r9"], 4);
    refused(&laptop, &["status", "--volume", "pipes"], 2);
    refused(&laptop, &["freeze", "--volume", "other"], 2);
    refused(&fleet.agents[0], &["freeze"], 78);
    refused(&fleet.agents[0], &["log", "--volume", "other"], 2);
    fleet.agents[0].process().terminate();
    fleet.source.wait("it is offline", |status| {
        status.state("dag-01") == "offline"
    });
    refused(&laptop, &["ping", "dag-01"], 69);
    refused(&laptop, &["rollback", "r1", "--node", "dag-01", "-y"], 69);
    refused(&laptop, &["thaw", "--node", "dag-01"], 69);
    refused(&laptop, &["diff", "--node", "dag-01"], 69);
    refused(&fleet.agents[0], &["health"], 69);
    fleet.source.process().terminate();
    refused(&fleet.source, &["push"], 69);
    refused(&laptop, &["push"], 69);
    assert_snapshot!(told.text(), @r#"
    $ codevol status --json
    {"schema":"codevol.error/1","kind":"config","message":"cannot read `[PLACE]/bob/codevol.toml`","causes":["no such file or directory"],"hint":"`codevol init DIR` or `codevol join TOKEN` writes one, `-C FILE` names one"}
    --- 78
    $ codevol log r9 --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no release r9","causes":[],"hint":"`codevol log` lists the releases"}
    --- 4
    $ codevol log --at 2020-01-01T00:00:00Z --json
    {"schema":"codevol.error/1","kind":"not-found","message":"the journal does not go back to [at]: it begins at [at]","causes":[],"hint":null}
    --- 4
    $ codevol log --at 2999-01-01T00:00:00Z --json
    {"schema":"codevol.error/1","kind":"usage","message":"that time lies ahead, or before 1970","causes":[],"hint":"`codevol status` shows what runs where as things stand"}
    --- 2
    $ codevol diff r1 r9 --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no release r9","causes":[],"hint":"`codevol log` lists the releases"}
    --- 4
    $ codevol diff --node dag-09 --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no node `dag-09`","causes":[],"hint":"`codevol node ls` lists the members"}
    --- 4
    $ codevol rollback -y --json
    {"schema":"codevol.error/1","kind":"not-found","message":"no other release was live before","causes":[],"hint":"`codevol log` lists the releases"}
    --- 4
    $ codevol rollback r9 -y --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no release r9","causes":[],"hint":"`codevol log` lists the releases"}
    --- 4
    $ codevol rollback r9 --node dag-01 -y --json
    {"schema":"codevol.error/1","kind":"not-held","message":"this node does not hold r9: nothing was changed","causes":[],"hint":"it holds r1"}
    --- 4
    $ codevol rollback --node dag-09 -y --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no node `dag-09`","causes":[],"hint":"`codevol node ls` lists the members"}
    --- 4
    $ codevol retry r9 --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no release r9","causes":[],"hint":"`codevol log` lists the releases"}
    --- 4
    $ codevol status --volume pipes --json
    {"schema":"codevol.error/1","kind":"usage","message":"unexpected argument '--volume' found","causes":[],"hint":"`codevol --help` lists the commands"}
    --- 2
    $ codevol freeze --volume other --json
    {"schema":"codevol.error/1","kind":"volume","message":"there is no volume `other`","causes":[],"hint":"the source's volumes: pipes"}
    --- 2
    $ codevol freeze --json
    {"schema":"codevol.error/1","kind":"config","message":"`[PLACE]/dag-01/codevol.toml` is the configuration of an agent: this asks the source","causes":[],"hint":"run it on the source's host or an operator's machine, or name the configuration of one with `-C FILE`"}
    --- 78
    $ codevol log --volume other --json
    {"schema":"codevol.error/1","kind":"volume","message":"say which volume is meant","causes":[],"hint":"the agent's volumes: pipes"}
    --- 2
    $ codevol ping dag-01 --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"node `dag-01` is not connected","causes":[],"hint":"is its agent running, and does UDP get through? `codevol doctor --net` there"}
    --- 69
    $ codevol rollback r1 --node dag-01 -y --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"node `dag-01` is not connected","causes":[],"hint":"on that host itself the same works by its agent: `codevol rollback`"}
    --- 69
    $ codevol thaw --node dag-01 --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"node `dag-01` is not connected","causes":[],"hint":"on that host itself the same works by its agent: `codevol thaw`"}
    --- 69
    $ codevol diff --node dag-01 --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"`dag-01` is not connected","causes":[],"hint":"`codevol status` shows who is connected"}
    --- 69
    $ codevol health --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"the agent does not run: nothing answers at `[PLACE]/dag-01/state/control.sock`","causes":["connection refused"],"hint":"`codevol -C [PLACE]/dag-01/codevol.toml agent` starts it"}
    --- 69
    $ codevol push --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"the source does not run: nothing answers at `[PLACE]/source/state/control.sock`","causes":["connection refused"],"hint":"`codevol -C [PLACE]/source/codevol.toml source` starts it"}
    --- 69
    $ codevol push --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"cannot reach the source at [address]","causes":["no answer from `[address]`"],"hint":"is the source running, and does UDP to that address and port get through?"}
    --- 69
    "#);
}

#[test]
fn where_a_rule_forbids_it() {
    let _filtered = filtered();
    let fleet = Fleet::start_with(1, |source| source.save("pipes/orders.py", "ORDERS = 1\n"));
    let (source, laptop) = (
        &fleet.source,
        Machine::join(&fleet.source, "alice", "operator"),
    );
    let ci = Machine::join(&fleet.source, "ci", "publisher");
    let fixed = laptop.save("orders.py", "ORDERS = 7\n");
    let fixed = fixed.to_str().unwrap();
    source.save("pipes/orders.py", "ORDERS = 2\n");
    source.wait_live_everywhere(2);
    let mut told = Transcript::default();
    let mut refused = |machine: &codevol_tests::Host, args: &[&str], code| {
        told.run(machine, &[args, &["--json"]].concat()).exits(code);
    };
    refused(&ci, &["freeze"], 77);
    refused(&ci, &["push", "--thaw"], 77);
    refused(&ci, &["push", "--as", "pipes/orders.py", fixed], 77);
    refused(&laptop, &["retry", "r1"], 4);
    let named = source.tree().join("pipes/orders.py");
    refused(source, &["push", named.to_str().unwrap()], 4);
    let folder = laptop.path().to_str().unwrap();
    refused(&laptop, &["push", folder], 4);
    refused(&laptop, &["push", "/nowhere"], 2);
    refused(&laptop, &["push", "--as", "a.py"], 2);
    refused(&laptop, &["push", "--as", "../a.py", fixed], 2);
    refused(&laptop, &["push", "--as", ".env", fixed], 4);
    symlink("orders.py", source.tree().join("pipes/link.py")).unwrap();
    source.wait_live_everywhere(3);
    refused(&laptop, &["push", "--as", "pipes/link.py", fixed], 4);
    laptop.run(&["freeze", "-m", "month end"]).succeeds();
    refused(&laptop, &["push"], 4);
    refused(&laptop, &["push", "--as", "pipes/orders.py", fixed], 4);
    refused(&laptop, &["retry", "r1"], 4);
    laptop.run(&["thaw"]).succeeds();
    laptop.run(&["rollback", "r1", "-y"]).succeeds();
    source.save("pipes/orders.py", "ORDERS = 'mine'\n");
    refused(&laptop, &["push", "--as", "pipes/orders.py", fixed], 4);
    assert_snapshot!(told.text(), @r#"
    $ codevol freeze --json
    {"schema":"codevol.error/1","kind":"not-permitted","message":"`freeze` is not for the role `publisher`","causes":[],"hint":"run it on the source's host, or on the machine of an operator"}
    --- 77
    $ codevol push --thaw --json
    {"schema":"codevol.error/1","kind":"not-permitted","message":"`push --thaw` is not for the role `publisher`","causes":[],"hint":"run it on the source's host, or on the machine of an operator"}
    --- 77
    $ codevol push --as pipes/orders.py [PLACE]/alice/orders.py --json
    {"schema":"codevol.error/1","kind":"not-permitted","message":"volume `pipes` is watched, and a publisher writes to no tree","causes":[],"hint":"an operator may: `codevol push --as TREE_PATH FILE`"}
    --- 77
    $ codevol retry r1 --json
    {"schema":"codevol.error/1","kind":"not-broken","message":"r1 was not found broken: there is nothing to try once more","causes":[],"hint":"`codevol rollback r1` makes it live again"}
    --- 4
    $ codevol push [PLACE]/tree/pipes/orders.py --json
    {"schema":"codevol.error/1","kind":"watched","message":"volume `pipes` is watched: each save is published whole","causes":[],"hint":"save the file; named paths need `publish = \"manual\"` or a frozen volume"}
    --- 4
    $ codevol push [PLACE]/alice --json
    {"schema":"codevol.error/1","kind":"watched","message":"volume `pipes` is watched: it is what stands on the source's host","causes":[],"hint":"`publish = \"manual\"` in the source's configuration lets whole trees come from elsewhere"}
    --- 4
    $ codevol push /nowhere --json
    {"schema":"codevol.error/1","kind":"usage","message":"`/nowhere` is no folder","causes":[],"hint":"from here one folder is published whole, or one file: `codevol push --as TREE_PATH FILE`"}
    --- 2
    $ codevol push --as a.py --json
    {"schema":"codevol.error/1","kind":"usage","message":"the following required arguments were not provided: <PATH>...","causes":[],"hint":"`codevol --help` lists the commands"}
    --- 2
    $ codevol push --as ../a.py [PLACE]/alice/orders.py --json
    {"schema":"codevol.error/1","kind":"usage","message":"invalid value '../a.py' for '--as <TREE_PATH>': path has a `.` or `..` component","causes":[],"hint":"`codevol --help` lists the commands"}
    --- 2
    $ codevol push --as .env [PLACE]/alice/orders.py --json
    {"schema":"codevol.error/1","kind":"ignored","message":"`.env` is left out of the tree by a rule","causes":[],"hint":"`codevol ignored --why .env` says which"}
    --- 4
    $ codevol push --as pipes/link.py [PLACE]/alice/orders.py --json
    {"schema":"codevol.error/1","kind":"conflict","message":"something else than a file stands at `pipes/link.py` in the source's tree","causes":[],"hint":"a link, a folder, or what cannot be carried: change it on the source's host"}
    --- 4
    $ codevol push --json
    {"schema":"codevol.error/1","kind":"frozen","message":"volume `pipes` is frozen by alice: month end","causes":[],"hint":"`codevol thaw` ends that; `codevol push --thaw` ends it and publishes"}
    --- 4
    $ codevol push --as pipes/orders.py [PLACE]/alice/orders.py --json
    {"schema":"codevol.error/1","kind":"frozen","message":"volume `pipes` is frozen by alice: month end","causes":[],"hint":"`codevol thaw` ends that; `codevol push --thaw` ends it and publishes"}
    --- 4
    $ codevol retry r1 --json
    {"schema":"codevol.error/1","kind":"frozen","message":"the volume is frozen by alice: month end","causes":[],"hint":"`codevol thaw` ends that"}
    --- 4
    $ codevol push --as pipes/orders.py [PLACE]/alice/orders.py --json
    {"schema":"codevol.error/1","kind":"conflict","message":"`pipes/orders.py` was edited in the source's tree, and that edit is not published","causes":[],"hint":"`codevol diff` shows it; publish it on the source's host, or `--force` overwrites it"}
    --- 4
    "#);
}

#[test]
fn where_most_of_the_tree_is_gone() {
    let _filtered = filtered();
    let fleet = Fleet::start_with(0, |source| {
        source.set("VOLUME__0__PUBLISH", "manual");
        for n in 10..30 {
            source.save(&format!("tables/t{n}.py"), format!("TABLE = {n}\n"));
        }
    });
    let laptop = Machine::join(&fleet.source, "alice", "operator");
    laptop.run(&["push"]).succeeds();
    for n in 10..30 {
        fleet.source.remove(&format!("tables/t{n}.py"));
    }
    let mut told = Transcript::default();
    told.run(&laptop, &["push"]).exits(4);
    told.run(&laptop, &["push", "--json"]).exits(4);
    told.run(&laptop, &["push", "--yes"]).exits(0);
    assert_snapshot!(told.text(), @r#"
    $ codevol push
    error: 20 of 24 files are gone from the tree: nothing was published
    hint: is the source tree mounted? `codevol push --yes` publishes it all the same
    --- 4
    $ codevol push --json
    {"schema":"codevol.error/1","kind":"blast-guard","message":"20 of 24 files are gone from the tree: nothing was published","causes":[],"hint":"is the source tree mounted? `codevol push --yes` publishes it all the same"}
    --- 4
    $ codevol push --yes
    Hashed  1 file (0 B)  [took]
    Release  r2 = r1 + 1 added, 20 removed  +0 -20 lines
    r2 is live, but on no server: no node is enrolled (`codevol invite`)
    Undo:  codevol rollback
    pipes published r2
    --- 0
    "#);
}
