//! The compose file that is shipped, brought up as its header says, under a name of its own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::Value;

use crate::binary::workspace;
use crate::docker::{answers, docker};
use crate::{Address, Dagster, Ended, FleetStatus, Place, Slot, Source, image, wait_for};

/// Takes all away when its input ends: when the test lets go of it, or was itself killed.
const TEAR_DOWN: &str = r#"
read -r _
docker-compose down --volumes --remove-orphans --timeout 5 && docker image rm "$IMAGE"
"#;

/// A source, an agent and a code server in containers, networks and volumes of their own, which are
/// gone when the test is.
#[derive(Debug)]
pub struct Sidecar {
    /// The host that holds the tree; its daemon runs in a container.
    pub host: Source,
    project: String,
    dagster: String,
    tear_down: Option<Child>,
    // Last: given back when all is gone.
    _slot: Slot,
}

impl Sidecar {
    /// Makes the images and an empty tree. Nothing where there is no Docker or no Dagster: that was
    /// said then.
    #[must_use]
    pub fn prepare() -> Option<Self> {
        if !answers() {
            return None;
        }
        let dagster = image::dagster(&Dagster::find()?);
        let place = Arc::new(Place::new());
        let name = place.path().file_name().expect("a place has a name");
        let project = format!("codevol-tests-{}", name.to_string_lossy().to_lowercase());
        image::codevol(&image_of(&project));
        let mut sidecar = Self {
            _slot: Slot::take(),
            host: Source::new(&place, "tree"),
            project,
            dagster,
            tear_down: None,
        };
        // Into a file: a pipe would break when this process is killed.
        let log = File::create(sidecar.tear_down_log()).expect("a log is opened");
        let mut tear_down = sidecar.command("sh");
        tear_down
            .args(["-c", TEAR_DOWN])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log is opened twice"))
            .stderr(log);
        sidecar.tear_down = Some(tear_down.spawn().expect("a shell starts"));
        Some(sidecar)
    }

    /// Runs each line of the compose file's header, as a person does who reads it.
    #[track_caller]
    pub fn follow_the_header(&self) {
        let file = workspace().join("deploy/compose.yaml");
        let text = fs::read_to_string(file).expect("the compose file is read");
        let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
        // What is exported stands in the environment already, with values that hold here.
        let lines: Vec<_> = lines.filter(|line| !line.starts_with("export ")).collect();
        assert!(lines.len() > 1, "no commands in the header:\n{text}");
        for line in lines {
            let mut shell = self.command("bash");
            shell.args(["-o", "pipefail", "-c", line]);
            let ended = Ended::run(shell);
            assert_eq!(ended.code, Some(0), "{line}\n{ended}");
        }
    }

    /// Runs `docker-compose`.
    #[must_use]
    pub fn compose(&self, args: &[&str]) -> Ended {
        let mut command = self.command("docker-compose");
        command.args(args);
        Ended::run(command)
    }

    /// Runs a program in a service's container.
    #[must_use]
    pub fn exec(&self, service: &str, program: &[&str]) -> Ended {
        self.compose(&[&["exec", "-T", service], program].concat())
    }

    /// Runs `codevol` in the source's container.
    #[must_use]
    pub fn codevol(&self, args: &[&str]) -> Ended {
        self.exec("source", &[&["/codevol"], args].concat())
    }

    /// Waits for a state of the fleet, and returns it.
    #[track_caller]
    pub fn wait(&self, what: &str, holds: impl Fn(&FleetStatus) -> bool) -> FleetStatus {
        wait_for(what, || {
            let status = FleetStatus(self.codevol(&["status", "--json"]).exits(0).json());
            if holds(&status) {
                Ok(status)
            } else {
                Err(status.to_string())
            }
        })
    }

    /// Waits until a service's container is healthy, by its own health check.
    #[track_caller]
    pub fn wait_healthy(&self, service: &str) {
        wait_for(&format!("{service} is healthy"), || {
            let inspected = self.inspect(service);
            let health = &inspected["State"]["Health"];
            if health["Status"] == "healthy" {
                Ok(())
            } else {
                Err(health.to_string())
            }
        });
    }

    /// Returns what the engine knows of a service's container.
    #[must_use]
    pub fn inspect(&self, service: &str) -> Value {
        let id = self.compose(&["ps", "-q", service]).exits(0);
        let inspected = docker(&["inspect", id.stdout.trim_end()]).exits(0);
        inspected.json()[0].take()
    }

    /// Returns where the code server answers, for this host alone.
    #[must_use]
    pub fn code_server(&self) -> Address {
        let inspected = self.inspect("code-server");
        let networks = inspected["NetworkSettings"]["Networks"].as_object();
        let network = networks.and_then(|networks| networks.values().next());
        let address = network.and_then(|network| network["IPAddress"].as_str());
        Address::Tcp(format!("{}:4000", address.expect("it has an address")))
    }

    /// Returns where a further host reaches the source.
    #[must_use]
    pub fn published(&self) -> String {
        let published = ["port", "--protocol=udp", "source", "7443"];
        let published = self.compose(&published).exits(0).stdout;
        let (_, port) = published
            .trim_end()
            .rsplit_once(':')
            .expect("it has a port");
        format!("127.0.0.1:{port}")
    }

    /// Takes all away, and returns what the engine has left of it.
    #[must_use]
    pub fn down(self) -> String {
        let project = self.project.clone();
        drop(self);
        let of_it = format!("label=com.docker.compose.project={project}");
        let lists: [&[&str]; 4] = [
            &["container", "ls", "--all", "--quiet", "--filter", &of_it],
            &["network", "ls", "--quiet", "--filter", &of_it],
            &["volume", "ls", "--quiet", "--filter", &of_it],
            &["image", "ls", "--quiet", &image_of(&project)],
        ];
        lists.map(|list| docker(list).exits(0).stdout).concat()
    }

    fn tear_down_log(&self) -> PathBuf {
        self.host.place().logs().join("tear-down.log")
    }

    /// Returns a command in the compose file's folder, with what the header has a person export.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(workspace().join("deploy"))
            .env("COMPOSE_PROJECT_NAME", &self.project)
            .env("TREE", self.host.tree())
            .env("DAGSTER_IMAGE", &self.dagster)
            .env("IMAGE", image_of(&self.project))
            // One that the engine finds free.
            .env("PORT", "0");
        for theirs in ["ADVERTISE", "COMPOSE_FILE", "COMPOSE_PROFILES"] {
            command.env_remove(theirs);
        }
        command
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if thread::panicking() {
            let logs = self.compose(&["logs", "--no-color", "--tail", "200"]);
            drop(io::stderr().write_all(logs.stdout.as_bytes()));
        }
        let Some(mut tear_down) = self.tear_down.take() else {
            return;
        };
        // This closes its input first.
        let ended = tear_down.wait().expect("it ends");
        if !ended.success() {
            let said = fs::read_to_string(self.tear_down_log()).unwrap_or_default();
            let failed = format!("{} is not all gone:\n{said}\n", self.project);
            assert!(thread::panicking(), "{failed}");
            drop(io::stderr().write_all(failed.as_bytes()));
        }
    }
}

/// Returns the tag of the image under test, which goes with the project.
fn image_of(project: &str) -> String {
    format!("{project}:latest")
}
