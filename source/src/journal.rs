//! Lines of the source's journal, put together piece by piece.

use codevol_protocol::evidence::Evidence;
use codevol_protocol::id::ReleaseId;
use codevol_protocol::name::{NodeName, Text, VolumeName};
use codevol_store::journal::Event;

/// A line to be.
#[derive(Debug)]
pub struct Line(Event);

impl Line {
    /// Begins a line about something that codevol itself did.
    #[must_use]
    pub fn new(action: &'static str) -> Self {
        Self(Event {
            actor: Text::cut("codevol"),
            action: action.into(),
            volume: None,
            release: None,
            node: None,
            evidence: None,
            outcome: "done".into(),
            detail: None,
        })
    }

    /// Names who asked for it.
    #[must_use]
    pub fn actor(mut self, actor: &Text) -> Self {
        self.0.actor = actor.clone();
        self
    }

    /// Names the volume.
    #[must_use]
    pub fn volume(mut self, volume: &VolumeName) -> Self {
        self.0.volume = Some(volume.clone());
        self
    }

    /// Names the release.
    #[must_use]
    pub const fn release(mut self, release: Option<ReleaseId>) -> Self {
        self.0.release = release;
        self
    }

    /// Names the node.
    #[must_use]
    pub fn node(mut self, node: &NodeName) -> Self {
        self.0.node = Some(node.clone());
        self
    }

    /// Says on what evidence.
    #[must_use]
    pub const fn evidence(mut self, evidence: Evidence) -> Self {
        self.0.evidence = Some(evidence);
        self
    }

    /// Says how it ended.
    #[must_use]
    pub fn outcome(mut self, outcome: &'static str) -> Self {
        self.0.outcome = outcome.into();
        self
    }

    /// Says why, in words.
    #[must_use]
    pub fn detail(mut self, detail: &str) -> Self {
        self.0.detail = Some(Text::cut(detail));
        self
    }

    /// Says why, in the words of whoever asked, who may have said nothing.
    #[must_use]
    pub fn why(self, message: &Text) -> Self {
        if message.is_empty() {
            return self;
        }
        self.detail(message.as_str())
    }

    /// Returns the event to record.
    #[must_use]
    pub fn event(self) -> Event {
        self.0
    }
}
