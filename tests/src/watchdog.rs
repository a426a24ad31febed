//! What ends the process groups of a test run that was itself killed, so that nothing outlives it:
//! a shell that reads which groups there are, and kills them when its input ends.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::process::Pid;

static WATCHDOG: OnceLock<Mutex<Watchdog>> = OnceLock::new();

struct Watchdog {
    orders: ChildStdin,
    // Never waited for: it ends after this process.
    _shell: Child,
}

const SCRIPT: &str = r#"
groups=
while read -r order group; do
    rest=
    for each in $groups; do [ "$each" = "$group" ] || rest="$rest $each"; done
    groups=$rest
    [ "$order" = watch ] && groups="$groups $group"
done
for each in $groups; do kill -KILL -- "-$each"; done
"#;

/// Has a group killed when this process is gone.
pub(crate) fn watch(group: Pid) {
    tell("watch", group);
}

/// Leaves a group alone: it was killed, and its number may come to mean another one.
pub(crate) fn leave(group: Pid) {
    tell("leave", group);
}

fn tell(order: &str, group: Pid) {
    let watchdog = WATCHDOG.get_or_init(|| Mutex::new(start()));
    let mut watchdog = watchdog.lock().unwrap_or_else(PoisonError::into_inner);
    writeln!(watchdog.orders, "{order} {group}").expect("the watchdog reads");
}

fn start() -> Watchdog {
    let mut shell = Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell starts");
    Watchdog {
        orders: shell.stdin.take().expect("its input is piped"),
        _shell: shell,
    }
}
