//! `codevol-bench`: measures codevol beside its peers, in one run on one machine, with real
//! processes of the release binary on loopback. It judges nothing: figures and ratios, no tests.

mod first;
mod fleet;
mod floor;
mod peers;
mod process;
mod proxy;
mod sample;
mod save;
mod served;
mod table;
mod tree;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use crate::save::Scene;
use crate::table::{Row, Table};

/// Measures codevol beside rsync and lsyncd, and prints one table
#[derive(Debug, Parser)]
struct Args {
    /// A small set, in less than a minute
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Saves in a tree of 20,000 files too
    #[arg(long)]
    full: bool,
    /// Only these
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// The binary to measure [default: built from this workspace]
    #[arg(long, value_name = "PATH")]
    codevol: Option<PathBuf>,
    /// A `dagster` to serve with; without one nothing is served
    #[arg(long, value_name = "PATH", env = "CODEVOL_DAGSTER")]
    dagster: Option<PathBuf>,
    /// Where temporary folders are made: its file system is what is measured
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Save -> visible
    Save,
    /// First sync
    First,
    /// Bytes of a one-line edit
    Bytes,
    /// Edit -> served
    Served,
}

/// What every measurement needs.
#[derive(Debug)]
struct Bench {
    codevol: PathBuf,
    dir: PathBuf,
    has_rsync: bool,
    has_lsyncd: bool,
}

impl Bench {
    /// Makes a folder that is removed when it is dropped.
    fn scratch(&self) -> Result<TempDir> {
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix("codevol-bench-");
        builder
            .tempdir_in(&self.dir)
            .context("cannot make a temporary folder")
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(report) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String> {
    process::stop_on_signal()?;
    let codevol = match &args.codevol {
        Some(path) => path.canonicalize().context("no such binary")?,
        None => build()?,
    };
    let bench = Bench {
        codevol,
        dir: args.dir.clone().unwrap_or_else(std::env::temp_dir),
        has_rsync: process::is_installed("rsync"),
        has_lsyncd: process::is_installed("lsyncd"),
    };
    let floors = floors(&bench)?;
    let floor_ms = floors.first().and_then(|row| row.sample.p50());
    let mut table = Table {
        rows: floors,
        floor_ms: floor_ms.context("no floor")?,
    };
    let wanted = |part: Part| args.only.is_empty() || args.only.contains(&part);
    if wanted(Part::Save) {
        for scene in scenes(args) {
            say(&format!(
                "save -> visible: {} files, {} servers",
                scene.files, scene.servers
            ));
            table.rows.extend(save::measure(&bench, scene)?);
        }
    }
    if wanted(Part::First) {
        let files = if args.quick { 2_000 } else { 20_000 };
        for servers in [1, 3] {
            say(&format!("first sync: {files} files, {servers} servers"));
            table.rows.extend(first::measure(&bench, files, servers)?);
        }
    }
    if wanted(Part::Bytes) {
        say("bytes of a one-line edit");
        let edits = if args.quick { 5 } else { 20 };
        table.rows.extend(wire::measure(&bench, edits)?);
    }
    if let Some(dagster) = args.dagster.as_ref().filter(|_| wanted(Part::Served)) {
        say("edit -> served");
        let edits = if args.quick { 3 } else { 15 };
        table.rows.extend(served::measure(&bench, dagster, edits)?);
    }
    Ok(format!("{}\n{table}", environment(&bench)))
}

/// Makes the binary that is measured: `cargo run` made this one alone.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let status = command
        .args(["build", "--release", "-p", "codevol"])
        .status();
    let status = status.context("cannot start cargo: name the binary with `--codevol PATH`")?;
    ensure!(status.success(), "the binary cannot be built");
    let own = std::env::current_exe()?;
    let target = own.parent().and_then(Path::parent);
    let binary = target.context("no target folder")?.join("release/codevol");
    binary
        .canonicalize()
        .context("the binary is not beside this one: name it with `--codevol`")
}

fn scenes(args: &Args) -> Vec<Scene> {
    let sizes: &[usize] = match (args.quick, args.full) {
        (true, _) => &[200],
        (_, false) => &[200, 2_000],
        (_, true) => &[200, 2_000, 20_000],
    };
    let servers: &[usize] = if args.quick { &[1, 3] } else { &[1, 3, 10] };
    let scene = |files: usize, servers: usize| Scene {
        files,
        servers,
        saves: match (args.quick, servers, files) {
            (true, ..) => 10,
            (_, 10, _) | (.., 20_000) => 30,
            _ => 60,
        },
    };
    let pairs = sizes
        .iter()
        .flat_map(|files| servers.iter().map(|servers| (*files, *servers)));
    pairs
        .map(|(files, servers)| scene(files, servers))
        .collect()
}

fn floors(bench: &Bench) -> Result<Vec<Row>> {
    let dir = bench.scratch()?;
    let floors = [
        (
            "a new durable file of 4 KB: the floor",
            floor::durable_file(dir.path())?,
        ),
        ("fdatasync of 4 KB in place", floor::fdatasync(dir.path())?),
        ("symlink flip", floor::symlink_flip(dir.path())?),
        ("UDP round trip on loopback", floor::udp_round_trip()?),
    ];
    Ok(floors
        .map(|(what, sample)| Row::millis(what, "this machine", sample))
        .into())
}

/// Says where the figures come from.
fn environment(bench: &Bench) -> String {
    let first_line = |command: &mut Command| {
        let text = process::output(command).unwrap_or_default();
        text.lines().next().unwrap_or("unknown").trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let fs = first_line(
        Command::new("stat")
            .args(["-f", "-c", "%T"])
            .arg(&bench.dir),
    );
    let kernel = first_line(Command::new("uname").arg("-sr"));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let version = |program: &str, present: bool| match present {
        true => first_line(Command::new(program).arg("--version")),
        false => format!("{program} is not installed"),
    };
    format!(
        "{cores} cores, {fs}, {kernel}, load {load} at the end (this run's own share included)\n\
         {}; rsync: {}; lsyncd: {}\n\
         Times are read off every {:?}; the floor is the median of the first row.\n",
        first_line(Command::new(&bench.codevol).arg("version")),
        version("rsync", bench.has_rsync),
        version("lsyncd", bench.has_lsyncd),
        process::LOOK_INTERVAL,
    )
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(report: &str) {
    println!("{report}");
}

/// Tells whoever watches what goes on.
#[expect(clippy::print_stderr, reason = "progress, apart from the table")]
fn say(line: &str) {
    eprintln!("{line}");
}
