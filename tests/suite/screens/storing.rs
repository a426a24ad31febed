//! Releases that leave the fleet, that come once, and that go.

use codevol_tests::{Address, Agent, Fleet, Place, Transcript};
use insta::assert_snapshot;

use super::filtered;

#[test]
fn a_release_is_sealed() {
    let _filtered = filtered();
    let fleet = Fleet::start_with(1, |source| source.save("pipes/orders.py", "ORDERS = 1\n"));
    let folder = fleet.source.place().folder("sealed");
    let output = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let [tar, image, over] = ["r1.tar", "image", "over"].map(output);
    let mut told = Transcript::default();
    told.run(&fleet.source, &["seal", "r1", "-o", &tar])
        .exits(0);
    told.run(&fleet.source, &["seal", "r1", "-o", &tar])
        .exits(4);
    told.run(&fleet.agents[0], &["seal", "r1", "-o", &image, "--json"])
        .exits(0);
    let on = ["seal", "r1", "-o", &over, "--base", &image];
    told.run(&fleet.source, &on).exits(0);
    let [again, missing] = ["again.tar", "missing.tar"].map(output);
    let on = ["seal", "r1", "-o", &again, "--base", &image, "--json"];
    told.run(&fleet.source, &on).exits(2);
    told.run(&fleet.source, &["seal", "r9", "-o", &missing, "--json"])
        .exits(4);
    assert_snapshot!(told.text(), @r#"
    $ codevol seal r1 -o [PLACE]/sealed/r1.tar
    Sealed   r1 [id] of pipes, 4 files (176 B)
    Wrote    [PLACE]/sealed/r1.tar, a tar
    Digest   sha256:[id]
    Take in  codevol push [PLACE]/sealed/r1.tar  on the source of another fleet
    --- 0
    $ codevol seal r1 -o [PLACE]/sealed/r1.tar
    error: `[PLACE]/sealed/r1.tar` exists already
    hint: name another with `-o X`, or remove this one
    --- 4
    $ codevol seal r1 -o [PLACE]/sealed/image --json
    {"schema":"codevol.seal/1","format":"oci","path":"[PLACE]/sealed/image","volume":"pipes","release":1,"id":"[id]","files":4,"bytes":176,"prefix":"/opt/dagster/app","digest":"sha256:[id]","base":null}
    --- 0
    $ codevol seal r1 -o [PLACE]/sealed/over --base [PLACE]/sealed/image
    Sealed   r1 [id] of pipes, 4 files (176 B)
    Wrote    [PLACE]/sealed/over, an OCI image with the tree at /opt/dagster/app
    Base     sha256:[id]
    Digest   sha256:[id]
    Take in  codevol push [PLACE]/sealed/over  on the source of another fleet
    --- 0
    $ codevol seal r1 -o [PLACE]/sealed/again.tar --base [PLACE]/sealed/image --json
    {"schema":"codevol.error/1","kind":"usage","message":"a plain tar has no base","causes":[],"hint":"`--base` is for an image: give X a name that does not end in `.tar`"}
    --- 2
    $ codevol seal r9 -o [PLACE]/sealed/missing.tar --json
    {"schema":"codevol.error/1","kind":"not-found","message":"there is no release r9","causes":[],"hint":"`codevol log` lists the releases"}
    --- 4
    "#);
}

#[test]
fn what_is_live_is_fetched_once() {
    let _filtered = filtered();
    let mut fleet = Fleet::start_with(1, |source| source.save("pipes/orders.py", "ORDERS = 1\n"));
    let fetch = ["fetch", "--once"];
    let agent = Agent::join(&fleet.source, "build-01", None);
    let mut told = Transcript::default();
    told.run(&agent, &fetch).exits(0);
    told.run(&agent, &[&fetch[..], &["--json"]].concat())
        .exits(0);
    told.run(&fleet.agents[0], &fetch).exits(4);
    let nowhere = Address::Unix("/nowhere/x.sock".into());
    let absent = Agent::join(&fleet.source, "build-02", Some(&nowhere));
    told.run(&absent, &fetch).exits(3);
    fleet.source.process().kill();
    let late = ["fetch", "--once", "--timeout", "1s", "--json"];
    told.run(&agent, &late).exits(69);
    assert_snapshot!(told.text(), @r#"
    $ codevol fetch --once
    Fetched  pipes is on r1 [id], live (activated)
    --- 0
    $ codevol fetch --once --json
    {"schema":"codevol.fetch/1","volumes":[{"name":"pipes","release":1,"live":1,"id":"[id]","state":"live","evidence":"activated","error":null}]}
    --- 0
    $ codevol fetch --once
    error: the agent runs on this host, and fetches what is live by itself
      caused by: state directory is in use
      caused by: `lock` is held by process [pid]
    hint: `codevol status` shows what it has
    --- 4
    $ codevol fetch --once
    Fetched  pipes is on r1 [id], unverified (activated); live is r1
      verify: cannot connect to it: No such file or directory
    --- 3
    $ codevol fetch --once --timeout 1s --json
    {"schema":"codevol.error/1","kind":"unreachable","message":"the source was not reached within 1s","causes":[],"hint":"is it running, and does UDP to its address and port get through? `codevol doctor --net` looks"}
    --- 69
    "#);
}

#[test]
fn what_nobody_needs_is_deleted() {
    let _filtered = filtered();
    let fleet = Fleet::start_in(Place::in_memory(), 0, |source| {
        source.set("VOLUME__0__KEEP", "2");
        source.set("VOLUME__0__PUBLISH", "manual");
    });
    let source = &fleet.source;
    let mut told = Transcript::default();
    told.run(source, &["gc", "--dry-run"]).exits(0);
    // What was live of late is kept: the newest twenty.
    for n in 1..=23 {
        source.save("pipes/orders.py", format!("ORDERS = {n:02}\n"));
        source.run(&["push"]).succeeds();
    }
    told.run(source, &["gc"]).exits(2);
    told.run(source, &["gc", "--dry-run"]).exits(0);
    told.run(source, &["gc", "--dry-run", "--json"]).exits(0);
    told.run(source, &["gc", "--yes", "--json"]).exits(0);
    told.run(source, &["gc", "--yes"]).exits(0);
    told.run(source, &["rollback", "r1", "-y"]).exits(4);
    assert_snapshot!(told.text(), @r#"
    $ codevol gc --dry-run
    Nothing of pipes is to be deleted
    --- 0
    $ codevol gc
    error: nobody can answer: delete what nobody needs any more?
    hint: say yes beforehand with `--yes`
    --- 2
    $ codevol gc --dry-run
    Would delete the files of 3 releases, 3 blobs (672 B) of pipes
      r1, r2 and r3
    --- 0
    $ codevol gc --dry-run --json
    {"schema":"codevol.gc/1","volume":"pipes","dry_run":true,"releases":[{"release":1,"id":"[id]"},{"release":2,"id":"[id]"},{"release":3,"id":"[id]"}],"releases_more":0,"in_use":[],"blobs":3,"bytes":672}
    --- 0
    $ codevol gc --yes --json
    {"schema":"codevol.gc/1","volume":"pipes","dry_run":false,"releases":[{"release":1,"id":"[id]"},{"release":2,"id":"[id]"},{"release":3,"id":"[id]"}],"releases_more":0,"in_use":[],"blobs":3,"bytes":672}
    --- 0
    $ codevol gc --yes
    Nothing of pipes is to be deleted
    --- 0
    $ codevol rollback r1 -y
    error: the files of r1 are not kept any more
    hint: `keep` in the source's configuration says how many releases are kept
    --- 4
    "#);
}
