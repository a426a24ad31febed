//! Who waits for a look at the environments.

use std::sync::mpsc;
use std::time::Duration;

use codevol_protocol::message::MINOR;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::tests::volume;
use super::*;

/// Longer than anything takes; only a hang gets there.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_tells_the_source_while_files_are_read_keeps_no_other_waiting() {
    let temp = tempfile::tempdir().unwrap();
    let (config, name) = (volume(&[], None), "pipes".parse().unwrap());
    let (root, _) = Root::open(temp.path(), temp.path(), &name, 1).unwrap();
    let speaker = Speaker::default();
    speaker.greeted(MINOR);
    let checker = Checker::new(&config, Arc::new(Mutex::new(root)), speaker);
    let (holds, held) = oneshot::channel();
    let (let_go, until) = mpsc::channel::<()>();
    let holder = std::thread::spawn({
        let checker = checker.clone();
        move || {
            let _reads = checker.state();
            holds.send(()).unwrap();
            until.recv_timeout(DEADLINE).unwrap();
        }
    });
    held.await.unwrap();
    let (begins, begun) = oneshot::channel();
    let (mut waiting, mut others) = (JoinSet::new(), JoinSet::new());
    waiting.spawn(async move {
        begins.send(()).unwrap();
        checker.tell().await;
    });
    begun.await.unwrap();
    others.spawn(async {});
    let other = timeout(DEADLINE / 2, others.join_next()).await;
    let_go.send(()).unwrap();
    other.unwrap().unwrap().unwrap();
    waiting.join_next().await.unwrap().unwrap();
    holder.join().unwrap();
}
