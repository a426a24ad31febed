//! What is said on a link, and when, by a volume's task that a test plays.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codevol_metrics::Usage;
use codevol_peer::{frame, key, listening, within};
use codevol_protocol::codec;
use codevol_protocol::hold::HoldReport;
use codevol_protocol::id::{FleetId, ReleaseId};
use codevol_protocol::limits::CONTROL_FRAME_BYTES_MAX;
use codevol_protocol::message::{Failure, Report, SourceHello, Step, VolumeHello};
use codevol_store::state_dir::StateDir;
use codevol_transport::{Changes, FrameReader};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tempfile::TempDir;

use super::*;
use crate::config::{DependencyPolicy, DriftMode, VolumeConfig};
use crate::dependencies::Checker;
use crate::drift::{DriftParts, DriftTask};
use crate::identity::Enrolment;
use crate::volume::Root;

const SOURCE: u8 = 1;
const OPERATOR: u8 = 2;
/// Longer than any of these tests takes.
const LONG: Duration = Duration::from_secs(3_600);

/// A link that runs, the volume's task at one end of it and the source at the other.
struct Bench {
    source: Endpoint,
    orders: mpsc::Receiver<Order>,
    speaker: Speaker,
    _drifting: DriftTask,
    _running: JoinSet<()>,
    _state: StateDir,
    _temp: TempDir,
}

/// The source's end of a connection.
struct Peer {
    _connection: Connection,
    send: SendStream,
    reader: FrameReader<RecvStream>,
}

fn pipes() -> VolumeName {
    "pipes".parse().unwrap()
}

/// A volume whose tasks a test plays.
fn linked(
    (root, path): (Arc<Mutex<Root>>, PathBuf),
    orders: mpsc::Sender<Order>,
    state: &StateDir,
    (speaker, metrics): (&Speaker, &Arc<AgentMetrics>),
) -> (Linked, DriftTask) {
    // It is not run: what it is told waits in its inbox.
    let (drifting, drift) = DriftTask::new(DriftParts {
        volume: pipes(),
        path: path.clone(),
        root: root.clone(),
        mode: DriftMode::Report,
        scrub: LONG,
        orders: orders.clone(),
        speaker: speaker.clone(),
        journal: state.journal().clone(),
        changes: Changes::default(),
    });
    let volume = VolumeConfig {
        name: pipes(),
        root: path.clone(),
        keep: 3,
        drift: DriftMode::Report,
        scrub: LONG,
        dependencies: DependencyPolicy::Off,
        python: None,
        requirements: Vec::new(),
        code_servers: Vec::new(),
    };
    let receiver = Receiver {
        volume: pipes(),
        root: root.clone(),
        partial: Arc::default(),
        looking: Arc::default(),
        speaker: speaker.clone(),
        journal: state.journal().clone(),
        dependencies: Checker::new(&volume, root, speaker.clone()),
        drift: drift.clone(),
        metrics: metrics.clone(),
        usage: Arc::new(Usage::new(vec![path])),
    };
    let linked = Linked {
        orders,
        receiver,
        drift,
    };
    (linked, drifting)
}

