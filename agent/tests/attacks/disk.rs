//! Disks that are full, broken or gone read-only, and a system that has no descriptor left: the live
//! release stays, the source is told what kind of fault it is, nothing of the attempt is left, and
//! once the cause is gone it works again.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use codevol_peer::{frame, within};
use codevol_protocol::id::BlobId;
use codevol_protocol::limits::FILE_BYTES_MAX;
use codevol_protocol::message::{Failure, Step};
use codevol_tests::{Failing, apart, mount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::craft::{Crafted, RawEntry, craft, push_of_entries};
use crate::scene::{Answer, Scene, files, files_at};

/// An agent on which r1 is live, and whose root is a file system of this kind.
async fn scene_on(folder: &Path, options: &str) -> Scene {
    let temp = tempfile::tempdir_in(folder).unwrap();
    let root = temp.path().join("root");
    fs::create_dir(&root).unwrap();
    mount(&["-t", "tmpfs", "-o", options, "tmpfs"], &root);
    Scene::begin_with(files("one"), temp).await
}

/// What an attempt to stage a release may leave nowhere.
fn leftovers(scene: &Scene, release: &Crafted) -> Vec<PathBuf> {
    let own = scene.node.root().join(".codevol");
    let id = release.id().to_string();
    let places = ["incoming", "records"].map(|place| own.join(place).join(&id));
    let trash = fs::read_dir(own.join("trash")).unwrap();
    let trash = trash.map(|entry| entry.unwrap().path());
    places
        .into_iter()
        .filter(|path| path.exists())
        .chain(trash)
        .collect()
}

/// Waits until nothing is left of an attempt; the trash of an earlier one may still be emptied.
async fn leaves_nothing(scene: &Scene, release: &Crafted, what: &str) {
    let gone = async {
        while !leftovers(scene, release).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    within(what, gone).await;
}

/// The release was not staged; the source was told so, and the journal.
async fn is_told(scene: &mut Scene, next: &Crafted, what: &str, kind: &str) -> Failure {
    let Answer::Failed(failure) = scene.answer(next.id(), what).await else {
        panic!("{what}: it was staged");
    };
    assert_eq!(failure.kind.as_str(), kind, "{what}: {failure:?}");
    assert!(failure.retryable, "{what}: {failure:?}");
    assert!(!scene.node.holds(next), "{what}");
    scene.is_unharmed(what).await;
    failure
}

/// The cause is gone: the same release goes live.
async fn works_again(scene: &mut Scene, next: Crafted, what: &str) {
    scene.link.push(&next.push(Some(&scene.live))).await;
    let id = next.id();
    scene.goes_live(next.clone(), what).await;
    scene.is_unharmed(what).await;
    let incoming = scene
        .node
        .root()
        .join(".codevol/incoming")
        .join(id.to_string());
    let gone = async {
        while incoming.exists() {
            tokio::task::yield_now().await;
        }
    };
    within(what, gone).await;
}

/// Bytes that no compression makes fewer.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_before_anything_is_written() {
    let Some(folder) = apart() else { return };
    let mut scene = scene_on(&folder, "size=16m").await;
    let large = |n: u8| RawEntry::File {
        blob: BlobId::of(&[n]),
        size: FILE_BYTES_MAX,
        executable: false,
    };
    let push = push_of_entries(2, &[("a", large(1)), ("b", large(2))]);
    let id = push.head.release.id().to_string();
    let failure = scene.refuses("32 GiB", &push).await;
    assert_eq!(failure.kind.as_str(), "no-space", "{failure:?}");
    assert!(failure.retryable);
    for place in ["incoming", "records"] {
        let left = scene.node.root().join(".codevol").join(place).join(&id);
        assert!(!left.exists(), "{left:?}");
    }
}

fn fill(filler: &Path) {
    let mut file = File::create(filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_in_the_middle_of_a_push() {
    let Some(folder) = apart() else { return };
    let mut scene = scene_on(&folder, "size=16m").await;
    let bytes = noise(3 << 20);
    let files: [(&str, &[u8]); 2] = [("a", &bytes[1..]), ("defs.py", &bytes)];
    let next = craft(2, &files);
    let frames = next.push(Some(&scene.live)).frames();
    let (last, first) = frames.split_last().unwrap();
    let first: Vec<u8> = first.iter().flat_map(|bytes| frame(bytes)).collect();
    let mut open = scene.link.push_open(&first).await;
    let own = scene.node.root().join(".codevol");
    let a = own.join(format!(
        "incoming/{}/blobs/{}",
        next.id(),
        BlobId::of(&bytes[1..])
    ));
    let arrived = async {
        while fs::metadata(&a).map_or(0, |stat| stat.len()) < (3 << 20) - 1 {
            tokio::task::yield_now().await;
        }
    };
    within("the first of the two files", arrived).await;
    let filler = scene.node.root().join("filler");
    fill(&filler);
    open.write_all(&frame(last)).await.unwrap();
    open.finish().unwrap();
    is_told(&mut scene, &next, "full", "no-space").await;
    scene.noted("full", "no-space", 1).await;
    assert!(
        leftovers(&scene, &next).is_empty(),
        "{:?}",
        leftovers(&scene, &next)
    );
    fs::remove_file(&filler).unwrap();
    works_again(&mut scene, next, "room again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_an_inode_left() {
    let Some(folder) = apart() else { return };
    let mut scene = scene_on(&folder, "nr_inodes=100").await;
    let names: Vec<String> = (0..100).map(|n| format!("{n:03}.py")).collect();
    let many: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), name.as_bytes()))
        .collect();
    let next = craft(2, &many);
    scene.link.push(&next.push(Some(&scene.live))).await;
    is_told(&mut scene, &next, "no inode", "no-space").await;
    scene.noted("no inode", "no-space", 1).await;
    assert!(
        leftovers(&scene, &next).is_empty(),
        "{:?}",
        leftovers(&scene, &next)
    );
    mount(&["-o", "remount,nr_inodes=1000"], &scene.node.root());
    works_again(&mut scene, next, "inodes again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_left() {
    let Some(folder) = apart() else { return };
    let mut scene = Scene::begin_with(files("one"), tempfile::tempdir_in(&folder).unwrap()).await;
    let next = files_at(2, "two");
    // A call keeps a descriptor: the answers to this one are on their way, and there is no other.
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(3),
        ..limit
    };
    setrlimit(Resource::Nofile, none).unwrap();
    scene.link.push(&next.push(Some(&scene.live))).await;
    let answer = scene.answer(next.id(), "no descriptor").await;
    setrlimit(Resource::Nofile, limit).unwrap();
    let Answer::Failed(failure) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        (failure.kind.as_str(), failure.retryable),
        ("io", true),
        "{failure:?}"
    );
    scene.noted("no descriptor", "io", 1).await;
    scene.is_unharmed("no descriptor").await;
    works_again(&mut scene, next, "descriptors again").await;
}

