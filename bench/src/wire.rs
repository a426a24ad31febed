//! The bytes of a one-line edit: UDP payload both ways, from the save until the source knows that
//! the release is staged.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use crate::Bench;
use crate::fleet::{self, Fleet, Setup};
use crate::peers;
use crate::process::{self, pause, run_all, wait_for};
use crate::proxy::{Proxy, Way};
use crate::sample::Sample;
use crate::table::Row;
use crate::tree::Tree;

const FILES: usize = 200;
/// Nothing may have passed for as long before a save.
const QUIET: Duration = Duration::from_millis(300);
const QUIET_TIMEOUT: Duration = Duration::from_secs(30);
const GOAL_BYTES: f64 = 1_500.0;

/// Counts them on codevol, and on an rsync that may use its delta algorithm.
pub(crate) fn measure(bench: &Bench, edits: usize) -> Result<Vec<Row>> {
    let what = format!("bytes of a one-line edit, {FILES} files");
    let (both, down, up) = codevol(bench, edits)?;
    let mut rows = vec![
        Row::bytes(&what, "codevol, UDP payload both ways", both).goal(GOAL_BYTES),
        Row::bytes(&what, "codevol, source to agent", down),
        Row::bytes(&what, "codevol, agent to source", up),
    ];
    if bench.has_rsync {
        let sample = rsync(bench, edits)?;
        rows.push(Row::bytes(
            &what,
            "rsync -a --no-whole-file, its own count",
            sample,
        ));
    }
    Ok(rows)
}

fn codevol(bench: &Bench, edits: usize) -> Result<(Sample, Sample, Sample)> {
    let dir = bench.scratch()?;
    let mut tree = Tree::make(dir.path().join("tree"), FILES)?;
    let mut fleet = Fleet::start(&Setup {
        codevol: &bench.codevol,
        dir: dir.path(),
        tree: &tree.path,
        settle: None,
        // The push says when the release was staged.
        watched: false,
    })?;
    let proxy = Proxy::start(&fleet.address()?)?;
    fleet.join(Some(&proxy.address.to_string()), None)?;
    fleet.run_agents()?;
    fleet.wait_until_active()?;
    let mut counts = Vec::new();
    // The first edit after a start is no warm one.
    for _ in 0..=edits {
        wait_for("a quiet connection", QUIET_TIMEOUT, || {
            let quiet = |at: SystemTime| at.elapsed().is_ok_and(|quiet| quiet >= QUIET);
            proxy.last().is_none_or(quiet)
        })?;
        proxy.take();
        tree.edit()?;
        let events = process::output(fleet.command().args(["push", "--json"]))?;
        let staged = fleet::told_at(&events, "node.staged")? + fleet::EVENT_STEP;
        pause(fleet::EVENT_STEP)?;
        let passed = proxy.take();
        let sum = |way: Way| -> usize {
            let counted = passed.iter().filter(|p| p.way == way && p.at <= staged);
            counted.map(|passed| passed.bytes).sum()
        };
        counts.push((sum(Way::ToAgent), sum(Way::ToSource)));
    }
    let warm = || counts.iter().skip(1);
    let sample = |of: fn(&(usize, usize)) -> usize| Sample::of(warm().map(|c| of(c) as f64));
    Ok((sample(|c| c.0 + c.1), sample(|c| c.0), sample(|c| c.1)))
}

fn rsync(bench: &Bench, edits: usize) -> Result<Sample> {
    let dir = bench.scratch()?;
    let mut tree = Tree::make(dir.path().join("tree"), FILES)?;
    let targets = peers::targets(dir.path(), 1)?;
    let target = targets.first().context("no target")?;
    run_all(vec![peers::rsync(&tree.path, target)])?;
    let mut bytes = Vec::new();
    for _ in 0..edits {
        tree.edit()?;
        bytes.push(peers::rsync_bytes(&tree.path, target)?);
    }
    Ok(Sample::of(bytes))
}