impl Bench {
    fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let (root, state) = (temp.path().join("root"), temp.path().join("state"));
        for dir in [&root, &state] {
            fs::create_dir(dir).unwrap();
        }
        Identity::node_key(&state).unwrap();
        let trust = Trust {
            fleet: FleetId::of(b"fleet"),
            epoch: 1,
            sources: vec![key(SOURCE).public()],
            publishers: Vec::new(),
            revoked: Vec::new(),
        };
        let enrolment = Enrolment {
            fleet: trust.fleet,
            node: "dag-01".parse().unwrap(),
            volume: pipes(),
            source_key: key(SOURCE).public(),
            operator: key(OPERATOR).public(),
            trust: trust.sign(&key(OPERATOR)),
        };
        Identity::enrol(&state, enrolment).unwrap();
        let identity = Identity::open(&state).unwrap();
        let path = root;
        let (root, _) = Root::open(&path, &state, &pipes(), 3).unwrap();
        let root = Arc::new(Mutex::new(root));
        let state = StateDir::open(&state).unwrap();
        let at = "127.0.0.1:0".parse().unwrap();
        let source = Endpoint::server(listening(&key(SOURCE)), at).unwrap();
        let address = source.local_addr().unwrap().to_string();
        let speaker = Speaker::default();
        let (sender, orders) = mpsc::channel(8);
        let metrics = Arc::new(AgentMetrics::default());
        let (linked, drifting) = linked((root, path), sender, &state, (&speaker, &metrics));
        let (view, _seen) = watch::channel(LinkView {
            address: address.clone(),
            state: LinkState::Connecting,
        });
        let link = LinkTask {
            asks: mpsc::channel(1).1,
            rotation: Rotation::default(),
            source: vec![address],
            identity,
            volumes: BTreeMap::from([(pipes(), linked)]),
            speaker: speaker.clone(),
            build: Text::cut("test"),
            journal: state.journal().clone(),
            view,
            metrics,
            changes: Changes::default(),
        };
        let mut running = JoinSet::new();
        running.spawn(link.run(CancellationToken::new()));
        Self {
            source,
            orders,
            speaker,
            _drifting: drifting,
            _running: running,
            _state: state,
            _temp: temp,
        }
    }

    async fn dialled(&self) -> Connection {
        let incoming = within("dial", self.source.accept()).await.unwrap();
        within("handshake", incoming.into_future()).await.unwrap()
    }

    /// Waits until the task is asked how it stands.
    async fn asked(&mut self) -> oneshot::Sender<VolumeHello> {
        match within("order", self.orders.recv()).await.unwrap() {
            Order::Describe(reply) => reply,
            order => panic!("{order:?}"),
        }
    }

    /// Waits until the task is asked whether a person holds the node, and says no.
    async fn says_whether_it_is_held(&mut self) -> HoldReport {
        let order = within("order", self.orders.recv()).await.unwrap();
        let Order::Held(reply) = order else {
            panic!("{order:?}")
        };
        let report = HoldReport {
            volume: pipes(),
            hold: None,
            thawed: None,
        };
        reply.send(report.clone()).unwrap();
        report
    }

    async fn says(&self, message: &FromAgent) {
        within("say", self.speaker.say(message.clone())).await;
    }
}

impl Peer {
    async fn of(connection: Connection) -> Self {
        let (send, receive) = within("control", connection.accept_bi()).await.unwrap();
        Self {
            _connection: connection,
            send,
            reader: FrameReader::new(receive, CONTROL_FRAME_BYTES_MAX),
        }
    }

    async fn hears(&mut self) -> FromAgent {
        within("message", self.reader.read())
            .await
            .unwrap()
            .unwrap()
    }

    async fn greets(&mut self) {
        let hello = FromSource::Hello(SourceHello {
            minor: MINOR,
            build: Text::cut("test"),
            node: "dag-01".parse().unwrap(),
        });
        let bytes = frame(&codec::encode(&hello));
        self.send.write_all(&bytes).await.unwrap();
    }
}

fn nothing_held() -> VolumeHello {
    VolumeHello {
        volume: pipes(),
        newest: None,
        held: Vec::new(),
        active: None,
        partial: None,
    }
}

fn report(what: &str) -> FromAgent {
    FromAgent::Report(Report {
        volume: pipes(),
        release: ReleaseId::of(what.as_bytes()),
        step: Step::StageFailed(Failure::new("test", what.to_owned())),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_before_the_first_word_of_the_source_is_said_behind_hello() {
    let mut bench = Bench::start();
    let connection = bench.dialled().await;
    let (first, second) = (report("while hello is made up"), report("behind hello"));
    let described = bench.asked().await;
    bench.says(&first).await;
    described.send(nothing_held()).unwrap();
    let mut source = Peer::of(connection).await;
    assert!(matches!(source.hears().await, FromAgent::Hello(_)));
    bench.says(&second).await;
    source.greets().await;
    // Whether it is held comes before all that was said meanwhile.
    let held = bench.says_whether_it_is_held().await;
    assert_eq!(source.hears().await, FromAgent::Holds(vec![held]));
    assert_eq!(source.hears().await, first);
    assert_eq!(source.hears().await, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_does_not_say_how_it_stands_ends_the_link_and_is_asked_anew() {
    let mut bench = Bench::start();
    let first = bench.dialled().await;
    // It waits for room to speak, say.
    let never = bench.asked().await;
    let connection = bench.dialled().await;
    within("the end", first.closed()).await;
    drop(never);
    let described = bench.asked().await;
    described.send(nothing_held()).unwrap();
    let mut source = Peer::of(connection).await;
    assert!(matches!(source.hears().await, FromAgent::Hello(_)));
}
