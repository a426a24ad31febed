//! An enrolled node that keeps to the rules as long as it is told to.

use std::net::SocketAddr;

use codevol_peer::within;
use codevol_protocol::evidence::{Evidence, Verdict};
use codevol_protocol::id::ReleaseId;
use codevol_protocol::key::{PublicKey, SecretKey};
use codevol_protocol::message::{
    AgentHello, FromAgent, FromSource, MINOR, Partial, PushHead, Report, Step, Verification,
    VolumeHello,
};
use codevol_protocol::name::{Text, VolumeName};
use codevol_transport::{Alpn, CloseCode, Dialer, Link, LinkReader, LinkWriter};

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) link: Link,
    pub(crate) writer: LinkWriter,
    pub(crate) reader: LinkReader,
    /// What it was pushed, oldest first.
    pub(crate) held: Vec<ReleaseId>,
    /// What the fleet is to run, as it heard last.
    live: Option<ReleaseId>,
}

pub(crate) fn pipes() -> VolumeName {
    "pipes".parse().unwrap()
}

pub(crate) fn hello(held: Vec<ReleaseId>, partial: Option<Partial>) -> FromAgent {
    FromAgent::Hello(AgentHello {
        minor: MINOR,
        build: Text::cut("hostile"),
        trust_epoch: 1,
        volumes: vec![VolumeHello {
            volume: pipes(),
            newest: None,
            held,
            active: None,
            partial,
        }],
    })
}

pub(crate) fn report(release: ReleaseId, step: Step) -> FromAgent {
    let volume = pipes();
    FromAgent::Report(Report {
        volume,
        release,
        step,
    })
}

pub(crate) fn staged() -> Step {
    Step::Staged {
        received_bytes: 1,
        elapsed_ms: 1,
    }
}

pub(crate) fn verification(verdict: Verdict) -> Verification {
    Verification {
        verdict,
        evidence: Evidence::Activated,
        code_servers: Vec::new(),
        failure: None,
        elapsed_ms: 1,
    }
}

pub(crate) fn verified(verdict: Verdict) -> Step {
    Step::Verified(verification(verdict))
}

impl Member {
    /// Connects and says hello.
    pub(crate) async fn connect(
        at: SocketAddr,
        source: &PublicKey,
        key: &SecretKey,
        held: Vec<ReleaseId>,
    ) -> Self {
        Self::connect_with(at, source, key, (held, None)).await
    }

    pub(crate) async fn connect_with(
        at: SocketAddr,
        source: &PublicKey,
        key: &SecretKey,
        (held, partial): (Vec<ReleaseId>, Option<Partial>),
    ) -> Self {
        let dialer = Dialer::new(key);
        let at = at.to_string();
        let link = dialer.dial(&at, Alpn::Node, source, std::time::Duration::from_secs(20));
        let link = link.await.unwrap();
        let (mut writer, mut reader) = link.open_control().await.unwrap();
        writer.write(&hello(held.clone(), partial)).await.unwrap();
        let greeting = within("greeting", reader.read::<FromSource>()).await;
        let greeting = greeting.unwrap().unwrap();
        assert!(matches!(greeting, FromSource::Hello(_)), "{greeting:?}");
        writer.write(&FromAgent::Holds(Vec::new())).await.unwrap();
        Self {
            link,
            writer,
            reader,
            held,
            live: None,
        }
    }

    pub(crate) async fn say(&mut self, message: &FromAgent) {
        // The source may have closed already.
        drop(self.writer.write(message).await);
    }

    /// Takes the next push, and returns its head and how many frames followed.
    pub(crate) async fn receives(&mut self) -> (PushHead, usize) {
        loop {
            let mut push = within("push", self.link.accept_push()).await.unwrap();
            let received = async {
                let head = push.read::<PushHead>().await.ok()??;
                let mut frames = 0;
                while push.read_bytes().await.ok()?.is_some() {
                    frames += 1;
                }
                Some((head, frames))
            };
            // One that was reset is not the last.
            if let Some(received) = within("push", received).await {
                self.held.push(received.0.release.id());
                return received;
            }
        }
    }

    /// Takes the next push and says that it is staged.
    pub(crate) async fn stages(&mut self) -> ReleaseId {
        let (head, _) = self.receives().await;
        let release = head.release.id();
        self.say(&report(release, staged())).await;
        release
    }

    /// Waits for an order.
    pub(crate) async fn hears(&mut self, is: impl Fn(&FromSource) -> bool) -> FromSource {
        loop {
            let message = within("order", self.reader.read::<FromSource>()).await;
            let message = message.unwrap().unwrap();
            if let FromSource::Live { live, .. } = &message {
                self.live = live.map(|(_, live)| live);
            }
            if is(&message) {
                return message;
            }
        }
    }

    /// Waits until it is told to activate a release, and says that it did, with this verdict.
    pub(crate) async fn activates(&mut self, wanted: ReleaseId, verdict: Verdict) {
        self.hears(
            |order| matches!(order, FromSource::Activate { release, .. } if *release == wanted),
        )
        .await;
        self.reports(wanted, verdict).await;
    }

    /// Says that it activated a release, with this verdict.
    pub(crate) async fn reports(&mut self, release: ReleaseId, verdict: Verdict) {
        self.say(&report(release, Step::Activated { elapsed_us: 1 }))
            .await;
        self.say(&report(release, verified(verdict))).await;
    }

    /// Waits until it has heard that a release is live. Who connects to a fleet without members may hear
    /// that before anything else.
    pub(crate) async fn hears_live(&mut self, wanted: ReleaseId) {
        if self.live == Some(wanted) {
            return;
        }
        let is_it = |order: &FromSource| matches!(order, FromSource::Live { live: Some((_, live)), .. } if *live == wanted);
        self.hears(is_it).await;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.link.close_reason().is_none()
    }

    /// Waits until the source closes the link, and returns its code.
    pub(crate) async fn closed(&self, what: &str) -> CloseCode {
        let reason = within(what, self.link.closed()).await;
        reason
            .code()
            .unwrap_or_else(|| panic!("{what}: {reason:?}"))
    }
}
