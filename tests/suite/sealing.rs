//! A release as an image or a tar: sealed on the source's host and on an agent's, read by others' tools.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use codevol_tests::{Ended, Fleet, Host, not_run};

/// A fleet of one whose r2 has a file of each kind.
fn fleet() -> Fleet {
    let fleet = Fleet::start_with(1, |source| {
        source.set("VOLUME__0__PUBLISH", "manual");
        source.save("pipes/orders.py", "ORDERS = 1\n");
    });
    fleet.source.run(&["push"]).succeeds();
    let tree = fleet.source.tree();
    fleet.source.save("pipes/deep/er/x.py", vec![b'x'; 300_000]);
    fleet.source.save("bin/run", "#!/bin/sh\n");
    fs::set_permissions(tree.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("../pipes/orders.py", tree.join("bin/orders")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    fleet.source.run(&["push", "-m", "each kind"]).succeeds();
    fleet
}

fn output(host: &Host, name: &str) -> PathBuf {
    host.place().folder("sealed").join(name)
}

fn seal(host: &Host, output: &Path, more: &[&str]) -> Ended {
    let output = output.to_str().unwrap();
    host.run(&[&["seal", "r2", "-o", output], more].concat())
}

/// Returns what stands below a folder: each path with what it is.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let what = if stat.is_dir() {
                folders.push(path.clone());
                String::new()
            } else if stat.is_symlink() {
                format!("{:?}", fs::read_link(&path).unwrap())
            } else {
                String::from_utf8(fs::read(&path).unwrap()).unwrap()
            };
            let what = format!("{:o} {what}", stat.mode());
            all.insert(path.strip_prefix(folder).unwrap().to_owned(), what);
        }
    }
    all
}

fn unpack(tar: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut command = Command::new("tar");
    command.arg("-xpf").arg(tar).arg("-C").arg(to);
    Ended::run(command).succeeds();
}

#[test]
fn a_tar_unpacks_to_the_release_directory_of_an_agent() {
    let fleet = fleet();
    let place = fleet.source.place().path();
    let tar = output(&fleet.source, "r2.tar");
    let sealed = seal(&fleet.source, &tar, &[]).exits(0);
    assert!(
        sealed.stdout.contains("of pipes, 6 files (293.2 KiB)"),
        "{sealed}"
    );
    unpack(&tar, &place.join("unpacked"));
    let current = fleet.agents[0].root().join("current");
    let current = current.canonicalize().unwrap();
    assert_eq!(tree(&place.join("unpacked")), tree(&current));

    // The same release gives the same bytes, on the agent's host too.
    let again = output(&fleet.source, "again.tar");
    seal(&fleet.agents[0], &again, &[]).succeeds();
    assert_eq!(fs::read(&tar).unwrap(), fs::read(&again).unwrap());

    let taken = seal(&fleet.source, &tar, &[]).exits(4);
    assert!(taken.stderr.contains("exists already"), "{taken}");
    let inside = fleet.source.tree().join("x.tar");
    let refused = seal(&fleet.source, &inside, &[]).exits(2);
    assert!(
        refused.stderr.contains("lies in the volume's folder"),
        "{refused}"
    );
}

#[test]
fn skopeo_reads_an_image_and_a_base_stays_below() {
    let fleet = fleet();
    let [base, over] = ["base", "over"].map(|name| output(&fleet.source, name));
    let sealed = seal(&fleet.source, &base, &["--prefix", "/base", "--json"]).exits(0);
    let digest = sealed.json()["digest"].clone();
    let again = output(&fleet.source, "again");
    let again = seal(&fleet.source, &again, &["--prefix", "/base", "--json"]).exits(0);
    assert_eq!(again.json()["digest"], digest);
    let on_base = ["--base", base.to_str().unwrap()];
    let sealed = seal(&fleet.source, &over, &on_base).exits(0);
    assert!(
        sealed.stdout.contains("the tree at /opt/dagster/app"),
        "{sealed}"
    );

    let Some(inspected) = inspect(&over) else {
        return;
    };
    let status = fleet.source.status();
    let release = &status.volume()["release"];
    let labels = &inspected["Labels"];
    assert_eq!(labels["io.github.codevol.release.id"], release["id"]);
    assert_eq!(labels["io.github.codevol.release.seq"], "2");
    assert_eq!(labels["io.github.codevol.fleet"], status.0["fleet"]);
    assert_eq!(labels["io.github.codevol.volume"], "pipes");
    assert_eq!(labels["org.opencontainers.image.version"], "r2");
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(inspect(&base).unwrap()["Digest"], digest);

    // Another tool copies it, with every digest checked, and its last layer unpacks to the release.
    let place = fleet.source.place().path();
    let copy = place.join("copy");
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--insecure-policy"]);
    command.arg(format!("oci:{}", over.display()));
    command.arg(format!("dir:{}", copy.display()));
    Ended::run(command).succeeds();
    let last = inspected["Layers"][1].as_str().unwrap();
    unpack(
        &copy.join(last.strip_prefix("sha256:").unwrap()),
        &place.join("unpacked"),
    );
    let app = place.join("unpacked/opt/dagster/app");
    fs::remove_file(app.join(".wh..wh..opq")).unwrap();
    let current = fleet.agents[0].root().join("current");
    assert_eq!(tree(&app), tree(&current.canonicalize().unwrap()));
}

fn inspect(layout: &Path) -> Option<serde_json::Value> {
    let mut command = Command::new("skopeo");
    if command.arg("--version").output().is_err() {
        not_run("there is no `skopeo`");
        return None;
    }
    let mut command = Command::new("skopeo");
    command
        .arg("inspect")
        .arg(format!("oci:{}", layout.display()));
    Some(Ended::run(command).exits(0).json())
}

