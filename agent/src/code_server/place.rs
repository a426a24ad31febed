//! Where a path of a code server lies, by its components alone: the volume may be mounted at
//! another place in the server's container.

/// Where a path lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// In the directory of the release with this name; then the path below it.
    Release(&'a str, &'a str),
    /// Below `current`; then the path below it.
    Current(&'a str),
    /// In no volume.
    Outside,
}

impl<'a> Place<'a> {
    /// Finds where `path` lies.
    pub(super) fn of(path: &'a str) -> Self {
        let components = components(path);
        // A root may itself lie below a directory called `current`.
        let named = components
            .clone()
            .zip(components.clone().skip(1))
            .find(|((parent, _), (name, _))| *parent == "releases" && is_release_dir(name))
            .map(|(_, found)| found);
        let leftmost = || {
            components
                .clone()
                .find(|(name, _)| *name == CURRENT || is_release_dir(name))
        };
        match named.or_else(leftmost) {
            Some((CURRENT, rest)) => Self::Current(rest),
            Some((name, rest)) => Self::Release(name, rest),
            None => Self::Outside,
        }
    }

    /// Returns the path below the tree's root when it is one of the user's own files: a Python
    /// environment that lies in the tree is not.
    pub(super) fn of_user(path: &'a str) -> Option<&'a str> {
        let rest = match Self::of(path) {
            Self::Release(_, rest) | Self::Current(rest) => rest,
            Self::Outside => return None,
        };
        let installed = components(rest).any(|(c, _)| c == "site-packages" || c == "dist-packages");
        (!installed && !rest.is_empty()).then_some(rest)
    }
}

const CURRENT: &str = "current";

/// Whether a component is the name of a release's directory: `000042-3f9ac1d2`.
pub(super) fn is_release_dir(name: &str) -> bool {
    name.split_once('-').is_some_and(|(seq, id)| {
        seq.len() >= 6
            && seq.bytes().all(|b| b.is_ascii_digit())
            && id.len() == 8
            && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Each component, with the path that follows it.
fn components(path: &str) -> impl Iterator<Item = (&str, &str)> + Clone {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('/');
        if rest.is_empty() {
            return None;
        }
        let (component, after) = rest.split_once('/').unwrap_or((rest, ""));
        rest = after;
        Some((component, after.trim_start_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_placed_by_its_components() {
        let cases = [
            ("/vol/current", Place::Current("")),
            ("/vol/current/defs.py", Place::Current("defs.py")),
            ("/vol//current//a//b.py", Place::Current("a//b.py")),
            (
                "/vol/current/pkg/current/x.py",
                Place::Current("pkg/current/x.py"),
            ),
            ("/vol/currently/x.py", Place::Outside),
            ("/vol", Place::Outside),
            ("", Place::Outside),
            (
                "/app/releases/000042-3f9ac1d2/a.py",
                Place::Release("000042-3f9ac1d2", "a.py"),
            ),
            (
                "/srv/current/releases/000042-3f9ac1d2",
                Place::Release("000042-3f9ac1d2", ""),
            ),
            (
                "/code/1000000-3f9ac1d2",
                Place::Release("1000000-3f9ac1d2", ""),
            ),
            ("/vol/releases/000042-3F9AC1D2", Place::Outside),
            ("/vol/releases/42-3f9ac1d2", Place::Outside),
            (
                "/vol/current/data/000042-3f9ac1d2/a.py",
                Place::Current("data/000042-3f9ac1d2/a.py"),
            ),
        ];
        for (path, place) in cases {
            assert_eq!(Place::of(path), place, "{path}");
        }
    }

    #[test]
    fn an_installed_package_is_not_the_users_file() {
        let installed = "/vol/current/.venv/lib/python3.11/site-packages/dagster/x.py";
        assert_eq!(Place::of_user(installed), None);
        assert_eq!(Place::of_user("/vol/current/a/b.py"), Some("a/b.py"));
        assert_eq!(Place::of_user("/usr/lib/python3.11/runpy.py"), None);
    }
}
