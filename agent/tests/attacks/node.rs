//! An agent daemon with directories of its own, and what is to be seen of it from outside.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use codevol_agent::config::{AgentConfig, DependencyPolicy, DriftMode, VolumeConfig};
use codevol_agent::daemon::{Daemon, StartError};
use codevol_agent::identity::{Enrolment, Identity};
use codevol_peer::within;
use codevol_protocol::call::{Call, Reply};
use codevol_transport::control;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::craft::{Crafted, OPERATOR, SOURCE, fleet, key, pipes, trust};

/// A running agent.
#[derive(Debug)]
pub(crate) struct Node {
    temp: TempDir,
    source: SocketAddr,
    /// The interpreter whose packages are compared, and what becomes of a release that lacks some.
    pub(crate) python: Option<PathBuf>,
    pub(crate) dependencies: DependencyPolicy,
    running: Option<(CancellationToken, JoinSet<()>)>,
    outside: Outside,
}

/// Each path outside of the agent's own, with all that a write, chmod or removal would change.
type Outside = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

impl Node {
    /// Enrols a node and starts it.
    pub(crate) fn start(source: SocketAddr, temp: TempDir) -> Self {
        for dir in ["root", "state", "canary", "canary/sub"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        for file in ["canary/x", "canary/sub/x", "x"] {
            fs::copy("/proc/self/status", temp.path().join(file)).unwrap();
        }
        let state = temp.path().join("state");
        Identity::node_key(&state).unwrap();
        let enrolment = Enrolment {
            fleet: fleet(),
            node: "dag-01".parse().unwrap(),
            volume: pipes(),
            source_key: key(SOURCE).public(),
            operator: key(OPERATOR).public(),
            trust: trust().sign(&key(OPERATOR)),
        };
        Identity::enrol(&state, enrolment).unwrap();
        let outside = outside(temp.path());
        let mut node = Self {
            temp,
            source,
            python: None,
            dependencies: DependencyPolicy::Warn,
            running: None,
            outside,
        };
        node.run().unwrap();
        node
    }

    /// Starts the daemon on what is there.
    pub(crate) fn run(&mut self) -> Result<(), StartError> {
        let daemon = Daemon::start(
            AgentConfig {
                metrics: None,
                source: vec![self.source.to_string()],
                state_dir: self.state(),
                control_socket: self.socket(),
                volumes: vec![VolumeConfig {
                    name: pipes(),
                    root: self.root(),
                    keep: 3,
                    drift: DriftMode::Report,
                    scrub: Duration::from_secs(3_600),
                    dependencies: self.dependencies,
                    python: self.python.clone(),
                    requirements: Vec::new(),
                    code_servers: Vec::new(),
                }],
            },
            "test",
        )?;
        let mut tasks = JoinSet::new();
        let stop = daemon.stopper();
        tasks.spawn(daemon.run());
        self.running = Some((stop, tasks));
        Ok(())
    }

    /// Stops the daemon.
    pub(crate) async fn stop(&mut self) {
        if let Some((stop, mut tasks)) = self.running.take() {
            stop.cancel();
            within("stop", tasks.join_next()).await.unwrap().unwrap();
        }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.temp.path().join("state")
    }

    /// Lets every user go where the node's directories are: what guards them is their own modes.
    pub(crate) fn opens_the_way(&self) {
        for dir in [self.temp.path(), &self.root(), &self.state()] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.temp.path().join("state/agent.sock")
    }

    pub(crate) async fn call(&self, call: &Call) -> Reply {
        let answered = async {
            let (mut reader, mut writer) = control::connect(&self.socket()).await.unwrap();
            writer.write(call).await.unwrap();
            reader.read().await.unwrap().unwrap()
        };
        within("control socket", answered).await
    }

    /// The journal's lines of this outcome.
    pub(crate) fn lines(&self, outcome: &str) -> Vec<String> {
        let journal = self.state().join("journal/journal.jsonl");
        let text = fs::read_to_string(journal).unwrap_or_default();
        let wanted = format!("\"outcome\":\"{outcome}\"");
        let lines = text.lines().filter(|line| line.contains(&wanted));
        lines.map(str::to_owned).collect()
    }

    /// Asserts that `current` names this release, that it is whole, and that nothing changed
    /// outside.
    pub(crate) fn assert_live(&self, live: &Crafted, what: &str) {
        let current = fs::read_link(self.root().join("current")).unwrap();
        let expected = Path::new("releases").join(live.dir_name());
        assert_eq!(current, expected, "{what}");
        let mut found = BTreeMap::new();
        files_below(&self.root().join("current"), "", &mut found);
        assert!(found.remove(".codevol-release.json").is_some(), "{what}");
        assert!(found == live.files, "{what}: the live release changed");
        assert_eq!(outside(self.temp.path()), self.outside, "{what}");
    }

    /// What stands in a release's directory, live or not.
    pub(crate) fn holds(&self, release: &Crafted) -> bool {
        self.root()
            .join("releases")
            .join(release.dir_name())
            .exists()
    }
}

fn files_below(dir: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

fn outside(temp: &Path) -> Outside {
    let mut found = Outside::new();
    look_at(temp, &mut found);
    found
}

fn look_at(dir: &Path, found: &mut Outside) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("root") || path.ends_with("state") {
            continue;
        }
        let meta = fs::symlink_metadata(&path).unwrap();
        let bytes = fs::read(&path).unwrap_or_default();
        let times = (meta.mtime_nsec(), meta.ctime_nsec());
        found.insert(path.clone(), (meta.mode(), times.0, times.1, bytes));
        if meta.is_dir() {
            look_at(&path, found);
        }
    }
}
