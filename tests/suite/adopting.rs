//! A server on which people have worked: what stands there becomes r0, to go back to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use codevol_tests::{
    Agent, CodeServer, Dagster, Defines, Fleet, Place, Slot, Source, Start, project, save,
    wait_until,
};

/// What people have used until now.
fn lived_in(agent: &Agent, defines: &Defines) {
    let root = agent.root();
    save(&root.join("pipes/__init__.py"), b"");
    save(&root.join("pipes/orders.py"), defines.text().as_bytes());
    let definitions = "import dagster as dg\n\nfrom pipes import orders\n\n\
        defs = dg.Definitions(assets=dg.load_assets_from_modules([orders]))\n";
    save(&root.join("pipes/definitions.py"), definitions.as_bytes());
}

#[test]
fn what_stands_on_a_server_becomes_its_baseline_and_stays_as_it_is() {
    let fleet = Fleet::without_agents();
    let mut agent = Agent::new(fleet.source.place(), "dag-01");
    lived_in(&agent, &Defines::asset("old"));
    let token = fleet.source.invite("dag-01");
    let refused = agent.run_join(&token, &[]).exits(4);
    assert!(refused.stderr.contains("`--adopt`"), "{refused}");
    let secret = agent.root().join("pipes/key.pem");
    save(&secret, b"for some only");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let joined = agent.run_join(&token, &["--adopt"]).exits(0);
    assert!(joined.stdout.contains("as r0"), "{joined}");
    let warned = "`pipes/key.pem` was not for everybody, and its copy in r0 can be read";
    assert!(joined.stderr.contains(warned), "{joined}");
    assert!(joined.stdout.contains("/current`"), "{joined}");
    assert_eq!(agent.current_seq(), Some(0));
    let release = agent.release_file();
    assert_eq!(
        (&release["seq"], &release["origin"]),
        (&0.into(), &"baseline".into())
    );
    agent.run(&["adopt"]).exits(4);

    agent.start();
    fleet.source.wait_live_everywhere(1);
    assert_eq!(agent.current_seq(), Some(1));
    agent.run(&["adopt"]).exits(4);
    let orders = agent.root().join("pipes/orders.py");
    assert_eq!(
        fs::read_to_string(orders).unwrap(),
        Defines::asset("old").text()
    );
    // A person may go back there, too; the source has no such release, and says where the node is held.
    agent.run(&["rollback", "r0", "--yes"]).succeeds();
    assert_eq!(agent.current_seq(), Some(0));
    fleet.source.wait("the source knows", |status| {
        status.node("dag-01")["held"]["release"] == 0
    });
    fleet.source.run(&["thaw", "--node", "dag-01"]).succeeds();
    fleet.source.wait_live_everywhere(1);
}

#[test]
fn a_tree_with_names_of_codevols_own_is_not_adopted() {
    let fleet = Fleet::without_agents();
    let agent = Agent::new(fleet.source.place(), "dag-01");
    lived_in(&agent, &Defines::asset("old"));
    save(&agent.root().join("releases/notes.txt"), b"of people");
    let token = fleet.source.invite("dag-01");
    let refused = agent.run_join(&token, &["--adopt"]).exits(4);
    assert!(refused.stderr.contains("releases` of its own"), "{refused}");
    assert!(!agent.root().join(".codevol").exists());
}

#[test]
fn a_first_release_that_is_broken_gives_way_to_what_stood_there() {
    let Some(dagster) = Dagster::find() else {
        return;
    };
    let _slot = Slot::take();
    let place = Arc::new(Place::new());
    let mut source = Source::init(&place);
    project(
        &source,
        &Defines::asset("new").and("import nothing_of_that_name"),
    );
    source.start();
    let mut server = CodeServer::new(&dagster, &place, "dag-01", Start::Module);
    let mut agent = Agent::new(&place, "dag-01");
    lived_in(&agent, &Defines::asset("old"));
    let address = server.address().to_string();
    let join = ["--adopt", "--code-server", &address];
    agent.run_join(&source.invite("dag-01"), &join).succeeds();
    server.start(agent.root());
    server.wait_serves(&["old"]);
    agent.start();
    source.wait("r1 was found broken", |status| status.quarantined() == [1]);
    wait_until("what stood there is back", || {
        agent.current_seq() == Some(0)
    });
    server.wait_serves(&["old"]);
    let status = source.status();
    assert_eq!(status.live(), 0, "{status}");
    source.save("pipes/orders.py", Defines::asset("mended").text());
    source.wait_live_everywhere(2);
    server.wait_serves(&["mended"]);
}
