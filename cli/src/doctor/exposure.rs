//! Whether Dagster could write to what its agent keeps: it must be another user, or see the volume
//! through a read-only mount. Whoever has the agent's user owns its key and its releases.
//!
//! The user of a code server is that of the socket it listens on, as the kernel tells it. One that
//! listens elsewhere, on another host or in a container's own network, cannot be told.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use codevol_agent::config::{Address, AgentConfig};
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::Check;

const WHAT: &str = "dagster's user";
const TCP_TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
const UNIX_TABLE: &str = "/proc/net/unix";
/// The state of a socket that listens, in the kernel's tables.
const LISTENS: &str = "0A";

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    uid: u32,
    inode: u64,
}

/// Looks at the users of all code servers.
#[must_use]
pub fn look(config: &AgentConfig) -> Vec<Check> {
    let mut checks = Vec::new();
    for volume in &config.volumes {
        let Ok(agent) = fs::metadata(&volume.root).map(|stat| stat.uid()) else {
            continue;
        };
        for server in &volume.code_servers {
            let socket = socket_of(&server.address);
            let sees_read_only = || socket.is_some_and(|socket| is_read_only(socket, &volume.root));
            let server_uid = socket.map(|socket| socket.uid);
            checks.push(judge(&server.address, (server_uid, agent), sees_read_only));
        }
    }
    checks
}

fn judge(
    address: &Address,
    (server, agent): (Option<u32>, u32),
    sees_read_only: impl FnOnce() -> bool,
) -> Check {
    let Some(server) = server else {
        return Check::skipped(
            WHAT,
            format!(
                "whose {address} is cannot be told from here: have it mount the volume read-only"
            ),
        );
    };
    if server != agent && server != 0 {
        let message = format!("{address} runs as uid {server}, and uid {agent} owns the root");
        return Check::ok(WHAT, message);
    }
    if sees_read_only() {
        return Check::ok(
            WHAT,
            format!("{address} sees the root through a read-only mount"),
        );
    }
    let who = if server == agent {
        format!("as the agent's own user, uid {server}")
    } else {
        "as root".to_owned()
    };
    Check::warning(
        WHAT,
        format!("{address} runs {who}, and no read-only mount keeps it from the releases"),
    )
    .mend("run it as a user of its own, or mount the volume read-only for it")
}

/// Returns the socket that a code server on this host listens on.
fn socket_of(address: &Address) -> Option<Socket> {
    match address {
        Address::Unix(path) => {
            let uid = fs::metadata(path).ok()?.uid();
            let table = fs::read_to_string(UNIX_TABLE).unwrap_or_default();
            let inode = unix_inode(&table, path.to_str()?).unwrap_or_default();
            Some(Socket { uid, inode })
        }
        Address::Tcp(host_port) => {
            let (host, port) = host_port.rsplit_once(':')?;
            let is_here = matches!(host, "localhost" | "[::1]" | "0.0.0.0" | "[::]")
                || host.starts_with("127.");
            let port: u16 = port.parse().ok().filter(|_| is_here)?;
            TCP_TABLES.iter().find_map(|table| {
                let table = fs::read_to_string(table).ok()?;
                tcp_listener(&table, port)
            })
        }
    }
}

/// Finds a port among the sockets that listen: `sl local remote st queues timer retransmits uid
/// timeout inode`.
fn tcp_listener(table: &str, port: u16) -> Option<Socket> {
    let port = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, _, _, _, uid, _, inode, ..] = fields.as_slice() else {
            return None;
        };
        (local.ends_with(&port) && *state == LISTENS).then_some(())?;
        Some(Socket {
            uid: uid.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    })
}

/// Finds a path among the unix sockets: `num refcount protocol flags type st inode path`.
fn unix_inode(table: &str, path: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let rest = line.strip_suffix(path)?;
        rest.split_whitespace().nth(6)?.parse().ok()
    })
}

/// Whether the process behind a socket sees the root, the same one, through a read-only mount. That it
/// cannot be told is a no.
fn is_read_only(socket: Socket, root: &Path) -> bool {
    let Some(seen) = process_of(socket).map(|process| seen_by(&process, root)) else {
        return false;
    };
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let is_same =
        fs::metadata(root).is_ok_and(|ours| fs::metadata(&seen).is_ok_and(|its| same(&ours, &its)));
    is_same && statvfs(&seen).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn seen_by(process: &Path, root: &Path) -> PathBuf {
    let below = root.strip_prefix("/").unwrap_or(root);
    process.join("root").join(below)
}

/// Returns the folder below `/proc` of the process that has a socket, as far as this user may look.
fn process_of(socket: Socket) -> Option<PathBuf> {
    let wanted = PathBuf::from(format!("socket:[{}]", socket.inode));
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let is_number = |name: &OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let numbered = processes.filter(|entry| is_number(&entry.file_name()));
    let mut processes = numbered.map(|entry| entry.path());
    processes.find(|process| {
        let descriptors = fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut targets = descriptors.filter_map(|fd| fs::read_link(fd.path()).ok());
        targets.any(|target| target == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0FA0 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 11111 1 0000000000000000 20 4 30 10 -1
   1: 0100007F:0FA0 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 22222 1 0000000000000000 100 0 0 10 0
   2: 00000000000000000000000001000000:0FA1 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 33333 1 0000000000000000 100 0 0 10 0
";

    #[test]
    fn the_kernels_tables_tell_whose_a_listening_socket_is() {
        let of_port = |port| tcp_listener(TABLE, port);
        let (uid, inode) = (998, 22222);
        assert_eq!(of_port(4000), Some(Socket { uid, inode }));
        let (uid, inode) = (0, 33333);
        assert_eq!(of_port(4001), Some(Socket { uid, inode }));
        assert_eq!(of_port(4002), None);
        let table = "Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 44444 /run/x.sock
0000000000000000: 00000003 00000000 00000000 0001 03 55555
";
        assert_eq!(unix_inode(table, "/run/x.sock"), Some(44444));
        assert_eq!(unix_inode(table, "/run/y.sock"), None);
    }

    #[test]
    fn another_user_or_a_read_only_mount_is_needed() {
        let address: Address = "127.0.0.1:4000".parse().unwrap();
        let state = |server, read_only| judge(&address, (server, 5), || read_only).state;
        assert_eq!(state(Some(7), false), State::Ok);
        assert_eq!(state(Some(5), true), State::Ok);
        assert_eq!(state(Some(5), false), State::Warning);
        assert_eq!(state(Some(0), false), State::Warning);
        assert_eq!(state(None, false), State::Skipped);
    }

    #[test]
    fn this_process_is_found_by_its_socket_and_sees_its_root_as_it_is() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(socket.local_addr().unwrap().to_string());
        let found = socket_of(&address).unwrap();
        assert_eq!(found.uid, rustix::process::geteuid().as_raw());
        let process = process_of(found).unwrap();
        let own = PathBuf::from(format!("/proc/{}", std::process::id()));
        assert_eq!(process, own);
        let temp = tempfile::tempdir().unwrap();
        assert!(!is_read_only(found, temp.path()));
        assert!(fs::metadata(seen_by(&process, temp.path())).is_ok());
    }
}
