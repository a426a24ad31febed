//! Hot-fixes from elsewhere, written through to a watched tree: with every step that a process may not
//! live to do.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use codevol_protocol::call::CallFailure;
use codevol_protocol::call::delivery::Delivery;
use codevol_protocol::id::BlobId;
use codevol_protocol::manifest::{Entry, Manifest};
use codevol_protocol::release::{Origin, Seq};
use codevol_protocol::role::Role;
use codevol_store::landing::Landing;
use rustix::fs::inotify::{self as events, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::super::Delivered;
use super::super::intent::{Write, WriteIntent};
use super::super::write_through::place;
use super::*;

const FIXED: &[u8] = b"fixed";

fn file(bytes: &[u8]) -> Entry {
    Entry::File {
        blob: BlobId::of(bytes),
        size: bytes.len() as u64,
        executable: false,
    }
}

impl Bench {
    /// A hot-fix of one file, as it was received.
    fn fix(&self, path: &str, force: bool) -> Delivered {
        let entries = vec![(path.parse().unwrap(), file(FIXED))];
        Delivered {
            delivery: Delivery {
                push: Push {
                    volume: None,
                    paths: Vec::new(),
                    message: Text::cut("null ids"),
                    dry_run: false,
                    thaw: false,
                    yes: false,
                    wait: false,
                },
                whole: false,
                force,
                host: Text::cut("laptop"),
                git: None,
                manifest_bytes: 0,
                rules_bytes: 0,
            },
            manifest: Manifest::new(entries).unwrap(),
            rules: Vec::new(),
            landing: self.received(),
            landing_blobs: [BlobId::of(FIXED)].into(),
            role: Role::Operator,
            turn: None,
        }
    }

    fn received(&self) -> Landing {
        let mut batch = self.history.blobs().batch();
        batch.put(&mut &*FIXED).unwrap();
        let mut landing = Landing::default();
        batch.land(&mut landing);
        landing
    }

    async fn deliver(
        &mut self,
        fix: Delivered,
        watcher: &Watcher,
    ) -> Result<PushPlan, CallFailure> {
        let alice = Text::cut("alice");
        self.task.deliver(fix, alice, watcher).await
    }

    fn stands(&self) -> String {
        fs::read_to_string(self.tree().join("defs.py")).unwrap()
    }

    /// The tree and the log hold the hot-fix, once, and nothing of the way to it is left.
    async fn holds_the_fix(&mut self, what: &str, watcher: &Watcher) {
        assert_eq!(self.stands(), "fixed", "{what}");
        assert_eq!(self.records(), 2, "{what}");
        let head = self.history.head().unwrap();
        let record = head.release();
        assert_eq!(record.origin, Origin::HotFix, "{what}");
        assert_eq!(record.author.as_str(), "alice", "{what}");
        assert_eq!(record.host.as_str(), "laptop", "{what}");
        assert!(self.task.intents.pending().unwrap().is_none(), "{what}");
        let names = fs::read_dir(self.tree()).unwrap();
        let left = names.filter(|name| {
            let name = name.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".codevol")
        });
        assert_eq!(left.count(), 0, "{what}");
        // The watcher finds nothing new in it.
        self.looks(watcher).await;
        assert_eq!(self.records(), 2, "{what}");
    }

    /// Looks until nothing moves any more.
    async fn looks(&mut self, watcher: &Watcher) {
        self.task.look_at_everything();
        while self.task.take_in(watcher) || self.waits() {
            self.task.settled(watcher).await;
        }
    }
}

fn intent() -> WriteIntent {
    WriteIntent {
        seq: Seq(2),
        base: None,
        writes: vec![Write {
            path: "defs.py".parse().unwrap(),
            entry: file(FIXED),
            before: Some(file(b"one")),
        }],
        author: Text::cut("alice"),
        host: Text::cut("laptop"),
        message: Text::cut("null ids"),
        git: None,
    }
}

/// How far a process lived to get with a hot-fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lived {
    /// The files are durable.
    Stored,
    /// So is what is to be done.
    Intended,
    /// A file is written beside the tree's own.
    Written,
    /// It is in its place.
    Placed,
    /// The release is in the log.
    Appended,
}

