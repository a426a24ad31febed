//! What both daemons need of the process: logs, signals, and systemd's notifications.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::error::CommandError;

/// Where a container engine leaves its mark.
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

/// Begins to log: fields to journald under systemd, JSON in a container, text elsewhere. `RUST_LOG`
/// says how much.
pub(crate) fn log(verbose: bool) {
    let level = if verbose { "debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let registry = tracing_subscriber::registry().with(filter);
    let journald = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let container = CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists())
        || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let started = match journald {
        Some(journald) => registry.with(journald).try_init(),
        None if container => registry.with(text.json()).try_init(),
        None => registry
            .with(text.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
    };
    // A second daemon in one process logs where the first one does.
    started.unwrap_or_default();
}

/// Cancels on SIGTERM or SIGINT.
///
/// # Errors
/// When the system does not let signals be handled.
pub(crate) fn stop_on_signal(stopper: CancellationToken) -> Result<(), CommandError> {
    let failed =
        |error: std::io::Error| CommandError::failed("cannot handle signals").because(&error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    spawn(async move {
        // Cancel-safe: both only wait.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tell(&[NotifyState::Stopping]);
        stopper.cancel();
    });
    Ok(())
}

/// Tells systemd that the daemon is ready, and feeds the watchdog as long as the runtime turns.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        spawn(async move {
            let mut beat = tokio::time::interval(limit.max(Duration::from_millis(2)) / 2);
            loop {
                beat.tick().await;
                tell(&[NotifyState::Watchdog]);
            }
        });
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "these live as long as the process and have nothing to finish"
)]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}
