//! Save -> visible: from just before the write returns until the last of the servers shows it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::Bench;
use crate::fleet::{Fleet, Setup};
use crate::peers::{self, Lsyncd};
use crate::process::{pause, run_all, wait_for};
use crate::sample::Sample;
use crate::table::Row;
use crate::tree::{self, Edit, Tree};

const VISIBLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two saves: what follows an activation in the background is done then.
const PAUSE: Duration = Duration::from_millis(120);
/// The same for each file of the tree.
const PAUSE_PER_FILE: Duration = Duration::from_micros(60);
/// Goals for three agents.
const GOAL_MS: f64 = 40.0;
const GOAL_UNSETTLED_MS: f64 = 10.0;

/// One scene: a tree and so many servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    /// Files of the tree.
    pub(crate) files: usize,
    /// Agents, or targets.
    pub(crate) servers: usize,
    /// Saves that are timed.
    pub(crate) saves: usize,
}

impl Scene {
    fn what(&self) -> String {
        let (files, servers) = (self.files, self.servers);
        format!("save -> visible, {files} files, {servers} servers")
    }

    fn timed(
        &self,
        tree: &mut Tree,
        mut until_visible: impl FnMut(Edit) -> Result<Duration>,
    ) -> Result<Sample> {
        let mut times = Vec::new();
        // The first save meets cold caches, on every side.
        for save in 0..=self.saves {
            // Not in step with anything that the peers do once a second.
            let jitter = Duration::from_millis((save as u64 * 61) % 100);
            let files = u32::try_from(self.files).unwrap_or(u32::MAX);
            pause(PAUSE + jitter + PAUSE_PER_FILE * files)?;
            let edit = tree.edit()?;
            let time = until_visible(edit)?;
            if save > 0 {
                times.push(time);
            }
        }
        Ok(Sample::of_durations(times))
    }
}

/// Times one scene on codevol, with both settle times, and on the peers.
pub(crate) fn measure(bench: &Bench, scene: Scene) -> Result<Vec<Row>> {
    let what = scene.what();
    let is_goal = scene.servers == 3;
    let mut rows = Vec::new();
    for (settle, goal) in [(None, GOAL_MS), (Some("1ms"), GOAL_UNSETTLED_MS)] {
        let who = format!("codevol, settle {}", settle.unwrap_or("20ms"));
        let mut row = Row::millis(&what, &who, codevol(bench, scene, settle)?);
        let small = scene.files <= if settle.is_some() { 200 } else { 2_000 };
        if is_goal && small {
            row = row.goal(goal);
        }
        rows.push(row);
    }
    let peer_scene = Scene {
        saves: scene.saves.div_ceil(2),
        ..scene
    };
    if bench.has_rsync {
        let sample = rsync(bench, peer_scene)?;
        rows.push(Row::millis(&what, "rsync -a, run at the save", sample));
    }
    if bench.has_lsyncd {
        let (sample, delay_s) = lsyncd(bench, peer_scene)?;
        rows.push(Row::millis(
            &what,
            &format!("lsyncd, delay {delay_s} s"),
            sample,
        ));
    }
    Ok(rows)
}

fn codevol(bench: &Bench, scene: Scene, settle: Option<&str>) -> Result<Sample> {
    let dir = bench.scratch()?;
    let mut tree = Tree::make(dir.path().join("tree"), scene.files)?;
    let mut fleet = Fleet::start(&Setup {
        codevol: &bench.codevol,
        dir: dir.path(),
        tree: &tree.path,
        settle,
        watched: true,
    })?;
    for _ in 0..scene.servers {
        fleet.join(None, None)?;
    }
    fleet.run_agents()?;
    fleet.wait_until_active()?;
    let names = |fleet: &Fleet| -> Vec<Option<PathBuf>> {
        fleet.agents.iter().map(|agent| agent.current()).collect()
    };
    let mut before = names(&fleet);
    scene.timed(&mut tree, |edit| {
        let mut waiting: Vec<_> = fleet.agents.iter().zip(&before).collect();
        let shows = |edit: &Edit| {
            waiting.retain(|(agent, before)| {
                agent.current() == **before || !tree::holds(&agent.tree(), edit)
            });
            waiting.is_empty()
        };
        let time = until(&edit, shows)?;
        before = names(&fleet);
        Ok(time)
    })
}

fn rsync(bench: &Bench, scene: Scene) -> Result<Sample> {
    let dir = bench.scratch()?;
    let mut tree = Tree::make(dir.path().join("tree"), scene.files)?;
    let targets = peers::targets(dir.path(), scene.servers)?;
    let commands = |tree: &Path| targets.iter().map(|to| peers::rsync(tree, to)).collect();
    run_all(commands(&tree.path))?;
    let path = tree.path.clone();
    scene.timed(&mut tree, |edit| {
        run_all(commands(&path))?;
        let time = edit.at.elapsed();
        peers::all_hold(&targets, &edit)
            .then_some(time)
            .context("rsync did not bring the save")
    })
}

fn lsyncd(bench: &Bench, scene: Scene) -> Result<(Sample, u32)> {
    let dir = bench.scratch()?;
    let mut tree = Tree::make(dir.path().join("tree"), scene.files)?;
    let targets = peers::targets(dir.path(), scene.servers)?;
    let lsyncd = Lsyncd::start(&tree.path, &targets, dir.path())?;
    let sample = scene.timed(&mut tree, |edit| {
        let mut waiting: Vec<&PathBuf> = targets.iter().collect();
        until(&edit, |edit| {
            waiting.retain(|target| !tree::holds(target, edit));
            waiting.is_empty()
        })
    })?;
    Ok((sample, lsyncd.delay_s))
}

/// Waits until a save is visible, and returns how long that took.
fn until(edit: &Edit, mut is_visible: impl FnMut(&Edit) -> bool) -> Result<Duration> {
    let mut seen = None;
    wait_for("the save is visible", VISIBLE_TIMEOUT, || {
        let visible = is_visible(edit);
        seen = visible.then(Instant::now);
        visible
    })?;
    let seen = seen.context("the save was not seen")?;
    Ok(seen.duration_since(edit.at))
}
