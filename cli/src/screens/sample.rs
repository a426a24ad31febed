//! Documents for the tests of screens.

use codevol_protocol::dependency::{
    DependencyStatus, EnvironmentStatus, ImportDrift, PackageDrift,
};
use codevol_protocol::evidence::{CodeServerKind, CodeServerState, Evidence};
use codevol_protocol::id::{FleetId, ManifestId, ReleaseId};
use codevol_protocol::name::Text;
use codevol_protocol::release::{Git, Origin, Seq, UnixMillis};
use codevol_protocol::status::{
    CodeServerStatus, Event, EventKind, NodeError, NodeState, NodeStatus, Outcome, OutcomeKind,
    ReleaseStatus, STATUS_SCHEMA, Status, VolumeStatus, WatchState, WatchStatus,
};

pub(crate) const NOW: UnixMillis = UnixMillis(1_764_000_000_000);
/// What a hostile author, path or traceback may hold.
pub(crate) const HOSTILE: &str = "a\u{1b}[2J\u{1b}]0;x\u{7}\r\n\u{202e}b\tc";

pub(crate) fn before(seconds: u64) -> UnixMillis {
    UnixMillis(NOW.0 - seconds * 1_000)
}

pub(crate) fn text(text: &str) -> Text {
    Text::cut(text)
}

/// Returns a screen as a terminal without colour shows it.
pub(crate) fn plain(screen: &str) -> String {
    anstream::adapter::strip_str(screen).to_string()
}

pub(crate) fn release(seq: u64) -> ReleaseStatus {
    ReleaseStatus {
        seq: Seq(seq),
        id: ReleaseId::of(&seq.to_be_bytes()),
        manifest: ManifestId::of(b"m"),
        parent: Some(ReleaseId::of(&(seq - 1).to_be_bytes())),
        origin: Origin::Push,
        author: text("alice"),
        message: text("null customer ids"),
        created_at: before(7_200),
        files: 204,
        bytes: 409_123,
        git: None,
    }
}

pub(crate) fn git(dirty: bool) -> Option<Git> {
    Some(Git {
        commit: text("9c1d0aa4f0e1d2c3b4a5968778695a4b3c2d1e0f"),
        branch: Some(text("main")),
        dirty,
    })
}

pub(crate) fn node(name: &str, release: u64) -> NodeStatus {
    NodeStatus {
        name: name.parse().unwrap(),
        state: NodeState::Live,
        release: Some(Seq(release)),
        staged: vec![Seq(release)],
        lag: 0,
        evidence: Some(Evidence::Proven),
        last_seen_at: Some(NOW),
        held: None,
        drift: Vec::new(),
        drift_more: 0,
        environments: vec![EnvironmentStatus {
            python: text(PYTHON),
            version: text("3.11.7"),
            dagster: Some(text("1.11.2")),
            packages: 212,
        }],
        dependencies: None,
        code_servers: vec![code_server(CodeServerState::Good, Some(1_210))],
        error: None,
    }
}

pub(crate) fn code_server(state: CodeServerState, load_ms: Option<u64>) -> CodeServerStatus {
    CodeServerStatus {
        address: text("127.0.0.1:4000"),
        kind: CodeServerKind::CodeServer,
        state,
        server_id: Some(text("f3")),
        load_ms,
    }
}

pub(crate) fn volume(live: u64, nodes: Vec<NodeStatus>) -> VolumeStatus {
    VolumeStatus {
        name: "pipes".parse().unwrap(),
        head: Some(Seq(live)),
        live: Some(Seq(live)),
        frozen: None,
        rollout: None,
        waits_for: Vec::new(),
        quarantined: Vec::new(),
        skipped: Vec::new(),
        watch: Some(WatchStatus {
            mode: text("inotify"),
            state: WatchState::Ok,
            advice: None,
        }),
        release: Some(release(live)),
        skew: Vec::new(),
        nodes,
        not_in_git: Vec::new(),
    }
}

