//! First sync: a whole tree to servers that hold nothing.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::Bench;
use crate::fleet::{Fleet, Setup};
use crate::peers;
use crate::process::run_all;
use crate::sample::Sample;
use crate::table::Row;
use crate::tree::Tree;

/// Times it on codevol and on rsync.
pub(crate) fn measure(bench: &Bench, files: usize, servers: usize) -> Result<Vec<Row>> {
    let what = format!("first sync, {files} files, {servers} servers");
    let mut rows = vec![Row::millis(
        &what,
        "codevol, durable",
        codevol(bench, files, servers)?,
    )];
    if bench.has_rsync {
        let (plain, durable) = rsync(bench, files, servers)?;
        rows.push(Row::millis(&what, "rsync -a", plain));
        rows.push(Row::millis(&what, "rsync -a, then syncfs", durable));
    }
    Ok(rows)
}

fn codevol(bench: &Bench, files: usize, servers: usize) -> Result<Sample> {
    let dir = bench.scratch()?;
    let tree = Tree::make(dir.path().join("tree"), files)?;
    let mut fleet = Fleet::start(&Setup {
        codevol: &bench.codevol,
        dir: dir.path(),
        tree: &tree.path,
        settle: None,
        watched: true,
    })?;
    for _ in 0..servers {
        fleet.join(None, None)?;
    }
    sync(dir.path())?;
    let began = Instant::now();
    fleet.run_agents()?;
    fleet.wait_until_active()?;
    Ok(Sample::of_durations([began.elapsed()]))
}

fn rsync(bench: &Bench, files: usize, servers: usize) -> Result<(Sample, Sample)> {
    let dir = bench.scratch()?;
    let tree = Tree::make(dir.path().join("tree"), files)?;
    let targets = peers::targets(dir.path(), servers)?;
    sync(dir.path())?;
    let began = Instant::now();
    run_all(
        targets
            .iter()
            .map(|to| peers::rsync(&tree.path, to))
            .collect(),
    )?;
    let plain = began.elapsed();
    sync(dir.path())?;
    let durable = began.elapsed();
    Ok((
        Sample::of_durations([plain]),
        Sample::of_durations([durable]),
    ))
}

/// Makes the file system durable: what was written before is nobody's burden then.
fn sync(dir: &Path) -> Result<()> {
    let dir = File::open(dir)?;
    rustix::fs::syncfs(&dir).context("cannot sync the file system")
}
