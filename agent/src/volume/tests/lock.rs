//! Waiting for a root.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::kit::*;
use crate::volume;

/// Longer than anything takes; only a hang gets there.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_that_waits_for_a_root_keeps_no_other_waiting() {
    let (_disk, root) = Disk::with(&[]);
    let root = Arc::new(Mutex::new(root));
    let (holds, held) = oneshot::channel();
    let (let_go, until) = mpsc::channel::<()>();
    let holder = std::thread::spawn({
        let root = root.clone();
        move || {
            let _root = root.lock().unwrap();
            holds.send(()).unwrap();
            until.recv_timeout(DEADLINE).unwrap();
        }
    });
    held.await.unwrap();
    let (begins, begun) = oneshot::channel();
    let (mut waiting, mut others) = (JoinSet::new(), JoinSet::new());
    waiting.spawn(async move {
        begins.send(()).unwrap();
        drop(volume::lock(&root));
    });
    begun.await.unwrap();
    others.spawn(async {});
    let other = timeout(DEADLINE / 2, others.join_next()).await;
    let_go.send(()).unwrap();
    other.unwrap().unwrap().unwrap();
    waiting.join_next().await.unwrap().unwrap();
    holder.join().unwrap();
}
