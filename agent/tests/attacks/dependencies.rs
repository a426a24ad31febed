//! Releases that want what is not installed, and requirement files that want the agent to fall over.

use std::fs;
use std::path::{Path, PathBuf};

use codevol_agent::config::DependencyPolicy;
use codevol_protocol::dependency::DependencyReport;
use codevol_protocol::message::{DEPENDENCIES_MINOR, FromAgent, FromSource, Step};
use codevol_tests::save;
use quinn::VarInt;
use tempfile::TempDir;

use crate::craft::{Crafted, craft, pipes};
use crate::scene::{Answer, Scene};

/// A virtual environment, laid out by hand.
struct Venv(TempDir);

impl Venv {
    fn new() -> Self {
        let venv = Self(tempfile::tempdir().unwrap());
        save(&venv.python(), b"");
        let config = b"home = /nowhere/bin\nversion = 3.11.7\n";
        save(&venv.0.path().join("pyvenv.cfg"), config);
        save(&venv.site().join("README.txt"), b"");
        venv
    }

    fn python(&self) -> PathBuf {
        self.0.path().join("bin/python")
    }

    fn site(&self) -> PathBuf {
        self.0.path().join("lib/python3.11/site-packages")
    }

    fn record(&self, name: &str, version: &str) -> PathBuf {
        self.site().join(format!("{name}-{version}.dist-info"))
    }

    fn install(&self, name: &str, version: &str) {
        let text = format!("Name: {name}\nVersion: {version}\n");
        save(
            &self.record(name, version).join("METADATA"),
            text.as_bytes(),
        );
    }
}

/// A node with r1 that compares what comes with an environment, by this policy.
async fn begin(policy: DependencyPolicy, venv: &Path) -> Scene {
    let mut scene = Scene::begin().await;
    scene.node.stop().await;
    scene.node.python = Some(venv.to_owned());
    scene.node.dependencies = policy;
    scene.node.run().unwrap();
    scene.link = scene.source.accept().await;
    scene
}

fn wanting(seq: u64, requirements: &str) -> Crafted {
    craft(
        seq,
        &[
            ("defs.py", b"import os"),
            ("requirements.txt", requirements.as_bytes()),
            ("sub/kept.py", b"kept"),
        ],
    )
}

