//! A task whose state cannot be saved.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::dependency::{DependencyReport, Environment, Found, Package, PackageDrift};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::message::{Active, FromAgent, FromSource, MINOR, Report, Step, VolumeHello};
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_protocol::release::{Seq, UnixMillis};
use codevol_protocol::rollout::{Frozen, Intent, Policy};
use codevol_protocol::status::EventKind;
use codevol_store::dir::Dir;
use codevol_store::journal::Journal;
use codevol_store::landing::Landing;
use codevol_store::recorder::Recorder;
use codevol_store::register::Register;
use codevol_transport::Changes;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::handle::{FleetHandle, Lost, SessionCommand, SessionId};
use super::task::{FleetParts, FleetTask};
use crate::bus::Notice;
use crate::history::tests::signed;
use crate::history::{History, Published};
use crate::metrics::VolumeMetrics;

const DEADLINE: Duration = Duration::from_secs(20);
const SESSION: SessionId = SessionId(1);

/// A task with one node, to which r1 is being pushed.
struct Bench {
    temp: TempDir,
    fleet: FleetHandle,
    release: Arc<Published>,
    orders: mpsc::Receiver<SessionCommand>,
    failed: CancellationToken,
    _tasks: JoinSet<()>,
}

fn volume() -> VolumeName {
    "pipes".parse().unwrap()
}

fn node() -> NodeName {
    "dag-01".parse().unwrap()
}

fn empty() -> Manifest {
    Manifest::new(Vec::new()).unwrap()
}

fn publish(history: &History) -> Arc<Published> {
    let (signed, manifest) = (signed(1, None, &empty()), Arc::new(empty()));
    let appended = history.append(&signed, &manifest, b"", Landing::default());
    appended.unwrap()
}

impl Bench {
    async fn begin() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        let history = Arc::new(History::open(&dir).unwrap());
        let failed = CancellationToken::new();
        let journal = Journal::open(&dir.ensure_dir("journal", 0o700).unwrap()).unwrap();
        let (task, fleet) = FleetTask::new(FleetParts {
            volume: volume(),
            history: history.clone(),
            kept: Register::create(&dir, "rollout", "test/1", Default::default()).unwrap(),
            journal: Recorder::start(journal).unwrap(),
            enrolled: BTreeSet::from([node()]),
            policy: Policy::default(),
            failed: failed.clone(),
            metrics: Arc::new(VolumeMetrics::new(Arc::default(), temp.path().to_owned())),
            changes: Changes::default(),
        });
        let mut tasks = JoinSet::new();
        // Sessions go on while the daemon stops: what is ordered is seen here.
        tasks.spawn(task.run(CancellationToken::new()));
        let (outbox, orders) = mpsc::channel(64);
        let hello = VolumeHello {
            volume: volume(),
            newest: None,
            held: Vec::new(),
            active: None,
            partial: None,
        };
        fleet
            .online(node(), (SESSION, MINOR), (hello, None), outbox)
            .await;
        let release = publish(&history);
        fleet.published(&release, Intent::Wanted).await;
        let mut bench = Self {
            temp,
            fleet,
            release,
            orders,
            failed,
            _tasks: tasks,
        };
        let push = |order: &SessionCommand| matches!(order, SessionCommand::Push { .. });
        bench.hears(push).await;
        // It answers when it has saved that the rollout began.
        bench.fleet.status().await.unwrap();
        bench
    }

    async fn hears(&mut self, wanted: impl Fn(&SessionCommand) -> bool) {
        let heard = async { while !wanted(&self.orders.recv().await.unwrap()) {} };
        timeout(DEADLINE, heard).await.unwrap();
    }

    /// All that is ordered until the task has ended.
    async fn last_orders(&mut self) -> Vec<SessionCommand> {
        timeout(DEADLINE, self.failed.cancelled()).await.unwrap();
        let mut orders = Vec::new();
        let all = async {
            while let Some(order) = self.orders.recv().await {
                orders.push(order);
            }
        };
        timeout(DEADLINE, all).await.unwrap();
        orders
    }

    async fn stages(&self) {
        let report = Report {
            volume: volume(),
            release: self.release.id(),
            step: Step::Staged {
                received_bytes: 1,
                elapsed_ms: 1,
            },
        };
        let message = FromAgent::Report(report);
        self.fleet.heard(node(), SESSION, message).await;
    }

    /// What the node knows of r2, which the log lacks.
    fn lost(&self) -> Lost {
        let record = signed(2, Some(self.release.id()), &empty());
        Lost {
            newest: Seq(2),
            records: vec![record],
        }
    }

    /// The node says what it lacks of the release's packages.
    async fn lacks(&self, package: &str) {
        let report = DependencyReport {
            release: self.release.id(),
            refused: false,
            found: Found {
                packages: vec![PackageDrift {
                    name: package.parse().unwrap(),
                    wanted: Text::cut("==1"),
                    installed: None,
                    python: Text::cut("/bin/python"),
                    file: Text::cut("requirements.txt"),
                    line: Some(1),
                }],
                ..Found::default()
            },
        };
        let volume = volume();
        let message = FromAgent::Dependencies { volume, report };
        self.fleet.heard(node(), SESSION, message).await;
    }

    /// No file can take the place of a directory, whoever the user is.
    fn break_register(&self) {
        let register = self.temp.path().join("rollout");
        fs::remove_file(&register).unwrap();
        fs::create_dir(&register).unwrap();
    }
}

