//! A source daemon with a tree of its own, and what is to be seen of it from outside.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use codevol_peer::{DEADLINE, key, within};
use codevol_protocol::call::{Call, Push, Reply};
use codevol_protocol::evidence::Verdict;
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::message::{Join, JoinReply, MINOR};
use codevol_protocol::name::Text;
use codevol_protocol::rollout::Policy;
use codevol_protocol::token::Token;
use codevol_source::config::{PublishMode, SourceConfig, VolumeConfig, WatchConfig, WatchMode};
use codevol_source::daemon::Daemon;
use codevol_source::identity::Identity;
use codevol_transport::{Alpn, Dialer, FrameError, Link, control};
use rustix::io::Errno;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::member::Member;

/// A running source, and a member that keeps to the rules.
#[derive(Debug)]
pub(crate) struct Host {
    temp: TempDir,
    pub(crate) at: SocketAddr,
    pub(crate) source_key: PublicKey,
    pub(crate) good: Member,
    config: SourceConfig,
    running: JoinSet<()>,
}

/// The member that keeps to the rules, by the seed of its key.
const GOOD: u8 = 100;

impl Host {
    /// A source on which r1 is live, also on its one member.
    pub(crate) async fn begin() -> Self {
        Self::begin_in(tempfile::tempdir().unwrap()).await
    }

    /// The same, in a folder in which there may be directories already.
    pub(crate) async fn begin_in(temp: TempDir) -> Self {
        Self::begin_with(temp, |_| {}).await
    }