/// Waits for what is said of a release's dependencies.
async fn report(scene: &mut Scene, release: &Crafted) -> DependencyReport {
    loop {
        if let Some(FromAgent::Dependencies { report, .. }) = scene.link.hear().await.unwrap()
            && report.release == release.id()
        {
            return report;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_package_is_refused_before_any_file_is_visible() {
    let venv = Venv::new();
    venv.install("pip", "24.0");
    let mut scene = begin(DependencyPolicy::Refuse, &venv.python()).await;
    scene.link.greet().await;
    let next = wanting(2, "polars==1.2\n");
    scene.link.push(&next.push(Some(&scene.live))).await;
    let report = report(&mut scene, &next).await;
    assert!(report.refused, "{report:?}");
    let Answer::Failed(failure) = scene.answer(next.id(), "a missing package").await else {
        panic!("it was staged");
    };
    assert_eq!(failure.kind.as_str(), "dependencies");
    assert!(!failure.retryable);
    let python = venv.python();
    let python = python.display();
    assert_eq!(
        failure.message.as_str(),
        format!("`{python}` lacks polars==1.2 (requirements.txt:1)")
    );
    assert_eq!(
        failure.hint.unwrap().as_str(),
        format!("`{python} -m pip install 'polars==1.2'` on that server, then `codevol retry r2`")
    );
    scene.noted("a missing package", "dependencies", 1).await;
    scene.is_unharmed("a missing package").await;

    // A source that comes back does not count on it either.
    scene.link.connection.close(VarInt::from_u32(1), b"");
    scene.link = scene.source.accept().await;
    let hello = &scene.link.hello.volumes[0];
    assert_eq!(hello.held, [scene.live.id()]);
    scene.link.greet().await;

    // Once it is installed, the release is taken, and nothing of it has to travel again.
    venv.install("polars", "1.2");
    scene.link.push(&next.push(Some(&scene.live))).await;
    scene.goes_live(next, "the package is there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_gone_by_then_keeps_a_staged_release_from_being_activated() {
    let venv = Venv::new();
    venv.install("polars", "1.2");
    let mut scene = begin(DependencyPolicy::Refuse, &venv.python()).await;
    scene.link.greet().await;
    let next = wanting(2, "polars==1.2\n");
    scene.link.push(&next.push(Some(&scene.live))).await;
    let answer = scene.answer(next.id(), "it is installed").await;
    assert!(matches!(answer, Answer::Staged), "{answer:?}");
    fs::remove_dir_all(venv.record("polars", "1.2")).unwrap();
    scene.activate(next.id()).await;
    let failed = |step: &Step| matches!(step, Step::ActivateFailed(_));
    let Step::ActivateFailed(failure) = scene.step(next.id(), failed).await else {
        panic!("it was activated");
    };
    assert_eq!(failure.kind.as_str(), "dependencies");
    scene.is_unharmed("a package that is gone").await;
    // What is active stays so, whatever becomes of its packages, and can be gone back to.
    venv.install("polars", "1.2");
    scene.activate(next.id()).await;
    let verified = |step: &Step| matches!(step, Step::Verified(_));
    scene.step(next.id(), verified).await;
    let first = std::mem::replace(&mut scene.live, next);
    fs::remove_dir_all(venv.record("polars", "1.2")).unwrap();
    scene.activate(scene.live.id()).await;
    scene.step(scene.live.id(), verified).await;
    scene.is_unharmed("the active release").await;
    let (volume, release) = (pipes(), first.id());
    scene
        .link
        .say(&FromSource::Return { volume, release })
        .await;
    let returned = |step: &Step| matches!(step, Step::Returned(_));
    scene.step(first.id(), returned).await;
    scene.live = first;
    scene.is_unharmed("the way back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_lets_the_release_through_and_says_what_it_lacks() {
    let venv = Venv::new();
    venv.install("polars", "1.1");
    let mut scene = begin(DependencyPolicy::Warn, &venv.python()).await;
    scene.link.greet().await;
    let next = wanting(2, "polars==1.2\nrich\n");
    scene.link.push(&next.push(Some(&scene.live))).await;
    let said = report(&mut scene, &next).await;
    assert!(!said.refused);
    let names: Vec<&str> = said
        .found
        .packages
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(names, ["polars", "rich"]);
    scene.goes_live(next, "a warning").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_older_hears_nothing_that_it_does_not_know() {
    let venv = Venv::new();
    let mut scene = begin(DependencyPolicy::Warn, &venv.python()).await;
    scene.link.greet_by(DEPENDENCIES_MINOR - 1).await;
    let next = wanting(2, "polars==1.2\n");
    scene.link.push(&next.push(Some(&scene.live))).await;
    loop {
        match scene.link.hear().await.unwrap().unwrap() {
            FromAgent::Report(report) if matches!(report.step, Step::Staged { .. }) => break,
            FromAgent::Report(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requirement_files_are_passed_over_and_said_to_be() {
    let venv = Venv::new();
    let mut scene = begin(DependencyPolicy::Refuse, &venv.python()).await;
    scene.link.greet().await;
    let deep = format!(
        "x; {}os_name == 'a'{}",
        "(".repeat(5_000),
        ")".repeat(5_000)
    );
    let nested = format!("a = {}", "[".repeat(100_000));
    let long = "#".repeat(2 << 20);
    let cases: [(&str, &str, &[u8]); 6] = [
        ("parentheses", "requirements.txt", deep.as_bytes()),
        (
            "a file of its own",
            "requirements.txt",
            b"-r requirements.txt\n-r ../../etc/passwd\n",
        ),
        ("no text", "requirements.txt", b"\xff\xfe\x00polars"),
        ("too long", "requirements.txt", long.as_bytes()),
        ("brackets", "pyproject.toml", nested.as_bytes()),
        ("a lock", "uv.lock", nested.as_bytes()),
    ];
    for (what, path, bytes) in cases {
        let mut files = vec![("defs.py", b"import os".as_slice()), (path, bytes)];
        files.sort_unstable();
        let next = craft(scene.next(), &files);
        scene.link.push(&next.push(Some(&scene.live))).await;
        let said = report(&mut scene, &next).await;
        assert!(!said.refused, "{what}: {said:?}");
        let unjudged = said.found.unjudged.iter();
        let of_it = unjudged
            .filter(|why| why.as_str().starts_with(path))
            .count();
        assert!(of_it > 0, "{what}: {said:?}");
        scene.goes_live(next, what).await;
    }
}
