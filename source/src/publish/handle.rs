//! How others speak with the publisher's task.

use std::collections::BTreeSet;

use codevol_protocol::call::delivery::Delivery;
use codevol_protocol::call::{CallFailure, FailureSort, IgnoredPath, Push, PushPlan, ReleaseRef};
use codevol_protocol::collection::Collection;
use codevol_protocol::diff::TreeDiff;
use codevol_protocol::id::{BlobId, ReleaseId};
use codevol_protocol::name::Text;
use codevol_protocol::role::Role;
use codevol_protocol::status::{NotInGit, Skipped, WatchStatus};
use tokio::sync::{mpsc, oneshot, watch};

use super::deliver::Delivered;
use super::mend::Mended;

/// What the publisher's task takes in.
#[derive(Debug)]
pub(super) enum Request {
    Push {
        push: Push,
        author: Text,
        reply: Reply<PushPlan>,
    },
    MayDeliver {
        delivery: Box<Delivery>,
        role: Role,
        reply: Reply<()>,
    },
    Deliver {
        delivered: Box<Delivered>,
        author: Text,
        reply: Reply<PushPlan>,
    },
    Rollback {
        to: Option<ReleaseRef>,
        author: Text,
        message: Text,
        reply: Reply<PushPlan>,
    },
    Diff {
        from: Option<ReleaseRef>,
        reply: Reply<TreeDiff>,
    },
    Ignored {
        why: Option<String>,
        reply: Reply<Vec<IgnoredPath>>,
    },
    Collect {
        dry_run: bool,
        reply: Reply<Collection>,
    },
    Mend {
        release: ReleaseId,
        suspected: BTreeSet<BlobId>,
        reply: Reply<Mended>,
    },
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, CallFailure>>;

/// What is to be seen of the tree and its watcher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceView {
    /// Whether the tree was looked at once.
    pub scanned: bool,
    /// What cannot be carried.
    pub skipped: Vec<Skipped>,
    /// The watcher.
    pub watch: Option<WatchStatus>,
    /// Hot-fixes that are live and not in git.
    pub not_in_git: Vec<NotInGit>,
}

/// Speaks with the publisher's task.
#[derive(Debug, Clone)]
pub struct PublisherHandle {
    pub(super) inbox: mpsc::Sender<Request>,
    pub(super) view: watch::Receiver<SourceView>,
}

impl PublisherHandle {
    /// Returns what is to be seen now.
    #[must_use]
    pub fn view(&self) -> SourceView {
        self.view.borrow().clone()
    }

    /// Publishes, or shows what would be.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub async fn push(&self, push: Push, author: Text) -> Result<PushPlan, CallFailure> {
        self.ask(|reply| Request::Push {
            push,
            author,
            reply,
        })
        .await
    }

    /// Says whether what is announced might be published now.
    ///
    /// # Errors
    /// When it would be refused.
    pub async fn may_deliver(&self, delivery: Delivery, role: Role) -> Result<(), CallFailure> {
        let delivery = Box::new(delivery);
        self.ask(|reply| Request::MayDeliver {
            delivery,
            role,
            reply,
        })
        .await
    }

    /// Publishes what was delivered, or shows what would be.
    ///
    /// # Errors
    /// When it is refused or fails.
    pub async fn deliver(
        &self,
        delivered: Delivered,
        author: Text,
    ) -> Result<PushPlan, CallFailure> {
        let delivered = Box::new(delivered);
        self.ask(|reply| Request::Deliver {
            delivered,
            author,
            reply,
        })
        .await
    }

    /// Publishes an older tree again and freezes the volume.
    ///
    /// # Errors
    /// When there is no such release or it fails.
    pub async fn rollback(
        &self,
        to: Option<ReleaseRef>,
        author: Text,
        message: Text,
    ) -> Result<PushPlan, CallFailure> {
        self.ask(|reply| Request::Rollback {
            to,
            author,
            message,
            reply,
        })
        .await
    }

    /// Returns what is left out; with a path, what becomes of that one.
    ///
    /// # Errors
    /// When the tree cannot be looked at or the path is none.
    pub async fn ignored(&self, why: Option<String>) -> Result<Vec<IgnoredPath>, CallFailure> {
        self.ask(|reply| Request::Ignored { why, reply }).await
    }

    /// Returns how the tree differs from a release, or from the live one.
    ///
    /// # Errors
    /// When there is no such release or it cannot be looked at.
    pub async fn diff(&self, from: Option<ReleaseRef>) -> Result<TreeDiff, CallFailure> {
        self.ask(|reply| Request::Diff { from, reply }).await
    }

    /// Removes what no kept release needs, or says what that would be.
    ///
    /// # Errors
    /// When it cannot be read or removed.
    pub async fn collect(&self, dry_run: bool) -> Result<Collection, CallFailure> {
        self.ask(|reply| Request::Collect { dry_run, reply }).await
    }

    /// Takes from the tree what the store has lost of a release; those that are `suspected` are read
    /// through, of the others it is enough that they are there.
    ///
    /// # Errors
    /// When the store or the tree cannot be read or written.
    pub async fn mend(
        &self,
        release: ReleaseId,
        suspected: BTreeSet<BlobId>,
    ) -> Result<Mended, CallFailure> {
        self.ask(|reply| Request::Mend {
            release,
            suspected,
            reply,
        })
        .await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, CallFailure> {
        let gone = || {
            CallFailure::new(
                FailureSort::Unavailable,
                "stopping",
                "the source is stopping",
            )
        };
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(request(reply))
            .await
            .map_err(|_closed| gone())?;
        answer.await.map_err(|_dropped| gone())?
    }
}