pub(crate) fn status(volumes: Vec<VolumeStatus>) -> Status {
    Status {
        schema: text(STATUS_SCHEMA),
        fleet: FleetId::of(b"f"),
        listen: Some(text("127.0.0.1:7443")),
        source: None,
        volumes,
    }
}

pub(crate) fn error(node: &str, release: u64, step: &str) -> NodeError {
    NodeError {
        node: node.parse().unwrap(),
        release: Seq(release),
        step: text(step),
        kind: text("broken"),
        message: text("ModuleNotFoundError: No module named 'polars'"),
        location: Some(text("assets/orders.py:17")),
        traceback: Some(text(
            "  File \"assets/orders.py\", line 17, in <module>\n    import polars as pl\n",
        )),
        hidden_frames: 12,
        hint: Some(text(
            "that server's Python (/opt/venv, 3.11) lacks a package the release imports; \
             codevol sends code, not packages",
        )),
    }
}

pub(crate) const PYTHON: &str = "/opt/venv/bin/python";

/// A package that is missing, one of another version, and an import that nothing gives.
pub(crate) fn dependencies(release: u64) -> DependencyStatus {
    let drift = |name: &str, wanted: &str, installed: Option<&str>, line| PackageDrift {
        name: name.parse().unwrap(),
        wanted: text(wanted),
        installed: installed.map(text),
        python: text(PYTHON),
        file: text("requirements.txt"),
        line: Some(line),
    };
    DependencyStatus {
        release: Some(Seq(release)),
        refused: false,
        packages: vec![
            drift("pandas", ">=2.1", Some("2.0"), 4),
            drift("polars", "==1.2", None, 3),
        ],
        imports: vec![ImportDrift {
            module: text("duckdb"),
            python: text(PYTHON),
            file: text("assets/orders.py"),
            line: 17,
        }],
        unjudged: Vec::new(),
        left_out: 0,
        mend: vec![text(
            "/opt/venv/bin/python -m pip install 'pandas>=2.1' 'polars==1.2'",
        )],
    }
}

pub(crate) fn event(kind: EventKind, release: u64, node: &str) -> Event {
    Event {
        event: kind,
        at: NOW,
        volume: "pipes".parse().unwrap(),
        release: Some(Seq(release)),
        node: node.parse().ok(),
        elapsed_ms: None,
        bytes: None,
        evidence: None,
        wave: None,
        error: None,
    }
}

pub(crate) fn staged(release: u64, node: &str) -> Event {
    Event {
        bytes: Some(412),
        elapsed_ms: Some(9),
        ..event(EventKind::NodeStaged, release, node)
    }
}

pub(crate) fn activated(release: u64, node: &str) -> Event {
    Event {
        elapsed_ms: Some(3),
        ..event(EventKind::NodeActivated, release, node)
    }
}

pub(crate) fn verified(release: u64, node: &str) -> Event {
    Event {
        elapsed_ms: Some(1_210),
        evidence: Some(Evidence::Proven),
        ..event(EventKind::NodeVerified, release, node)
    }
}

pub(crate) fn failed(release: u64, node: &str, step: &str) -> Event {
    Event {
        error: Some(error(node, release, step)),
        ..event(EventKind::NodeFailed, release, node)
    }
}

pub(crate) fn returned(to: u64, node: &str) -> Event {
    Event {
        evidence: Some(Evidence::Proven),
        ..event(EventKind::NodeReturned, to, node)
    }
}

pub(crate) fn outcome(
    event: OutcomeKind,
    release: u64,
    live: u64,
    nodes: &[(&str, NodeState)],
) -> Outcome {
    let nodes = nodes.iter();
    Outcome {
        event,
        at: NOW,
        volume: "pipes".parse().unwrap(),
        release: Seq(release),
        live: Some(Seq(live)),
        returned: false,
        wave: None,
        waves: None,
        nodes: nodes
            .map(|(name, state)| (name.parse().unwrap(), *state))
            .collect(),
        held: Vec::new(),
        warnings: Vec::new(),
        error: None,
    }
}