    /// The same, with another configuration of the volume.
    pub(crate) async fn begin_with(temp: TempDir, change: impl FnOnce(&mut VolumeConfig)) -> Self {
        for dir in ["tree", "state"] {
            fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        save(&temp, "defs.py", "one");
        save(&temp, "kept.py", "kept");
        let state = temp.path().join("state");
        Identity::create(&state).unwrap();
        let source_key = Identity::open(&state).unwrap().node.public();
        let mut config = config_in(&temp);
        let volume = config.volumes.first_mut().unwrap();
        change(volume);
        let is_manual = volume.publish == PublishMode::Manual;
        let mut running = JoinSet::new();
        let at = start(&config, &mut running);
        let socket = temp.path().join("source.sock");
        let token = invite(&socket, "good", 600).await;
        let good = key(GOOD);
        let welcomed = join(at, &good, &token, None).await.unwrap();
        assert!(matches!(welcomed, JoinReply::Welcome(_)), "{welcomed:?}");
        let good = Member::connect(at, &source_key, &good, Vec::new()).await;
        let mut host = Self {
            temp,
            at,
            source_key,
            good,
            config,
            running,
        };
        if is_manual {
            host.goes_live("one").await;
        } else {
            // It was live, on nobody, before there was a member.
            let release = host.good.stages().await;
            host.good.activates(release, Verdict::Good).await;
        }
        host
    }

    /// Waits until the daemon has ended by itself, and starts it again on what is there.
    pub(crate) async fn restarts(&mut self) {
        let ended = within("the end", self.running.join_next()).await;
        ended.unwrap().unwrap();
        self.at = start(&self.config, &mut self.running);
        let held = self.good.held.clone();
        self.good = Member::connect(self.at, &self.source_key, &key(GOOD), held).await;
        let scanned = async {
            while self.call(&Call::Health { ready: true }).await != Reply::Healthy {
                tokio::task::yield_now().await;
            }
        };
        within("the first scan", scanned).await;
    }

    pub(crate) async fn call(&self, call: &Call) -> Reply {
        ask(&self.temp.path().join("source.sock"), call).await
    }

    pub(crate) async fn invite(&self, name: &str, ttl_s: u64) -> Token {
        invite(&self.temp.path().join("source.sock"), name, ttl_s).await
    }

    /// Enrols a key.
    pub(crate) async fn enrol(&self, name: &str, key: &SecretKey) {
        let token = self.invite(name, 600).await;
        let reply = join(self.at, key, &token, None).await.unwrap();
        assert!(matches!(reply, JoinReply::Welcome(_)), "{reply:?}");
    }

    /// Enrols a key and connects with it, by the rules.
    pub(crate) async fn member(&self, name: &str, key: &SecretKey) -> Member {
        self.enrol(name, key).await;
        Member::connect(self.at, &self.source_key, key, Vec::new()).await
    }

    pub(crate) async fn dial(&self, key: &SecretKey, alpn: Alpn) -> Link {
        let dialer = Dialer::new(key);
        let at = self.at.to_string();
        let link = dialer.dial(&at, alpn, &self.source_key, DEADLINE);
        link.await.unwrap()
    }

    /// Publishes the tree with another text in it.
    pub(crate) async fn publish(&self, text: &str) {
        let reply = self.push(text).await;
        assert!(matches!(reply, Reply::Plan(_)), "{reply:?}");
    }

    /// Asks that the tree be published with another text in it.
    pub(crate) async fn push(&self, text: &str) -> Reply {
        save(&self.temp, "defs.py", text);
        let push = Push {
            volume: None,
            paths: Vec::new(),
            message: Text::default(),
            dry_run: false,
            thaw: false,
            yes: false,
            wait: false,
        };
        self.call(&Call::Push(push)).await
    }

    /// Publishes, and has the good member run it.
    async fn goes_live(&mut self, text: &str) {
        self.publish(text).await;
        let release = self.good.stages().await;
        self.good.activates(release, Verdict::Good).await;
        self.good.hears_live(release).await;
    }

    /// The journal's lines of this outcome that name this node.
    pub(crate) fn lines(&self, outcome: &str, node: &str) -> usize {
        let journal = self.temp.path().join("state/journal/journal.jsonl");
        let text = fs::read_to_string(journal).unwrap_or_default();
        let outcome = format!("\"outcome\":\"{outcome}\"");
        let node = format!("\"node\":\"{node}\"");
        let lines = text.lines();
        lines
            .filter(|line| line.contains(&outcome) && line.contains(&node))
            .count()
    }

    /// Waits until the journal holds exactly so many such lines.
    pub(crate) async fn noted(&self, what: &str, (outcome, node): (&str, &str), count: usize) {
        let found = async {
            while self.lines(outcome, node) < count {
                // The journal is written by a thread of its own.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        within(&format!("{what}: line `{outcome}` of `{node}`"), found).await;
        assert_eq!(self.lines(outcome, node), count, "{what}");
    }

    /// The checks that each case ends with. The hostile one must be gone by then.
    pub(crate) async fn survives(&mut self, what: &str) {
        let health = self.call(&Call::Health { ready: true }).await;
        assert_eq!(health, Reply::Healthy, "{what}");
        assert!(
            self.good.is_open(),
            "{what}: another connection was touched"
        );
        let tree: PathBuf = self.temp.path().join("tree");
        assert_eq!(fs::read(tree.join("kept.py")).unwrap(), b"kept", "{what}");
        assert_eq!(fs::read_dir(&tree).unwrap().count(), 2, "{what}");
        self.goes_live(what).await;
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.temp.path().join("tree")
    }

    /// Makes a call of which the answer may not come, as the daemon ends.
    pub(crate) async fn call_that_may_end(&self, call: &Call) -> Option<Reply> {
        let socket = self.temp.path().join("source.sock");
        let answered = async {
            let (mut reader, mut writer) = control::connect(&socket).await.unwrap();
            writer.write(call).await.unwrap();
            reader.read().await.unwrap_or_default()
        };
        within("control socket", answered).await
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.temp.path().join("state")
    }
}

fn config_in(temp: &TempDir) -> SourceConfig {
    SourceConfig {
        metrics: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        state_dir: temp.path().join("state"),
        control_socket: temp.path().join("source.sock"),
        volumes: vec![VolumeConfig {
            name: "pipes".parse().unwrap(),
            path: temp.path().join("tree"),
            publish: PublishMode::Manual,
            ignore: Vec::new(),
            keep: 20,
            watch: WatchConfig {
                mode: WatchMode::Poll,
                ..WatchConfig::default()
            },
            rollout: Policy::default(),
        }],
    }
}

/// Starts the daemon, and returns where agents reach it.
fn start(config: &SourceConfig, running: &mut JoinSet<()>) -> SocketAddr {
    let daemon = Daemon::start(config.clone(), "test").unwrap();
    let at = daemon.listen().unwrap();
    running.spawn(daemon.run());
    at
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test's file needs no durability"
)]
fn save(temp: &TempDir, name: &str, text: &str) {
    fs::write(temp.path().join("tree").join(name), text).unwrap();
}

async fn ask(socket: &std::path::Path, call: &Call) -> Reply {
    let answered = async {
        let (mut reader, mut writer) = loop {
            match control::connect(socket).await {
                // The daemon is in this process, and may have taken the last one for a moment.
                Err(error) if error.source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                    tokio::task::yield_now().await;
                }
                connected => break connected.unwrap(),
            }
        };
        writer.write(call).await.unwrap();
        reader.read().await.unwrap().unwrap()
    };
    within("control socket", answered).await
}

async fn invite(socket: &std::path::Path, name: &str, ttl_s: u64) -> Token {
    let name = Some(name.parse().unwrap());
    match ask(socket, &Call::Invite { name, ttl_s }).await {
        Reply::Invited(invited) => invited.token.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Makes the one call of a joiner.
pub(crate) async fn join(
    at: SocketAddr,
    key: &SecretKey,
    token: &Token,
    name: Option<&str>,
) -> Result<JoinReply, FrameError> {
    let dialer = Dialer::new(key);
    let at = at.to_string();
    let link = dialer.dial(&at, Alpn::Join, &token.source_key, DEADLINE);
    let link = link.await.unwrap();
    let (mut writer, mut reader) = link.open_control().await.unwrap();
    let call = Join {
        minor: MINOR,
        token: token.id,
        secret: token.secret.clone(),
        name: name.map(|name| name.parse().unwrap()),
        host: Text::cut("host"),
        volume: None,
    };
    writer.write(&call).await?;
    let reply = within("join", reader.read::<JoinReply>()).await?;
    Ok(reply.unwrap())
}
