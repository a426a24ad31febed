use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct Trees {
    dir: TempDir,
    trees: Vec<Tree>,
}

fn trees(names: &[&str]) -> Trees {
    let dir = TempDir::new().unwrap();
    let make = |name: &&str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.join("assets")).unwrap();
        Tree {
            volume: name.parse().unwrap(),
            path,
        }
    };
    let trees = names.iter().map(make).collect();
    Trees { dir, trees }
}

impl Trees {
    fn below(&self, paths: &[&str]) -> Result<(Option<VolumeName>, Vec<String>), CommandError> {
        let paths: Vec<PathBuf> = paths
            .iter()
            .map(|path| self.dir.path().join(path))
            .collect();
        let (volume, below) = below_one(&self.trees, None, &paths)?;
        Ok((volume, below.iter().map(ToString::to_string).collect()))
    }
}

#[test]
fn a_path_becomes_one_of_the_tree_that_holds_it() {
    let trees = trees(&["one", "two"]);
    let (volume, below) = trees
        .below(&["two/assets/./orders.py", "two/assets/"])
        .unwrap();
    assert_eq!(volume.unwrap().as_str(), "two");
    assert_eq!(below, ["assets/orders.py", "assets"]);
}

#[test]
fn what_is_gone_from_the_tree_is_still_a_path_of_it() {
    let (_, below) = trees(&["one"]).below(&["one/gone/too/a.py"]).unwrap();
    assert_eq!(below, ["gone/too/a.py"]);
}

#[test]
fn links_on_the_way_are_followed_and_the_last_one_is_not() {
    let trees = trees(&["one"]);
    let root = trees.dir.path();
    symlink(root.join("one"), root.join("link")).unwrap();
    symlink("assets", root.join("one/alias")).unwrap();
    let (_, below) = trees.below(&["link/alias", "link/alias/a.py"]).unwrap();
    assert_eq!(below, ["alias", "assets/a.py"]);
}

#[test]
fn a_path_that_leaves_the_tree_is_wrong_usage() {
    let trees = trees(&["one"]);
    symlink("/etc", trees.dir.path().join("one/out")).unwrap();
    for path in [
        "one/../two/a.py",
        "/etc/passwd",
        "one/out/passwd",
        "one/gone/../../x",
    ] {
        let error = trees.below(&[path]).unwrap_err();
        assert_eq!(error.exit.code(), 2, "{path}: {error:?}");
    }
}

#[test]
fn the_tree_itself_is_no_path_of_it() {
    let trees = trees(&["one"]);
    for path in ["one", "one/.", "one/assets/.."] {
        let error = trees.below(&[path]).unwrap_err();
        assert!(error.message.contains("is the whole tree"), "{error:?}");
    }
}

#[test]
fn reserved_names_are_refused_before_anything_is_asked() {
    let error = trees(&["one"])
        .below(&["one/.codevol-release.json"])
        .unwrap_err();
    assert_eq!(error.exit.code(), 2);
    assert_eq!(
        error.causes,
        ["names beginning with `.codevol` are reserved at the root"]
    );
}

#[test]
fn paths_of_two_volumes_are_two_pushes() {
    let error = trees(&["one", "two"])
        .below(&["one/a", "two/a"])
        .unwrap_err();
    assert_eq!(error.hint.as_deref(), Some("push each volume by itself"));
}

#[test]
fn without_paths_the_volume_is_the_one_that_was_named() {
    let trees = trees(&["one"]);
    let named: VolumeName = "one".parse().unwrap();
    assert_eq!(below_one(&trees.trees, None, &[]), Ok((None, Vec::new())));
    let both = below_one(&trees.trees, Some(&named), &[]);
    assert_eq!(both, Ok((Some(named), Vec::new())));
}
