//! Edit -> served by a real code server, beside the reload alone.

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Bench;
use crate::fleet::{self, Fleet, Setup};
use crate::process::{self, Daemon, pause, wait_for};
use crate::sample::Sample;
use crate::table::Row;

const TIMEOUT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);
const STATUS_INTERVAL: Duration = Duration::from_millis(50);

/// Times edits until the source hears that the code server is proven to run them. They are pushed by
/// hand, without settling: what follows the push says when that was.
pub(crate) fn measure(bench: &Bench, dagster: &Path, edits: usize) -> Result<Vec<Row>> {
    let dir = bench.scratch()?;
    let tree = dir.path().join("tree");
    std::fs::create_dir(&tree)?;
    define(&tree, 0)?;
    let mut fleet = Fleet::start(&Setup {
        codevol: &bench.codevol,
        dir: dir.path(),
        tree: &tree,
        settle: None,
        watched: false,
    })?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    fleet.join(None, Some(&format!("127.0.0.1:{port}")))?;
    fleet.run_agents()?;
    fleet.wait_until_active()?;
    let agent = fleet.agents.first().context("no agent")?;
    let home = dir.path().join("dagster-home");
    std::fs::create_dir(&home)?;
    let mut server = Command::new(dagster);
    server.args([
        "code-server",
        "start",
        "-h",
        "127.0.0.1",
        "-m",
        "definitions",
    ]);
    server
        .args(["-p", &port.to_string(), "-d"])
        .arg(agent.tree());
    server
        .env("DAGSTER_HOME", &home)
        .env("DAGSTER_DISABLE_TELEMETRY", "1");
    let _server = Daemon::start(&mut server, &dir.path().join("code-server.log"))?;
    wait_for("the code server", TIMEOUT, || load_ms(&fleet).is_some())?;

    let (mut served, mut reloads) = (Vec::new(), Vec::new());
    for edit in 1..=edits {
        pause(PAUSE)?;
        let began = SystemTime::now();
        define(&tree, edit)?;
        let events = process::output(fleet.command().args(["push", "--json"]))?;
        ensure!(
            events.contains("\"proven\""),
            "the edit is not proven to be served"
        );
        served.push(fleet::told_at(&events, "node.verified")?.duration_since(began)?);
        reloads.extend(load_ms(&fleet));
    }
    let what = "edit -> served (`proven`), 1 code server";
    Ok(vec![
        Row::millis(what, "codevol, pushed", Sample::of_durations(served)),
        Row::millis(what, "ReloadCode alone", Sample::of(reloads)),
    ])
}

/// Returns how long the code server took to reload, once it is proven to serve the release.
fn load_ms(fleet: &Fleet) -> Option<f64> {
    // Each look is a process.
    std::thread::sleep(STATUS_INTERVAL);
    let status = fleet.status().ok()?;
    let node = status.pointer("/volumes/0/nodes/0")?;
    let proven = node
        .get("evidence")
        .is_some_and(|evidence| evidence == "proven");
    let load_ms = node.pointer("/code_servers/0/load_ms");
    load_ms.and_then(Value::as_f64).filter(|_| proven)
}

fn define(tree: &Path, edit: usize) -> Result<()> {
    let text = format!(
        "import dagster as dg\n\n\n@dg.asset\ndef orders():\n    return {edit}\n\n\n\
         defs = dg.Definitions(assets=[orders])\n"
    );
    let mut file = File::create(tree.join("definitions.py"))?;
    file.write_all(text.as_bytes()).context("cannot save")
}