#[test]
fn what_cannot_be_sealed_leaves_nothing_behind() {
    let fleet = fleet();
    let x = output(&fleet.source, "x");
    let name = x.to_str().unwrap();
    let unknown = fleet.source.run(&["seal", "r9", "-o", name]).exits(4);
    assert!(unknown.stderr.contains("no release r9"), "{unknown}");
    let unheld = fleet.agents[0].run(&["seal", "r9", "-o", name]).exits(4);
    assert!(unheld.stderr.contains("does not hold r9"), "{unheld}");
    let base = seal(&fleet.source, &x, &["--base", "/etc"]).exits(2);
    assert!(base.stderr.contains("it has no `oci-layout`"), "{base}");

    // A blob of it is damaged on the source's disk.
    let orders = blake3::hash(b"ORDERS = 1\n").to_hex();
    let (fan, rest) = orders.split_at(2);
    let blob = format!("source/state/volumes/pipes/blobs/{fan}/{rest}");
    let blob = fleet.source.place().path().join(blob);
    fs::OpenOptions::new()
        .write(true)
        .open(&blob)
        .unwrap()
        .set_len(3)
        .unwrap();
    let damaged = seal(&fleet.source, &x, &[]).exits(1);
    assert!(
        damaged.stderr.contains("`pipes/orders.py` is shorter"),
        "{damaged}"
    );
    assert_eq!(fs::read_dir(x.parent().unwrap()).unwrap().count(), 0);
}

/// A source of another fleet, with an agent, whose tree is published by hand.
fn elsewhere() -> Fleet {
    let fleet = Fleet::start_with(1, |source| source.set("VOLUME__0__PUBLISH", "manual"));
    fleet.source.run(&["push"]).succeeds();
    fleet
}

#[test]
fn another_fleet_takes_in_what_was_sealed() {
    let (from, to) = (fleet(), elsewhere());
    let [tar, image] = ["r2.tar", "r2"].map(|name| output(&from.source, name));
    seal(&from.source, &tar, &[]).succeeds();
    seal(&from.source, &image, &[]).succeeds();
    let current = from.agents[0].root().join("current");
    let sealed = tree(&current.canonicalize().unwrap());
    let (tar, image) = (tar.to_str().unwrap(), image.to_str().unwrap());

    let planned = to.source.run(&["plan", tar]).exits(0);
    assert!(planned.stdout.contains("not published"), "{planned}");
    let pushed = to.source.run(&["push", tar, "-m", "by hand"]).exits(0);
    assert!(pushed.stdout.contains("Release  r2 = r1 + "), "{pushed}");
    let status = to.source.wait_live_everywhere(2);
    let release = &status.volume()["release"];
    let theirs = from.source.status();
    let theirs = &theirs.volume()["release"];
    let id = theirs["id"].as_str().unwrap();
    let message = format!("by hand (sealed r2 {} of pipes)", &id[..8]);
    assert_eq!(release["message"], message, "{status}");
    assert_eq!(
        (&release["origin"], &release["manifest"]),
        (&"push".into(), &theirs["manifest"])
    );
    assert_ne!(release["id"], theirs["id"]);
    let current = to.agents[0].root().join("current").canonicalize().unwrap();
    let mut taken = tree(&current);
    let marker = Path::new(".codevol-release.json");
    taken.insert(marker.to_owned(), sealed[marker].clone());
    assert_eq!(taken, sealed);

    // The image holds the same tree: there is nothing new in it.
    let again = to.source.run(&["push", image]).exits(0);
    assert!(again.stdout.contains("r2"), "{again}");
    assert_eq!(to.source.status().head(), 2);
    // The source's own tree is as it was.
    to.source.run(&["push"]).succeeds();
    assert_eq!(to.source.status().head(), 3);
}

#[test]
fn what_is_hostile_or_would_not_last_is_not_taken_in() {
    let (from, to) = (fleet(), elsewhere());
    let tar = output(&from.source, "r2.tar");
    seal(&from.source, &tar, &[]).succeeds();
    let mut bytes = fs::read(&tar).unwrap();
    let hostile = output(&from.source, "hostile.tar");
    // A symbolic link that leads out of the tree: its header is the only one that names this target.
    let target = b"../pipes/orders.py";
    let at = bytes
        .windows(target.len())
        .position(|w| w == target)
        .unwrap();
    bytes[at..at + target.len()].copy_from_slice(b"../../etc/orders.p");
    let header = at / 512 * 512;
    bytes[header + 148..header + 156].copy_from_slice(b"        ");
    let sum: u32 = bytes[header..header + 512]
        .iter()
        .map(|byte| u32::from(*byte))
        .sum();
    bytes[header + 148..header + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    fs::File::create(&hostile)
        .unwrap()
        .write_all(&bytes)
        .unwrap();
    let refused = to.source.run(&["push", hostile.to_str().unwrap()]).exits(4);
    assert!(refused.stderr.contains("holds `bin/orders`"), "{refused}");
    assert!(refused.stderr.contains("leaves the tree"), "{refused}");
    assert_eq!(to.source.status().head(), 1);

    // A watched volume.
    let watched = Fleet::start_with(0, |source| source.save("pipes/orders.py", "ORDERS = 1\n"));
    let refused = watched
        .source
        .run(&["push", tar.to_str().unwrap()])
        .exits(4);
    assert!(refused.stderr.contains("is watched"), "{refused}");
    assert!(refused.stderr.contains("publish = \"manual\""), "{refused}");
    // In the tree it is a part of the tree.
    let inside = to.source.tree().join("x.tar");
    fs::copy(&tar, &inside).unwrap();
    to.source
        .run(&["push", inside.to_str().unwrap()])
        .succeeds();
    assert!(to.agents[0].root().join("current/x.tar").is_file());
}