impl Bench {
    async fn lives(&mut self, lived: Lived) {
        let intent = WriteIntent {
            base: self.history.head().map(|head| head.id()),
            ..intent()
        };
        let _created = self.received().commit(None).unwrap();
        if lived >= Lived::Intended {
            self.task.intents.begin(intent.clone()).unwrap();
        }
        if lived == Lived::Written {
            let left = self.tree().join(".codevol-incoming-00112233");
            save(&left, &FIXED[..2]);
        }
        if lived >= Lived::Placed {
            place(&intent.writes, (&self.history, &self.task.scanner)).unwrap();
        }
        if lived >= Lived::Appended {
            self.task.publish_intent(&intent).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_fix_is_in_the_tree_and_in_the_log() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    let fix = bench.fix("defs.py", false);
    let plan = bench.deliver(fix, &watcher).await.unwrap();
    assert_eq!(plan.release.unwrap().seq, Seq(2));
    bench.holds_the_fix("at once", &watcher).await;
}

/// What the system has seen of a hot-fix's way, step by step.
struct Seen {
    inotify: OwnedFd,
    tree: i32,
}

impl Seen {
    fn begin(bench: &Bench) -> Self {
        let inotify = events::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let volume = bench.temp.path().join("volumes/pipes");
        let blob = BlobId::of(FIXED).to_string();
        let kinds = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MODIFY;
        let watch =
            |path: PathBuf| events::add_watch(&inotify, path, kinds | WatchFlags::DELETE).unwrap();
        watch(volume.join("blobs").join(&blob[..2]));
        watch(volume);
        let tree = watch(bench.tree());
        Self { inotify, tree }
    }

    fn steps(&self) -> Vec<&'static str> {
        let blob = BlobId::of(FIXED).to_string();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut steps = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map_or(&b""[..], |name| name.to_bytes());
            let is_gone = event.events().contains(ReadFlags::DELETE);
            steps.extend(match name {
                b"write-through.json" if is_gone => Some("forgotten"),
                b"write-through.json" => Some("intended"),
                b"defs.py" if event.wd() == self.tree => Some("placed"),
                b"wal" => Some("appended"),
                name if name == &blob.as_bytes()[2..] => Some("stored"),
                _ => None,
            });
        }
        steps.dedup();
        steps
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_is_taken_before_the_one_before_it() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    let fix = bench.fix("defs.py", false);
    let seen = Seen::begin(&bench);
    bench.deliver(fix, &watcher).await.unwrap();
    let steps = ["stored", "intended", "placed", "appended", "forgotten"];
    assert_eq!(seen.steps(), steps);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_process_lived_to_do_the_next_one_does_the_rest() {
    for lived in [
        Lived::Intended,
        Lived::Written,
        Lived::Placed,
        Lived::Appended,
    ] {
        let (mut bench, watcher) = Bench::begin(inotify()).await;
        bench.lives(lived).await;
        bench.task.complete_intent().await.unwrap();
        let what = format!("{lived:?}");
        bench.holds_the_fix(&what, &watcher).await;
    }
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    bench.lives(Lived::Stored).await;
    bench.task.complete_intent().await.unwrap();
    bench.looks(&watcher).await;
    assert_eq!((bench.records(), &*bench.stands()), (1, "one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_not_published_is_not_overwritten() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    bench.save("edited");
    let fix = bench.fix("defs.py", false);
    let refused = bench.deliver(fix, &watcher).await.unwrap_err();
    assert_eq!(refused.kind.as_str(), "conflict", "{refused:?}");
    assert!(
        refused.message.as_str().contains("`defs.py`"),
        "{refused:?}"
    );
    assert_eq!((bench.records(), &*bench.stands()), (1, "edited"));
    let fix = bench.fix("defs.py", true);
    bench.deliver(fix, &watcher).await.unwrap();
    bench.holds_the_fix("by force", &watcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_time_between_two_processes_stays() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    bench.lives(Lived::Intended).await;
    bench.save("edited since");
    bench.task.complete_intent().await.unwrap();
    assert_eq!((bench.records(), &*bench.stands()), (2, "edited since"));
    bench.looks(&watcher).await;
    assert_eq!((bench.records(), &*bench.stands()), (3, "edited since"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_that_the_tree_can_hold_are_written() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    save(&bench.tree().join("folder/x.py"), b"x");
    std::os::unix::fs::symlink("defs.py", bench.tree().join("link.py")).unwrap();
    for (path, kind) in [
        ("folder", "conflict"),
        ("link.py", "conflict"),
        (".env", "ignored"),
    ] {
        let fix = bench.fix(path, true);
        let refused = bench.deliver(fix, &watcher).await.unwrap_err();
        assert_eq!(refused.kind.as_str(), kind, "{path}: {refused:?}");
    }
    assert_eq!(bench.records(), 1);
    assert!(bench.task.intents.pending().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_fix_whose_files_are_gone_is_given_up() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    bench.lives(Lived::Intended).await;
    bench.history.blobs().remove(BlobId::of(FIXED)).unwrap();
    bench.task.complete_intent().await.unwrap();
    assert!(bench.task.intents.pending().unwrap().is_none());
    bench.looks(&watcher).await;
    assert_eq!((bench.records(), &*bench.stands()), (1, "one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_released_already_is_put_back_into_the_tree() {
    let (mut bench, watcher) = Bench::begin(inotify()).await;
    bench.save("edited");
    let writes = vec![Write {
        path: "defs.py".parse().unwrap(),
        entry: file(b"one"),
        before: Some(file(b"edited")),
    }];
    bench.task.put_back(writes, Landing::default()).unwrap();
    bench.looks(&watcher).await;
    assert_eq!((bench.records(), &*bench.stands()), (1, "one"));
}
