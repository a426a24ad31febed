use codevol_tests::save;
use tempfile::TempDir;

use super::super::requirement::Wanted;
use super::*;

/// A release's directory, with what lies in it.
struct Laid {
    temp: TempDir,
    manifest: Manifest,
}

impl Laid {
    fn new(files: &[(&str, &str)]) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let mut entries: Vec<(RelPath, Entry)> = files
            .iter()
            .map(|(path, text)| {
                save(&temp.path().join(path), text.as_bytes());
                let entry = Entry::File {
                    blob: BlobId::of(text.as_bytes()),
                    size: text.len() as u64,
                    executable: false,
                };
                (path.parse().unwrap(), entry)
            })
            .collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let manifest = Manifest::new(entries).unwrap();
        Self { temp, manifest }
    }

    fn wants(&self, named: &[&str]) -> Wants {
        let named: Vec<RelPath> = named.iter().map(|path| path.parse().unwrap()).collect();
        let dir = Dir::open(self.temp.path()).unwrap();
        let tree = Tree {
            dir: &dir,
            manifest: &self.manifest,
        };
        Wants::read(tree, &named)
    }
}

fn shown(wants: &[Want]) -> Vec<String> {
    let one = |want: &Want| match &want.requirement.wanted {
        Wanted::Version(rule) => format!("{}{rule} {}", want.requirement.name, want.source),
        Wanted::Url => format!("{} @ {}", want.requirement.name, want.source),
    };
    wants.iter().map(one).collect()
}

#[test]
fn the_usual_files_at_the_root_are_read_and_no_others() {
    let laid = Laid::new(&[
        ("requirements.txt", "polars==1.2\n"),
        ("requirements-dev.txt", "pytest\n"),
        ("docs/requirements.txt", "sphinx\n"),
        (
            "pyproject.toml",
            "[project]\nrequires-python = \">=3.10\"\ndependencies = [\"rich\"]\n",
        ),
        (
            "uv.lock",
            "[[package]]\nname = \"p\"\nsource = { virtual = \".\" }\n",
        ),
    ]);
    let wants = laid.wants(&[]);
    assert_eq!(
        shown(&wants.wants),
        ["polars==1.2 requirements.txt:1", "rich pyproject.toml"]
    );
    assert_eq!(wants.pythons.len(), 1);
    assert_eq!(wants.locks.len(), 1);
    assert_eq!(wants.unjudged, [""; 0]);
}

#[test]
fn files_that_are_named_are_read_in_their_place() {
    let laid = Laid::new(&[
        ("requirements.txt", "polars\n"),
        ("team/requirements.txt", "rich\n"),
    ]);
    let wants = laid.wants(&["team/requirements.txt", "team/uv.lock"]);
    assert_eq!(shown(&wants.wants), ["rich team/requirements.txt:1"]);
    assert_eq!(wants.unjudged, ["team/uv.lock: it is not in this release"]);
}

#[test]
fn includes_are_followed_within_the_tree_each_file_once() {
    let laid = Laid::new(&[
        (
            "requirements.txt",
            "-r reqs/base.txt\n-r requirements.txt\n-r ../outside.txt\n-r /etc/passwd\n\
             -r https://example.org/r.txt\n-r reqs/gone.txt\nmine\n",
        ),
        ("reqs/base.txt", "-r ./more.txt\n-c ../bounds.txt\nbase\n"),
        ("reqs/more.txt", "-r base.txt\nmore\n"),
        ("bounds.txt", "base<2\n-r reqs/more.txt\n"),
    ]);
    let wants = laid.wants(&[]);
    assert_eq!(
        shown(&wants.wants),
        [
            "mine requirements.txt:7",
            "base reqs/base.txt:3",
            "more reqs/more.txt:2"
        ]
    );
    assert_eq!(
        shown(&wants.bounds),
        [
            "base<2 bounds.txt:1",
            "more reqs/more.txt:2",
            "base reqs/base.txt:3"
        ]
    );
    assert_eq!(
        wants.unjudged,
        [
            "requirements.txt:3: it includes what does not lie in the release",
            "requirements.txt:4: it includes what does not lie in the release",
            "requirements.txt:5: it includes what does not lie in the release",
            "reqs/gone.txt: it is no file of this release",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_judged_is_said_and_the_others_are_read() {
    let long = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    let laid = Laid::new(&[
        ("requirements.txt", &long),
        ("pyproject.toml", "[project"),
        ("uv.lock", "package = 1"),
        (
            "poetry.lock",
            "[[package]]\nname = \"a\"\nversion = \"1\"\n",
        ),
    ]);
    assert_eq!(
        laid.wants(&[]).unjudged,
        [
            "requirements.txt: it is too long",
            "pyproject.toml: it cannot be read as what its name says",
            "uv.lock: it cannot be read as what its name says",
            "poetry.lock: it cannot be read as what its name says",
        ]
    );
}

#[test]
fn a_project_that_cannot_be_read_is_said_where_only_its_lock_is_compared() {
    let lock = "[[package]]\nname = \"polars\"\nversion = \"1.2\"\n";
    let laid = Laid::new(&[("pyproject.toml", "[tool"), ("poetry.lock", lock)]);
    let said = ["pyproject.toml", "poetry.lock"]
        .map(|file| format!("{file}: it cannot be read as what its name says"));
    assert_eq!(laid.wants(&["poetry.lock"]).unjudged, said);
}

#[test]
fn poetrys_own_rules_are_judged_by_its_lock_alone() {
    let project = "[tool.poetry.dependencies]\npolars = \"^1\"\n";
    let without = Laid::new(&[("pyproject.toml", project)]).wants(&[]);
    assert!(without.unjudged[0].contains("there is none"));
    let lock = "[[package]]\nname = \"polars\"\nversion = \"1.2\"\n";
    let laid = Laid::new(&[("pyproject.toml", project), ("poetry.lock", lock)]);
    let with = laid.wants(&[]);
    assert_eq!(with.unjudged, [""; 0]);
    assert_eq!(with.locks.len(), 1);
}

#[test]
fn another_release_asks_for_the_same_as_long_as_no_file_that_was_looked_for_differs() {
    let files = [
        ("requirements.txt", "-r base.txt\n"),
        ("base.txt", "polars\n"),
    ];
    let wants = Laid::new(&files).wants(&[]);
    let with = |path, text| {
        let mut files: Vec<_> = files.to_vec();
        files.retain(|(known, _)| *known != path);
        files.push((path, text));
        Laid::new(&files).manifest
    };
    assert!(wants.are_of(&Laid::new(&files).manifest));
    assert!(wants.are_of(&with("code.py", "x")));
    assert!(!wants.are_of(&with("base.txt", "rich\n")));
    assert!(!wants.are_of(&with("uv.lock", "")));
}

#[test]
fn a_hostile_number_of_includes_ends() {
    let mut files = vec![("requirements.txt".to_owned(), "-r 0.txt\n".to_owned())];
    files.extend((0..200).map(|n| (format!("{n}.txt"), format!("-r {}.txt\n", n + 1))));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(p, t)| (p.as_str(), t.as_str()))
        .collect();
    let wants = Laid::new(&files).wants(&[]);
    assert!(
        wants.unjudged[0].contains("too many files"),
        "{:?}",
        wants.unjudged
    );
}
