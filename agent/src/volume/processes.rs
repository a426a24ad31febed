//! Which releases the processes of this host use, as far as /proc shows it: as a working directory, as an
//! open or a mapped file, on a command line. An addition to the lock: what it does not see may be in use
//! all the same, and what it takes for a use only keeps a release for longer.
//!
//! A release is known by the name of its directory alone, since a container sees it under another path.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use codevol_protocol::id::ReleaseId;

use super::held::Held;

/// Where the processes are.
const PROC: &str = "/proc";
/// How long the look may take. What was not looked at by then counts as no use.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// How many open files of one process are looked at.
const FILES_MAX: usize = 4_096;
/// How much is read of what a process has mapped, or of its command line.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Returns those of the releases that some process of this host uses.
pub(crate) fn in_use_by_processes(releases: &[Arc<Held>]) -> BTreeSet<ReleaseId> {
    let names = releases.iter().map(|held| held.dir_name()).collect();
    let used = used(Path::new(PROC), &names);
    let releases = releases.iter();
    let in_use = releases.filter(|held| used.contains(&held.dir_name()));
    in_use.map(|held| held.id()).collect()
}

/// Returns those of the named release directories that a process other than this one uses.
fn used(proc: &Path, names: &BTreeSet<String>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    if names.is_empty() {
        return used;
    }
    let own = std::process::id().to_string();
    let until = Instant::now() + LOOK_MAX;
    for process in fs::read_dir(proc).into_iter().flatten().flatten() {
        let name = process.file_name();
        let is_pid = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        if !is_pid || *name == *own {
            continue;
        }
        if used.len() == names.len() || Instant::now() > until {
            break;
        }
        look(&process.path(), &mut |text: &[u8]| {
            used.extend(mentioned(text, names).map(str::to_owned));
        });
    }
    used
}

/// Shows all that a process uses. What is not shown to this user, or ends meanwhile, is nothing.
fn look(process: &Path, show: &mut dyn FnMut(&[u8])) {
    let mut show_link = |link: &Path| {
        if let Ok(target) = fs::read_link(link) {
            show(target.as_os_str().as_encoded_bytes());
        }
    };
    show_link(&process.join("cwd"));
    let files = fs::read_dir(process.join("fd")).into_iter().flatten();
    for file in files.flatten().take(FILES_MAX) {
        show_link(&file.path());
    }
    for text in ["cmdline", "maps"] {
        let mut bytes = Vec::new();
        let read = File::open(process.join(text))
            .and_then(|file| file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes));
        if read.is_ok() {
            show(&bytes);
        }
    }
}

/// Returns which release directories a text names, by a whole component of a path. It goes through the text
/// once, however many are looked for.
fn mentioned<'t>(text: &'t [u8], names: &BTreeSet<String>) -> impl Iterator<Item = &'t str> {
    let is_end = |byte: &u8| {
        matches!(
            byte,
            b'/' | b'\0' | b'\n' | b' ' | b'"' | b'\'' | b'=' | b':' | b','
        )
    };
    let components = text.split(is_end);
    let may_be = components.filter(|component| component.first().is_some_and(u8::is_ascii_digit));
    let texts = may_be.filter_map(|component| std::str::from_utf8(component).ok());
    texts.filter(|component| names.contains(*component))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const NAMES: [&str; 4] = [
        "000041-3f9ac1d2",
        "000042-00000000",
        "000043-3f9ac1d2",
        "000044-0123abcd",
    ];

    fn names() -> BTreeSet<String> {
        NAMES.map(str::to_owned).into()
    }

    fn wait_for(child: &mut Child, mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < until, "it is not seen");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_working_directory_and_an_open_file_are_uses() {
        let temp = tempfile::tempdir().unwrap();
        let [cwd, open, ..] = NAMES.map(|name| temp.path().join("releases").join(name));
        for folder in [&cwd, &open] {
            fs::create_dir_all(folder.join("below")).unwrap();
        }
        let file = open.join("data");
        File::create(&file).unwrap().write_all(b"x").unwrap();
        let mut child = Command::new("sleep");
        child.arg("60").current_dir(cwd.join("below"));
        child.stdin(Stdio::from(File::open(&file).unwrap()));
        let mut child = child.spawn().unwrap();
        let expected = [NAMES[0], NAMES[1]].map(str::to_owned).into();
        wait_for(&mut child, || used(Path::new(PROC), &names()) == expected);
    }

    #[test]
    fn a_process_that_names_a_release_uses_it() {
        let temp = tempfile::tempdir().unwrap();
        let put = |process: &str, name: &str, bytes: &[u8]| {
            let folder = temp.path().join(process);
            fs::create_dir_all(&folder).unwrap();
            File::create(folder.join(name))
                .unwrap()
                .write_all(bytes)
                .unwrap();
        };
        put(
            "7",
            "cmdline",
            b"python\0-d\0/app/releases/000041-3f9ac1d2\0",
        );
        put(
            "8",
            "maps",
            b"7f00 r-xp 00:01 9  /app/releases/000042-00000000/x.so\n",
        );
        put(
            "9",
            "cmdline",
            b"x\0/app/releases/000043-3f9ac1d2.old\0a000044-0123abcd\0",
        );
        put("self", "cmdline", b"/releases/000044-0123abcd");
        put(
            &std::process::id().to_string(),
            "cmdline",
            b"/releases/000044-0123abcd",
        );
        let expected: BTreeSet<String> = [NAMES[0], NAMES[1]].map(str::to_owned).into();
        assert_eq!(used(temp.path(), &names()), expected);
        assert_eq!(used(temp.path(), &BTreeSet::new()), BTreeSet::new());
    }
}
