//! A network of hosts with addresses of their own, each of which can be cut off.
//!
//! ```text
//!   namespace of the switch:  br0 --port1--+   +--port2-- ...
//!                                          |   |
//!   namespace of each host:   lo         eth0 eth0      10.77.0.1, 10.77.0.2, ...
//! ```
//! A namespace lives as long as the process that was started in it, so nothing outlives the test, and
//! nothing outside is touched.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::process::geteuid;

use crate::place::Place;
use crate::user::PLAIN;
use crate::{Process, not_run, wait_until};

/// The switch that hosts are connected to.
#[derive(Debug)]
pub struct Network {
    namespace: Process,
    hosts: AtomicU8,
}

/// A host's place on the network.
#[derive(Debug)]
pub struct Uplink {
    network: Arc<Network>,
    namespace: Process,
    address: Ipv4Addr,
    port: String,
}

impl Network {
    /// Makes a network without hosts. Nothing where that cannot be done: that was said then.
    ///
    /// # Panics
    /// When it cannot be done and `CI=true`.
    #[must_use]
    pub fn new(place: &Place) -> Option<Arc<Self>> {
        if !geteuid().is_root() {
            not_run("only root makes networks of its own");
            return None;
        }
        for tool in ["ip", "nsenter", "unshare"] {
            let mut version = Command::new(tool);
            version
                .arg("-V")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if version.status().is_err() {
                not_run(&format!("there is no `{tool}`"));
                return None;
            }
        }
        let network = Self {
            namespace: namespace(place, "switch"),
            hosts: AtomicU8::new(0),
        };
        network.ip("link add br0 type bridge");
        network.ip("link set br0 up");
        Some(Arc::new(network))
    }

    fn ip(&self, args: &str) {
        ip(&self.namespace, args);
    }
}

impl Uplink {
    /// Connects one more host.
    pub(crate) fn new(network: &Arc<Network>, place: &Place, name: &str) -> Self {
        let number = network.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        let uplink = Self {
            network: Arc::clone(network),
            namespace: namespace(place, &format!("{name}-net")),
            address: Ipv4Addr::new(10, 77, 0, number),
            port: format!("port{number}"),
        };
        let (port, peer) = (&uplink.port, uplink.namespace.id());
        network.ip(&format!(
            "link add {port} type veth peer name eth0 netns {peer}"
        ));
        network.ip(&format!("link set {port} master br0"));
        let address = uplink.address;
        ip(
            &uplink.namespace,
            &format!("address add {address}/24 dev eth0"),
        );
        ip(&uplink.namespace, "link set eth0 up");
        ip(&uplink.namespace, "link set lo up");
        uplink.reconnect();
        uplink
    }

    /// Returns the host's address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(crate) const fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Takes the host off the network: what it sends and what is sent to it is lost.
    pub fn cut_off(&self) {
        self.network.ip(&format!("link set {} down", self.port));
    }

    /// Ends that.
    pub fn reconnect(&self) {
        self.network.ip(&format!("link set {} up", self.port));
    }

    /// Returns a command that runs a program on this host, as the daemons' user.
    pub(crate) fn command(&self, program: &OsStr) -> Command {
        let mut command = enter(&self.namespace);
        let id = PLAIN.to_string();
        command
            .args(["--setuid", &id, "--setgid", &id, "--"])
            .arg(program);
        command
    }
}

/// Makes a network namespace: a process in it that does nothing.
fn namespace(place: &Place, name: &str) -> Process {
    let mut command = Command::new("unshare");
    command.args(["--net", "sleep", "infinity"]);
    let process = Process::start(name, &place.logs(), command);
    let net = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let ours = net("self");
    wait_until("there is a network namespace", || {
        let its = net(&process.id().to_string());
        its.is_some() && its != ours
    });
    process
}

fn enter(namespace: &Process) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{}/ns/net", namespace.id()));
    command
}

fn ip(namespace: &Process, args: &str) {
    let output = enter(namespace).arg("ip").args(args.split(' ')).output();
    let output = output.expect("`ip` is run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args}: {error}");
}