fn activates(order: &SessionCommand, wanted: ReleaseId) -> bool {
    matches!(order, SessionCommand::Say(FromSource::Activate { release, .. }) if *release == wanted)
}

fn frozen() -> Frozen {
    Frozen {
        why: Text::cut("maintenance"),
        by: Text::cut("alice"),
        at: UnixMillis(0),
        by_rollback: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_activated() {
    let mut bench = Bench::begin().await;
    bench.stages().await;
    let release = bench.release.id();
    bench.hears(|order| activates(order, release)).await;
    assert!(!bench.failed.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_saved_is_not_activated() {
    let mut bench = Bench::begin().await;
    bench.break_register();
    bench.stages().await;
    let orders = bench.last_orders().await;
    assert!(orders.is_empty(), "{orders:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_or_a_thaw_that_is_not_saved_is_not_confirmed() {
    let mut bench = Bench::begin().await;
    bench.fleet.freeze(frozen()).await.unwrap();
    bench.break_register();
    assert!(
        bench
            .fleet
            .thaw(Text::cut("alice"), Text::default())
            .await
            .is_none()
    );
    bench.last_orders().await;

    let mut bench = Bench::begin().await;
    bench.break_register();
    assert!(bench.fleet.freeze(frozen()).await.is_none());
    bench.last_orders().await;
    // Nor is it shown.
    assert!(bench.fleet.view().frozen.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_lacks_is_taken_in_before_the_node_is_led_on() {
    let bench = Bench::begin().await;
    let lost = bench.lost();
    let newest = lost.records[0].id();
    bench.fleet.behind(node(), lost).await.unwrap();
    let status = bench.fleet.status().await.unwrap();
    assert_eq!((status.head, status.live), (Some(Seq(2)), None));
    let (outbox, _orders) = mpsc::channel(64);
    let active = Active {
        release: newest,
        verification: None,
    };
    let hello = VolumeHello {
        volume: volume(),
        newest: None,
        held: vec![newest],
        active: Some(active),
        partial: None,
    };
    bench
        .fleet
        .online(node(), (SessionId(2), MINOR), (hello, None), outbox)
        .await;
    let status = bench.fleet.status().await.unwrap();
    assert_eq!(status.live, Some(Seq(2)));
    assert!(!bench.failed.is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_disk_takes_no_record_the_node_is_led_nowhere() {
    let mut bench = Bench::begin().await;
    // What was removed takes no file, whoever the user is.
    fs::remove_dir_all(bench.temp.path().join("log")).unwrap();
    assert!(bench.fleet.behind(node(), bench.lost()).await.is_none());
    let orders = bench.last_orders().await;
    let leads = |order: &SessionCommand| !matches!(order, SessionCommand::Cancel { .. });
    assert!(!orders.iter().any(leads), "{orders:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_lacks_is_warned_of_once_and_shown_until_it_connects_anew() {
    let bench = Bench::begin().await;
    let mut notices = bench.fleet.bus().follow();
    bench.lacks("polars").await;
    bench.lacks("polars").await;
    let environment = Environment {
        python: Text::cut("/bin/python"),
        version: Text::cut("3.11.7"),
        packages: vec![Package {
            name: "dagster".parse().unwrap(),
            version: Text::cut("1.11.2"),
        }],
    };
    let message = FromAgent::Environments {
        volume: volume(),
        environments: vec![environment],
    };
    bench.fleet.heard(node(), SESSION, message).await;
    let status = bench.fleet.status().await.unwrap();
    let shown = status.nodes[0].dependencies.as_ref().unwrap();
    assert_eq!(shown.packages[0].name.as_str(), "polars");
    assert_eq!(shown.release, Some(Seq(1)));
    let environment = &status.nodes[0].environments[0];
    assert_eq!(environment.dagster, Some(Text::cut("1.11.2")));

    let mut warned = Vec::new();
    while let Ok(notice) = notices.try_recv() {
        if let Notice::Event(event) = notice
            && event.event == EventKind::NodeWarned
        {
            warned.extend(event.error);
        }
    }
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!(warned[0].kind.as_str(), "dependencies");

    let (outbox, _orders) = mpsc::channel(64);
    let hello = VolumeHello {
        volume: volume(),
        newest: None,
        held: Vec::new(),
        active: None,
        partial: None,
    };
    bench
        .fleet
        .online(node(), (SessionId(2), MINOR), (hello, None), outbox)
        .await;
    let status = bench.fleet.status().await.unwrap();
    assert!(status.nodes[0].dependencies.is_none());
    assert!(status.nodes[0].environments.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_hear_that_a_release_may_come() {
    let mut bench = Bench::begin().await;
    bench.fleet.soon();
    let soon = FromSource::Soon { volume: volume() };
    let said = |order: &SessionCommand| matches!(order, SessionCommand::Say(said) if *said == soon);
    bench.hears(said).await;
}
