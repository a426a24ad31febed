//! The publisher's task by itself.

mod write_through;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use codevol_protocol::call::{Push, PushPlan};
use codevol_protocol::id::{BlobId, FleetId};
use codevol_protocol::key::SecretKey;
use codevol_protocol::name::{Text, VolumeName};
use codevol_protocol::rollout::Policy;
use codevol_store::register::Register;
use codevol_store::state_dir::StateDir;
use codevol_tests::save;
use codevol_transport::Changes;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handle::{Reply, Request};
use super::{PublisherParts, PublisherTask, Signer};
use crate::config::{PublishMode, VolumeConfig, WatchConfig, WatchMode};
use crate::fleet::{FleetParts, FleetTask};
use crate::git::GitDir;
use crate::git::tests::git;
use crate::history::History;
use crate::metrics::VolumeMetrics;
use crate::watch::{DirtyKind, Hint, UnsureReason, Watcher};

/// Longer than anything takes; only a hang gets there.
const DEADLINE: Duration = Duration::from_secs(20);
/// No longer than an emptied file waits for its first bytes.
const UNWRITTEN: Duration = Duration::from_millis(100);
/// Longer than a hang is waited for.
const LONG: Duration = Duration::from_secs(3_600);

/// A publisher that does nothing by itself.
struct Bench {
    temp: TempDir,
    task: PublisherTask,
    metrics: Arc<VolumeMetrics>,
    history: Arc<History>,
    shutdown: CancellationToken,
    /// It is not run: what it is told waits in its inbox.
    _fleet: FleetTask,
}

impl Bench {
    fn new(watch: WatchConfig) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let tree = temp.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let volume: VolumeName = "pipes".parse().unwrap();
        let state = StateDir::open(temp.path()).unwrap();
        let dir = state.volume(&volume).unwrap();
        let history = Arc::new(History::open(&dir).unwrap());
        let shutdown = CancellationToken::new();
        let metrics = VolumeMetrics::new(Arc::default(), temp.path().to_owned());
        let metrics = Arc::new(metrics);
        let kept = Register::create(&dir, "rollout", "codevol.rollout/1", Default::default());
        let (fleet_task, fleet) = FleetTask::new(FleetParts {
            volume: volume.clone(),
            history: history.clone(),
            kept: kept.unwrap(),
            journal: state.journal().clone(),
            enrolled: BTreeSet::new(),
            policy: Policy::default(),
            failed: shutdown.clone(),
            metrics: metrics.clone(),
            changes: Changes::default(),
        });
        let (task, _handle) = PublisherTask::new(PublisherParts {
            config: VolumeConfig {
                name: volume,
                path: tree,
                publish: PublishMode::Auto,
                ignore: Vec::new(),
                keep: 3,
                watch,
                rollout: Policy::default(),
            },
            cache_file: temp.path().join("scan-cache"),
            history: history.clone(),
            fleet,
            signer: Signer {
                fleet: FleetId::of(b"fleet"),
                epoch: 1,
                key: SecretKey::from_seed(&[1; 32]),
                host: Text::cut("host"),
            },
            journal: state.journal().clone(),
            metrics: metrics.clone(),
            changes: Changes::default(),
            state: dir,
        })
        .unwrap();
        Self {
            temp,
            task,
            metrics,
            history,
            shutdown,
            _fleet: fleet_task,
        }
    }

    /// A publisher whose tree is watched, has one file and is published.
    async fn begin(watch: WatchConfig) -> (Self, Watcher) {
        let mut bench = Self::new(watch);
        bench.save("one");
        git(&bench.tree(), &["init", "--quiet"]);
        bench.task.git_dir = GitDir::find(&bench.tree()).await;
        assert!(bench.task.git_dir.is_some());
        let mode = bench.task.config.watch.mode;
        let watcher = Watcher::start(&bench.tree(), mode, bench.task.git_dir.as_ref());
        let (watcher, hints) = watcher.unwrap();
        bench.task.hints = hints;
        // Directories that are newly watched are looked at once more.
        while bench.task.take_in(&watcher) {
            bench.task.settled(&watcher).await;
        }
        assert_eq!(bench.records(), 1);
        // The time to poll may have come meanwhile.
        bench.task.settle.begin();
        (bench, watcher)
    }

    fn tree(&self) -> PathBuf {
        self.temp.path().join("tree")
    }

    fn save(&self, text: &str) {
        save(&self.tree().join("defs.py"), text.as_bytes());
    }

    fn lock(&self) -> PathBuf {
        self.tree().join(".git/index.lock")
    }

    fn records(&self) -> usize {
        self.history.releases().len()
    }

    /// Whether the tree is looked at once more by itself.
    fn waits(&self) -> bool {
        self.task.settle.deadline().is_some()
    }
}

