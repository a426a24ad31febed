//! What the daemons tell the service manager that starts them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::Duration;

use codevol_tests::{Agent, Host, Place, Source};
use rustix::process::Signal;

/// Longer than a daemon is silent; only a hang gets there.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long a daemon may be silent by its unit.
const WATCHDOG_US: &str = "1000000";

/// A service manager's end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    /// Makes one, to which a host's daemon is to report.
    fn of(host: &mut Host) -> Self {
        let path = host.place().path().join(format!("{}.notify", host.name()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SILENCE_MAX)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        host.set_env("NOTIFY_SOCKET", path.to_str().unwrap());
        host.set_env("WATCHDOG_USEC", WATCHDOG_US);
        Self(socket)
    }

    /// Waits for a message with this line, and returns all of it. What tells that it lives may come
    /// before it, and nothing else.
    fn hears(&self, wanted: &str) -> String {
        loop {
            let mut bytes = [0; 1_024];
            let length = self.0.recv(&mut bytes).unwrap();
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|line| line == wanted) {
                return message;
            }
            assert_eq!(message.trim_end(), "WATCHDOG=1", "before {wanted}");
        }
    }
}

/// A daemon's life, as its manager hears of it.
fn tells_of_its_life(host: &mut Host) {
    let manager = Manager::of(host);
    host.spawn();
    manager.hears("READY=1");
    // It does not only say so.
    host.run(&["health"]).succeeds();
    manager.hears("WATCHDOG=1");
    host.process().signal(Signal::HUP);
    let reloading = manager.hears("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1");
    assert!(host.process().terminate().success());
    manager.hears("STOPPING=1");
}

#[test]
fn a_source_tells_that_it_is_ready_lives_reloads_and_stops() {
    let mut source = Source::init(&Arc::new(Place::new()));
    tells_of_its_life(&mut source);
}

#[test]
fn an_agent_tells_that_it_is_ready_lives_reloads_and_stops() {
    let mut source = Source::init(&Arc::new(Place::new()));
    source.save("definitions.py", "X = 1\n");
    source.start();
    let mut agent = Agent::join(&source, "dag-01", None);
    tells_of_its_life(&mut agent);
}