/// Paths that staging this release touches, but for those that it makes up.
fn staging_paths(scene: &Scene, next: &Crafted) -> Vec<PathBuf> {
    let root = scene.node.root();
    let own = root.join(".codevol");
    let staging = own.join("incoming").join(next.id().to_string());
    let tree = staging.join("tree");
    let mut paths = vec![
        root.join("releases"),
        own.join("records"),
        own.join("records").join(next.id().to_string()),
        own.join("incoming"),
        own.join("incoming/spare"),
        own.join("incoming/spare/sub"),
        staging.join("blobs"),
        tree.join("sub"),
        tree.join("defs.py"),
        tree.join(".codevol-release.json"),
        staging,
        tree,
    ];
    let blobs = next
        .files
        .values()
        .map(|bytes| BlobId::of(bytes).to_string());
    let blobs: Vec<PathBuf> = blobs.map(|blob| paths[6].join(blob)).collect();
    paths.extend(blobs);
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_that_fails_while_a_release_is_staged() {
    let Some(folder) = apart() else { return };
    let mut scene = Scene::begin_with(files("one"), tempfile::tempdir_in(&folder).unwrap()).await;
    for (calls, error, kind) in [
        ("write", "EIO", "io"),
        ("write", "EDQUOT", "no-space"),
        ("write", "ENOSPC", "no-space"),
        ("syncfs,fsync,fdatasync", "EIO", "io"),
        ("syncfs,fsync,fdatasync", "ENOSPC", "no-space"),
        ("syncfs,fsync,fdatasync", "EDQUOT", "no-space"),
        ("open,openat,openat2", "EMFILE", "io"),
        ("open,openat,openat2", "ENFILE", "io"),
        ("open,openat,openat2", "EROFS", "io"),
        ("mkdir,mkdirat", "ENOSPC", "no-space"),
        ("mkdir,mkdirat", "EROFS", "io"),
        ("rename,renameat,renameat2", "EIO", "io"),
        ("rename,renameat,renameat2", "ENOSPC", "no-space"),
        ("rename,renameat,renameat2", "EROFS", "io"),
        ("fchmod", "EROFS", "io"),
        ("utimensat", "EIO", "io"),
    ] {
        let what = format!("{calls}: {error}");
        let next = files_at(scene.next(), &what);
        let paths = staging_paths(&scene, &next);
        // The first one of each thread: the way out of the attempt is open.
        let how = format!("error={error}:when=1");
        let Some(failing) = Failing::of(calls, &how, &paths, &folder) else {
            return;
        };
        scene.link.push(&next.push(Some(&scene.live))).await;
        let mut answer = scene.answer(next.id(), &what).await;
        // It is told when it has its name, and once more where it then does not last.
        if calls.contains("fsync") && matches!(answer, Answer::Staged) {
            answer = scene.answer(next.id(), &what).await;
        }
        assert!(failing.end() > 0, "{what}: {answer:?}");
        let Answer::Failed(failure) = answer else {
            panic!("{what}: {answer:?}");
        };
        assert_eq!(failure.kind.as_str(), kind, "{what}: {failure:?}");
        assert!(failure.retryable, "{what}: {failure:?}");
        scene.noted(&what, kind, 1).await;
        scene.is_unharmed(&what).await;
        assert!(!scene.node.holds(&next), "{what}");
        leaves_nothing(&scene, &next, &what).await;
        works_again(&mut scene, next, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_on_which_every_call_fails_until_it_is_back() {
    let Some(folder) = apart() else { return };
    let mut scene = Scene::begin_with(files("one"), tempfile::tempdir_in(&folder).unwrap()).await;
    for (error, kind) in [("EIO", "io"), ("EROFS", "io"), ("EDQUOT", "no-space")] {
        let next = files_at(scene.next(), error);
        let paths = staging_paths(&scene, &next);
        let calls = "write,fsync,fdatasync,syncfs,mkdirat,mkdir,linkat,link,symlinkat,renameat,renameat2,rename,unlinkat,unlink,fchmod";
        let Some(failing) = Failing::of(calls, &format!("error={error}"), &paths, &folder) else {
            return;
        };
        scene.link.push(&next.push(Some(&scene.live))).await;
        is_told(&mut scene, &next, error, kind).await;
        scene.noted(error, kind, 1).await;
        assert!(failing.end() > 0);
        works_again(&mut scene, next, error).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_call_that_fails_while_a_release_is_activated() {
    let Some(folder) = apart() else { return };
    let mut scene = Scene::begin_with(files("one"), tempfile::tempdir_in(&folder).unwrap()).await;
    for (calls, error, kind) in [
        ("write", "EIO", "io"),
        ("write", "ENOSPC", "no-space"),
        ("write", "EDQUOT", "no-space"),
        ("openat,openat2", "EMFILE", "io"),
        ("openat,openat2", "EROFS", "io"),
        ("symlinkat", "ENOSPC", "no-space"),
        ("symlinkat", "EIO", "io"),
        ("fsync", "EIO", "io"),
        ("renameat,renameat2,rename", "EIO", "io"),
        ("renameat,renameat2,rename", "EROFS", "io"),
    ] {
        let root = scene.node.root();
        // The record of what is intended lies in STATE, the link in the root.
        for place in [
            vec![scene.node.state()],
            vec![root.clone(), root.join(".codevol")],
        ] {
            let what = format!("{calls}: {error} at {place:?}");
            let next = files_at(scene.next(), &what);
            scene.link.push(&next.push(Some(&scene.live))).await;
            let answer = scene.answer(next.id(), &what).await;
            assert!(matches!(answer, Answer::Staged), "{what}: {answer:?}");
            let how = format!("error={error}:when=1");
            let Some(failing) = Failing::of(calls, &how, &place, &folder) else {
                return;
            };
            scene.activate(next.id()).await;
            let step =
                |step: &Step| matches!(step, Step::ActivateFailed(_) | Step::Activated { .. });
            let step = scene.step(next.id(), step).await;
            match (failing.end(), step) {
                // Activating has no use for such a call there.
                (0, Step::Activated { .. }) => {}
                (1.., Step::ActivateFailed(failure)) => {
                    assert_eq!(failure.kind.as_str(), kind, "{what}: {failure:?}");
                    assert!(failure.retryable, "{what}: {failure:?}");
                    scene.noted(&what, "failed", 1).await;
                    scene.is_unharmed(&what).await;
                    scene.activate(next.id()).await;
                }
                other => panic!("{what}: {other:?}"),
            }
            scene
                .step(next.id(), |step| matches!(step, Step::Verified(_)))
                .await;
            scene.live = next;
            scene.is_unharmed(&what).await;
        }
    }
}
