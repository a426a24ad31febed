//! The queue of hints: bounded, never waited for, and never silent about what it dropped.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, OwnedPermit};

use super::{Hint, UnsureReason};

/// The sending end.
///
/// A place in the queue is kept for one `Unsure`. While it is taken, that `Unsure` stands last in the
/// queue, since nothing is sent before the place is won back; so it covers all that is dropped.
#[derive(Debug)]
pub(super) struct Outbox {
    sender: mpsc::Sender<Hint>,
    spare: Option<OwnedPermit<Hint>>,
}

impl Outbox {
    pub(super) fn new(hints_max: usize) -> (Self, mpsc::Receiver<Hint>) {
        let (sender, receiver) = mpsc::channel(hints_max);
        let spare = None;
        (Self { sender, spare }, receiver)
    }

    /// Sends a hint, or sees to it that the receiver knows that one is missing.
    pub(super) fn send(&mut self, hint: Hint) {
        if self.spare.is_none() {
            self.spare = self.sender.clone().try_reserve_owned().ok();
        }
        if self.spare.is_none() {
            return;
        }
        if let Err(TrySendError::Full(_)) = self.sender.try_send(hint)
            && let Some(spare) = self.spare.take()
        {
            let reason = UnsureReason::QueueFull;
            drop(spare.send(Hint::Unsure { reason }));
        }
    }

    /// Whether the receiver has taken all there was.
    pub(super) fn is_drained(&self) -> bool {
        let kept = usize::from(self.spare.is_some());
        self.sender.capacity() + kept == self.sender.max_capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirty(i: usize) -> Hint {
        Hint::Dirty {
            path: format!("f{i}").parse().unwrap(),
            kind: super::super::DirtyKind::Other,
        }
    }

    const FULL: Hint = Hint::Unsure {
        reason: UnsureReason::QueueFull,
    };

    #[test]
    fn a_full_queue_ends_in_one_unsure() {
        let (mut outbox, mut hints) = Outbox::new(4);
        (0..100).for_each(|i| outbox.send(dirty(i)));
        let sent: Vec<Hint> = std::iter::from_fn(|| hints.try_recv().ok()).collect();
        assert_eq!(sent, [dirty(0), dirty(1), dirty(2), FULL]);
        assert!(!outbox.is_drained() || outbox.spare.is_none());
    }

    #[test]
    fn a_drop_after_a_partly_drained_queue_is_still_followed_by_an_unsure() {
        let (mut outbox, mut hints) = Outbox::new(4);
        for i in 0..1_000 {
            outbox.send(dirty(i));
            if i % 3 == 0 {
                hints.try_recv().unwrap();
            }
        }
        let mut last = None;
        while let Ok(hint) = hints.try_recv() {
            last = Some(hint);
        }
        assert!(last == Some(FULL) || last == Some(dirty(999)), "{last:?}");
        outbox.send(dirty(0));
        assert_eq!(hints.try_recv(), Ok(dirty(0)));
        assert!(outbox.is_drained());
    }
}
