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
    #[cfg_attr(not(test), expect(dead_code, reason = "it ends after this process"))]
    shell: Child,
}

impl Watchdog {
    fn tell(&mut self, order: &str, group: Pid) {
        writeln!(self.orders, "{order} {group}").expect("the watchdog reads");
    }
}

const SCRIPT: &str = r#"
groups=
while read -r order group; do
    rest=
    for each in $groups; do [ "$each" = "$group" ] || rest="$rest $each"; done
    groups=$rest
    [ "$order" = watch ] && groups="$groups $group"
done
for each in $groups; do kill -s KILL -- "-$each"; done
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
    watchdog.tell(order, group);
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
        shell,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait_until;

    fn sleeper() -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0).spawn().unwrap()
    }

    #[test]
    fn the_groups_that_are_watched_die_when_the_orders_end() {
        let (mut watched, mut left) = (sleeper(), sleeper());
        let mut watchdog = start();
        for child in [&watched, &left] {
            watchdog.tell("watch", Pid::from_child(child));
        }
        watchdog.tell("leave", Pid::from_child(&left));
        drop(watchdog.orders);
        wait_until("the watched one is dead", || {
            watched.try_wait().unwrap().is_some()
        });
        let mut shell = watchdog.shell;
        wait_until("the watchdog has ended", || {
            shell.try_wait().unwrap().is_some()
        });
        assert!(left.try_wait().unwrap().is_none(), "the other one lives");
        left.kill().unwrap();
        left.wait().unwrap();
    }
}
