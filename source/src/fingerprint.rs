//! The dependency files of a tree: what the interpreter's packages are compared with.

use codevol_protocol::limits::FINGERPRINTS_MAX;
use codevol_protocol::manifest::Manifest;
use codevol_protocol::path::RelPath;
use codevol_protocol::release::Fingerprint;

/// Returns path and blob of each dependency file, in the tree's order; where there are too many,
/// those nearest to the root.
#[must_use]
pub fn fingerprints(manifest: &Manifest) -> Vec<Fingerprint> {
    let mut found: Vec<Fingerprint> = manifest
        .entries()
        .iter()
        .filter(|(path, _)| is_dependency_file(path.file_name()))
        .filter_map(|(path, entry)| {
            let path = path.clone();
            entry.blob().map(|blob| Fingerprint { path, blob })
        })
        .collect();
    if found.len() > FINGERPRINTS_MAX {
        found.sort_by_key(|fingerprint| depth(&fingerprint.path));
        found.truncate(FINGERPRINTS_MAX);
        found.sort_by(|a, b| a.path.cmp(&b.path));
    }
    found
}

fn depth(path: &RelPath) -> usize {
    path.components().count()
}

fn is_dependency_file(name: &str) -> bool {
    ["pyproject.toml", "uv.lock", "poetry.lock"].contains(&name)
        || (name.starts_with("requirements") && name.ends_with(".txt"))
}

#[cfg(test)]
mod tests {
    use codevol_protocol::id::BlobId;
    use codevol_protocol::manifest::Entry;

    use super::*;

    fn manifest(mut paths: Vec<RelPath>) -> Manifest {
        paths.sort();
        let entry = |path: RelPath| {
            let blob = BlobId::of(path.as_str().as_bytes());
            let (size, executable) = (1, false);
            (
                path,
                Entry::File {
                    blob,
                    size,
                    executable,
                },
            )
        };
        Manifest::new(paths.into_iter().map(entry).collect()).unwrap()
    }

    fn found(paths: &[&str]) -> Vec<String> {
        let manifest = manifest(paths.iter().map(|path| path.parse().unwrap()).collect());
        let found = fingerprints(&manifest);
        found.iter().map(|one| one.path.to_string()).collect()
    }

    #[test]
    fn dependency_files_are_found_at_any_depth() {
        let paths = [
            "a/requirements-dev.txt",
            "a/uv.lock",
            "poetry.lock",
            "pyproject.toml",
            "requirements.txt",
            "requirements.in",
            "my-requirements.txt",
            "uv.lock.bak",
        ];
        assert_eq!(found(&paths), paths[..5]);
    }

    #[test]
    fn too_many_dependency_files_leave_those_nearest_to_the_root() {
        let mut paths: Vec<RelPath> = (0..100)
            .map(|i| format!("deep/{i:03}/uv.lock").parse().unwrap())
            .collect();
        paths.push("uv.lock".parse().unwrap());
        let found = fingerprints(&manifest(paths));
        assert_eq!(found.len(), FINGERPRINTS_MAX);
        assert!(found.iter().any(|one| one.path.as_str() == "uv.lock"));
    }
}
