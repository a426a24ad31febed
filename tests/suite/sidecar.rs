//! The compose file that is shipped, with the image that is shipped and a real code server.

use std::fs;

use codevol_tests::{Agent, Defines, Sidecar, project, served, wait_for};

const NODE: &str = "dag-01";

/// Waits until the code server in its container serves a release, by evidence.
#[track_caller]
fn wait_proven(sidecar: &Sidecar, seq: u64) {
    let what = format!("r{seq} is live and proven");
    let status = sidecar.wait(&what, |status| {
        status.is_live_everywhere(seq) && status.node(NODE)["evidence"] == "proven"
    });
    let server = &status.node(NODE)["code_servers"][0];
    assert_eq!(server["state"], "good", "{status}");
    assert_eq!(server["kind"], "code-server", "{status}");
}

#[test]
fn brought_up_as_its_header_says_it_serves_the_tree_and_edits_but_nothing_broken() {
    let Some(sidecar) = Sidecar::prepare() else {
        return;
    };
    project(&sidecar.host, &Defines::asset("first"));
    // Ahead of all others, so that it surely starts on an empty volume.
    sidecar.compose(&["up", "-d", "code-server"]).succeeds();
    let code_server = sidecar.code_server();
    wait_for("it serves an error", || match served(&code_server) {
        Err(error) if error.is_answer() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let first_started = sidecar.inspect("code-server")["State"]["StartedAt"].take();

    sidecar.follow_the_header();
    wait_proven(&sidecar, 1);
    assert_eq!(served(&code_server).unwrap(), ["first"]);
    let started = &sidecar.inspect("code-server")["State"]["StartedAt"];
    assert_eq!(started, &first_started, "nobody restarted it");

    let edit = Defines::asset("second");
    sidecar.host.save("pipes/orders.py", edit.text());
    wait_proven(&sidecar, 2);
    assert_eq!(served(&code_server).unwrap(), ["second"]);

    let broken = edit.and("import no_such_package");
    sidecar.host.save("pipes/orders.py", broken.text());
    sidecar.wait("r3 is found broken", |status| status.quarantined() == [3]);
    wait_proven(&sidecar, 2);
    assert_eq!(served(&code_server).unwrap(), ["second"]);

    let retried = sidecar.codevol(&["retry", "r3"]).exits(1);
    let back = "r3 is broken on dag-01; dag-01 is back on r2 (proven)";
    assert!(retried.stderr.contains(back), "{retried}");
    assert_eq!(served(&code_server).unwrap(), ["second"]);
}

#[test]
fn its_containers_may_do_little_are_healthy_reachable_by_further_hosts_and_leave_nothing() {
    let Some(sidecar) = Sidecar::prepare() else {
        return;
    };
    project(&sidecar.host, &Defines::asset("first"));
    sidecar.follow_the_header();
    wait_proven(&sidecar, 1);

    for service in ["source", "agent"] {
        let container = sidecar.inspect(service);
        assert_eq!(container["HostConfig"]["ReadonlyRootfs"], true, "{service}");
        let process = format!("/proc/{}/status", container["State"]["Pid"]);
        let process = fs::read_to_string(process).unwrap();
        for (field, value) in [
            ("Uid", "65532\t65532\t65532\t65532"),
            ("Gid", "65532\t65532\t65532\t65532"),
            ("CapBnd", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ] {
            let line = format!("{field}:\t{value}");
            assert!(
                process.lines().any(|has| has == line),
                "{service}: {process}"
            );
        }
    }
    for service in ["source", "agent", "code-server"] {
        sidecar.wait_healthy(service);
    }
    // Even as its root.
    let write = "open('/opt/dagster/app/releases/x', 'w')";
    let refused = sidecar
        .exec("code-server", &["python", "-c", write])
        .exits(1);
    assert!(
        refused.stderr.contains("Read-only file system"),
        "{refused}"
    );
    // What watches the tree is told of changes to it from outside of its container.
    let status = sidecar.wait("it watches", |_status| true);
    assert_eq!(status.volume()["watch"]["mode"], "inotify", "{status}");

    let token = sidecar.codevol(&["invite", "--name", "dag-02"]).exits(0);
    let mut further = Agent::new(sidecar.host.place(), "dag-02");
    let source = ["--source", &sidecar.published()];
    further
        .run_join(token.stdout.trim_end(), &source)
        .succeeds();
    further.start();
    wait_for("the further host has r1", || {
        further
            .current_seq()
            .filter(|seq| *seq == 1)
            .ok_or_else(|| "it has not".to_owned())
    });
    drop(further);

    assert_eq!(sidecar.down(), "");
}
