//! Telling a caller how everything stands, and again each time that it has changed. The daemon's tasks
//! say when something may have; nobody looks before.

use std::sync::Arc;
use std::time::Duration;

use codevol_protocol::call::Reply;
use codevol_protocol::status::Status;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::control::ReplyWriter;
use crate::frame::FrameError;

/// How long changes are gathered into one before a caller hears of them.
const GATHERED: Duration = Duration::from_millis(100);
/// How long a caller hears nothing where nothing changes. It tells who has hung up, and it tells the
/// caller that the daemon lives.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Says that something of a daemon's state may have changed.
#[derive(Debug, Clone, Default)]
pub struct Changes(Arc<watch::Sender<()>>);

impl Changes {
    /// Tells whoever watches.
    pub fn tell(&self) {
        self.0.send_replace(());
    }

    /// Begins to watch for a caller that was told nothing yet.
    #[must_use]
    pub fn follow(&self) -> Following {
        Following {
            changes: self.0.subscribe(),
            told: None,
        }
    }
}

/// What one caller was told, and what has happened since.
#[derive(Debug)]
pub struct Following {
    changes: watch::Receiver<()>,
    told: Option<Status>,
}

impl Following {
    /// Tells the caller how everything stands, where that is news to it, and waits until something may
    /// have changed.
    ///
    /// # Errors
    /// When the caller has hung up.
    pub async fn tell(
        &mut self,
        status: Status,
        writer: &mut ReplyWriter,
    ) -> Result<(), FrameError> {
        if let Some(news) = self.news(status) {
            writer.write(&news).await?;
        }
        while !self.has_changed().await {
            writer.write(&Reply::Unchanged).await?;
        }
        Ok(())
    }

    /// Returns what the caller is to be told of how everything stands now; nothing where it was told
    /// the same already.
    fn news(&mut self, status: Status) -> Option<Reply> {
        let is_told = |told: &Status| told.says_the_same(&status);
        if self.told.as_ref().is_some_and(is_told) {
            return None;
        }
        self.told = Some(status.clone());
        Some(Reply::Status(Box::new(status)))
    }

    /// Waits until something may have changed since it last returned yes; says no where nothing has
    /// for so long that the caller is to hear of it. Cancel-safe.
    async fn has_changed(&mut self) -> bool {
        // A sender that is gone went with its daemon, and so does whoever asks.
        if timeout(SILENCE_MAX, self.changes.changed()).await.is_err() {
            return false;
        }
        sleep(GATHERED).await;
        // What changes from here on is seen by the next look.
        self.changes.mark_unchanged();
        true
    }
}

#[cfg(test)]
mod tests {
    use codevol_protocol::id::FleetId;
    use codevol_protocol::name::Text;
    use tokio::time::Instant;

    use super::*;

    fn status(listen: u32) -> Status {
        Status {
            schema: Text::default(),
            fleet: FleetId::of(b"fleet"),
            listen: Some(Text::cut(listen.to_string())),
            source: None,
            volumes: Vec::new(),
        }
    }

    #[test]
    fn each_state_is_told_once() {
        let mut following = Changes::default().follow();
        let told = [1, 1, 2, 2, 1].map(|listen| following.news(status(listen)).is_some());
        assert_eq!(told, [true, false, true, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_come_together_are_one_and_none_is_lost() {
        let changes = Changes::default();
        let mut following = changes.follow();
        changes.tell();
        changes.tell();
        assert!(following.has_changed().await);
        let begun = Instant::now();
        assert!(!following.has_changed().await, "nothing has changed since");
        assert_eq!(begun.elapsed(), SILENCE_MAX);
        changes.tell();
        assert!(following.has_changed().await);
    }
}
