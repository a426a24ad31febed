//! Taking hold of a fleet: looking on, freezing. Without code servers.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use codevol_tests::{Fleet, FleetStatus, Host};
use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(60);

/// `status --watch --json` that runs; it ends with the test.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    fn start(host: &Host) -> Self {
        let mut command = host.command();
        let command = command.args(["status", "--watch", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut read = BufReader::new(child.stdout.take().unwrap()).lines();
        let (line, lines) = mpsc::channel();
        thread::spawn(move || read.try_for_each(|read| line.send(read.unwrap())));
        Self { child, lines }
    }

    /// Reads until it tells of such a state.
    fn until(&self, holds: impl Fn(&FleetStatus) -> bool) -> FleetStatus {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap();
            let status = FleetStatus(serde_json::from_str(&line).unwrap());
            if holds(&status) {
                return status;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn whoever_watches_sees_each_change_at_the_source_and_on_an_agents_host() {
    let mut fleet = Fleet::start(2);
    let mut at_source = Watching::start(&fleet.source);
    let mut at_agent = Watching::start(&fleet.agents[0]);
    at_source.until(|status| status.is_live_everywhere(1));
    at_agent.until(|status| status.live() == 1);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    at_source.until(|status| status.is_live_everywhere(2));
    at_agent.until(|status| status.node("dag-01")["release"] == 2);
    fleet.source.run(&["freeze", "-m", "month end"]).succeeds();
    at_source.until(|status| status.volume()["frozen"]["why"] == "month end");
    fleet.agents[1].process().terminate();
    at_source.until(|status| status.state("dag-02") == "offline");
    fleet
        .source
        .run(&["thaw", "-m", "books are closed"])
        .succeeds();
    at_source.until(|status| status.volume()["frozen"].is_null());
    at_source.signal(Signal::INT);
    assert_eq!(at_source.child.wait().unwrap().code(), Some(130));
    let story = fleet.source.run(&["log", "r2"]).exits(0).stdout;
    for said in ["month end", "books are closed"] {
        assert!(story.contains(said), "no `{said}` in {story}");
    }
    fleet.source.process().terminate();
    at_agent.until(|status| status.0["source"]["state"] == "connecting");
    fleet.agents[0].process().terminate();
    let ended = at_agent.child.wait().unwrap();
    assert_eq!(ended.code(), Some(69), "the agent ended");
}