fn inotify() -> WatchConfig {
    WatchConfig {
        mode: WatchMode::Inotify,
        ..WatchConfig::default()
    }
}

/// No longer than for one save.
fn impatient() -> WatchConfig {
    let watch = inotify();
    WatchConfig {
        settle_max: watch.settle,
        ..watch
    }
}

/// As long as it takes.
fn patient() -> WatchConfig {
    WatchConfig {
        settle_max: LONG,
        ..inotify()
    }
}

/// A tree of which no hints come but those that a test makes up.
fn polled() -> WatchConfig {
    WatchConfig {
        mode: WatchMode::Poll,
        ..WatchConfig::default()
    }
}

/// A look takes this in as what came meanwhile.
fn comes_meanwhile(bench: &mut Bench, hint: Hint) {
    let (sender, hints) = mpsc::channel(1);
    sender.try_send(hint).unwrap();
    bench.task.hints = hints;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_watch_its_tree_stops() {
    let bench = Bench::new(inotify());
    fs::remove_dir(bench.tree()).unwrap();
    let shutdown = bench.shutdown;
    bench.task.run(shutdown.clone()).await;
    assert!(shutdown.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_moved_while_it_was_looked_at_is_not_published() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    // The look sees it, or half of it; that it is there is heard of only then.
    bench.save("two");
    bench.task.expect_anything();
    bench.task.settled(&watcher).await;
    assert_eq!(bench.records(), 1);
    assert!(bench.waits());
    bench.task.take_in(&watcher);
    bench.task.settled(&watcher).await;
    assert_eq!(bench.records(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_just_emptied_is_not_published_before_it_is_written() {
    let (mut bench, watcher) = Bench::begin(polled()).await;
    loop {
        let records = bench.records();
        let emptied = Instant::now();
        bench.save("");
        bench.task.expect_anything();
        bench.task.settled(&watcher).await;
        // On a host that is that slow it is as old as a file that is to be empty.
        if emptied.elapsed() < UNWRITTEN {
            assert_eq!(bench.records(), records);
            assert!(bench.waits());
            break;
        }
        bench.save("again");
        bench.task.expect_anything();
        bench.task.settled(&watcher).await;
    }
    bench.save("two");
    // Nothing else tells that it is to be looked at.
    bench.task.settled(&watcher).await;
    let (head, text) = (bench.history.head().unwrap(), b"two");
    let manifest = bench.history.manifest(head.release().manifest).unwrap();
    let entry = manifest.entry(&"defs.py".parse().unwrap()).unwrap();
    assert_eq!(entry.blob(), Some(BlobId::of(text)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_to_be_empty_is_published_in_the_end() {
    let (mut bench, watcher) = Bench::begin(polled()).await;
    bench.save("");
    bench.task.expect_anything();
    let began = Instant::now();
    while bench.records() == 1 {
        assert!(began.elapsed() < DEADLINE);
        bench.task.settled(&watcher).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_moves_under_every_look_is_published_all_the_same() {
    let (mut bench, watcher) = Bench::begin(impatient()).await;
    let mut looks = 0;
    let began = Instant::now();
    while bench.records() == 1 {
        assert!(began.elapsed() < DEADLINE);
        looks += 1;
        bench.save(&format!("look {looks}"));
        bench.task.expect_anything();
        bench.task.settled(&watcher).await;
    }
    assert!(looks > 1);
    // From then on the patience is as it was.
    bench.save("another burst");
    bench.task.expect_anything();
    bench.task.settled(&watcher).await;
    assert_eq!(bench.records(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_is_not_forgotten_where_git_locked_and_unlocked_during_the_look() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    bench.save("two");
    bench.task.take_in(&watcher);
    // As `git status` does, which an editor runs after each save.
    File::create(bench.lock()).unwrap();
    fs::remove_file(bench.lock()).unwrap();
    bench.task.settled(&watcher).await;
    assert_eq!(bench.records(), 1);
    assert!(bench.waits());
    bench.task.settled(&watcher).await;
    assert_eq!(bench.records(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_it_is_time_to_poll_does_not_make_a_tree_one_that_moved() {
    let (mut bench, watcher) = Bench::begin(polled()).await;
    let reason = UnsureReason::Poll;
    comes_meanwhile(&mut bench, Hint::Unsure { reason });
    bench.save("two");
    bench.task.expect_anything();
    bench.task.settled(&watcher).await;
    assert_eq!(bench.records(), 2);
}

fn push(reply: Reply<PushPlan>) -> Request {
    let push = Push {
        volume: None,
        paths: Vec::new(),
        message: Text::default(),
        dry_run: false,
        thaw: false,
        yes: false,
        wait: false,
    };
    Request::Push {
        push,
        author: Text::cut("alice"),
        reply,
    }
}

/// Begins a push, which goes no further than it can by itself.
async fn begins(pushed: &mut (impl Future<Output = ()> + Unpin)) {
    let begun = std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *pushed).poll(context)));
    assert!(begun.await.is_pending());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_until_git_is_done() {
    let (mut bench, watcher) = Bench::begin(patient()).await;
    let (lock, tree, history) = (bench.lock(), bench.tree(), bench.history.clone());
    File::create(&lock).unwrap();
    bench.save("half of a checkout");
    let (reply, answer) = oneshot::channel();
    let mut pushed = pin!(bench.task.requested(push(reply), &watcher));
    begins(&mut pushed).await;
    save(&tree.join("other.py"), b"the other half");
    fs::remove_file(&lock).unwrap();
    timeout(DEADLINE, pushed).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap().changes.len(), 2);
    assert_eq!(history.releases().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_looks_again_where_the_tree_moved_meanwhile() {
    let (mut bench, watcher) = Bench::begin(patient()).await;
    let (tree, history) = (bench.tree(), bench.history.clone());
    // The first look sees it; that it is there is heard of only then.
    bench.save("half of an edit");
    let (reply, answer) = oneshot::channel();
    let mut pushed = pin!(bench.task.requested(push(reply), &watcher));
    begins(&mut pushed).await;
    save(&tree.join("other.py"), b"the other half");
    timeout(DEADLINE, pushed).await.unwrap();
    assert_eq!(answer.await.unwrap().unwrap().changes.len(), 2);
    assert_eq!(history.releases().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_does_not_wait_for_a_lock_that_was_left_behind() {
    let (mut bench, watcher) = Bench::begin(impatient()).await;
    File::create(bench.lock()).unwrap();
    bench.save("two");
    let (reply, answer) = oneshot::channel();
    let pushed = bench.task.requested(push(reply), &watcher);
    timeout(DEADLINE, pushed).await.unwrap();
    assert!(answer.await.unwrap().is_ok());
    assert_eq!(bench.records(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_lost_hints_count_as_an_overflow() {
    let mut bench = Bench::new(inotify());
    for reason in [
        UnsureReason::Started,
        UnsureReason::Poll,
        UnsureReason::Overflow,
        UnsureReason::Unnamed,
        UnsureReason::QueueFull,
    ] {
        bench.task.hinted(Hint::Unsure { reason });
    }
    assert_eq!(bench.metrics.overflows.get(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_of_a_release_to_come_once_until_it_does() {
    let (mut bench, watcher) = Bench::begin(polled()).await;
    let saved = || Hint::Dirty {
        path: "defs.py".parse().unwrap(),
        kind: DirtyKind::Closed,
    };
    bench.task.warned = None;
    bench.save("two");
    bench.task.hinted(saved());
    let told = bench.task.warned.unwrap();
    // What changes and changes, and is not published, is no news.
    for _ in 0..3 {
        bench.task.settle.begin();
        bench.task.hinted(saved());
        assert_eq!(bench.task.warned, Some(told));
    }
    bench.task.settled(&watcher).await;
    assert_eq!((bench.records(), bench.task.warned), (2, None));
    bench.task.hinted(saved());
    assert!(bench.task.warned.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_persons_publish_agents_are_told_of_nothing_to_come() {
    let (mut bench, _watcher) = Bench::begin(polled()).await;
    bench.task.config.publish = PublishMode::Manual;
    bench.task.warned = None;
    bench.save("two");
    bench.task.hinted(Hint::Dirty {
        path: "defs.py".parse().unwrap(),
        kind: DirtyKind::Closed,
    });
    assert_eq!(bench.task.warned, None);
}
