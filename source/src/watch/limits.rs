//! What the machine can watch: file systems without events, and the kernel's limits.

use std::fs;
use std::path::Path;

use rustix::io::Errno;

const NO_EVENTS: [(u64, &str); 11] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x794c_7630, "overlayfs"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
];
/// The kernel's own default on machines with memory to spare.
const WATCHES_ADVISED_MIN: u64 = 524_288;
const INSTANCES_ADVISED_MIN: u64 = 1_024;

/// Returns the kind of a tree's file system, where it does not report every change.
pub(super) fn without_events(root: &Path) -> Option<&'static str> {
    kind_of(u64::try_from(rustix::fs::statfs(root).ok()?.f_type).ok()?)
}

fn kind_of(magic: u64) -> Option<&'static str> {
    let known = NO_EVENTS
        .iter()
        .find(|(known, _)| *known == magic & 0xffff_ffff);
    known.map(|(_, kind)| *kind)
}

/// Returns the sentence that mends a watch limit, where the error is one.
pub(super) fn advice(error: Errno) -> Option<String> {
    let (name, min) = match error {
        Errno::NOSPC => ("max_user_watches", WATCHES_ADVISED_MIN),
        Errno::MFILE => ("max_user_instances", INSTANCES_ADVISED_MIN),
        _ => return None,
    };
    let now: Option<u64> = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"))
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let wanted = now.map_or(min, |now| now.saturating_mul(2).max(min));
    Some(format!(
        "this user's inotify limit is reached; raise it with `sysctl fs.inotify.{name}={wanted}`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_overlay_file_systems_report_no_events() {
        for (magic, kind) in [
            (0x6969, Some("NFS")),
            (0xff53_4d42, Some("CIFS")),
            // As a 32-bit machine sign-extends it.
            (0xffff_ffff_ff53_4d42, Some("CIFS")),
            (0x6573_5546, Some("FUSE")),
            (0x794c_7630, Some("overlayfs")),
            (0xef53, None),
            (0x0102_1994, None),
        ] {
            assert_eq!(kind_of(magic), kind, "{magic:#x}");
        }
    }

    #[test]
    fn a_reached_limit_is_a_sentence_with_the_sysctl_that_mends_it() {
        let watches = advice(Errno::NOSPC).unwrap();
        assert!(watches.contains("`sysctl fs.inotify.max_user_watches="));
        let instances = advice(Errno::MFILE).unwrap();
        assert!(instances.contains("`sysctl fs.inotify.max_user_instances="));
        assert_eq!(advice(Errno::ACCESS), None);
    }
}
