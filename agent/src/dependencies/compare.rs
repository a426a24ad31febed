//! What an environment lacks of what a release wants. Pure.

use std::collections::BTreeMap;

use codevol_protocol::dependency::PackageName;

use super::environment::Installed;
use super::requirement::Wanted;
use super::version::{Specifiers, Version};
use super::wants::{Source, Want, Wants};

/// A package that is missing or has another version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) name: PackageName,
    /// As a person reads it.
    pub(super) wanted: String,
    /// What `pip` would be asked for; nothing where it could not be, or where it would not help.
    pub(super) mend: Option<String>,
    pub(super) installed: Option<String>,
    pub(super) source: Source,
    is_exact: bool,
}

/// What a comparison brings.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// By name, each once.
    pub(super) misfits: BTreeMap<PackageName, Misfit>,
    /// What could not be judged, with the reason.
    pub(super) unjudged: Vec<String>,
}

/// What stands for the interpreter itself.
const PYTHON: &str = "python";

/// Compares.
pub(super) fn compare(wants: &Wants, installed: &Installed) -> Compared {
    let mut compared = Compared::default();
    for (specifiers, source) in &wants.pythons {
        compared.python(specifiers, source, installed);
    }
    for want in &wants.wants {
        if compared.applies(want, installed) {
            let bounds = bounds(wants, &want.requirement.name, installed);
            compared.want(want, &bounds, installed);
        }
    }
    for (lock, source) in &wants.locks {
        let needs = lock.needs(&installed.facts);
        for (name, version) in needs.packages {
            let specifiers = version.map(Specifiers::exactly).unwrap_or_default();
            compared.version(&name, &specifiers, source, installed);
        }
        if needs.open > 0 {
            let why = "of some of its packages it cannot be told whether they are needed here";
            compared.unjudged.push(format!("{source}: {why}"));
        }
    }
    if installed.unread > 0 {
        let (count, python) = (installed.unread, installed.python.display());
        let what = format!("{count} of what is installed for `{python}` cannot be read");
        compared.unjudged.push(what);
    }
    compared
}

/// Returns what constraints say of a package here.
fn bounds(wants: &Wants, name: &PackageName, installed: &Installed) -> Specifiers {
    let of_it = wants.bounds.iter().filter(|bound| {
        let marker = bound.requirement.marker.as_ref();
        let holds = marker.is_none_or(|marker| marker.holds(&installed.facts) == Some(true));
        bound.requirement.name == *name && holds
    });
    of_it.fold(Specifiers::default(), |all, bound| {
        match &bound.requirement.wanted {
            Wanted::Version(specifiers) => all.and(specifiers),
            Wanted::Url => all,
        }
    })
}

impl Compared {
    fn applies(&mut self, want: &Want, installed: &Installed) -> bool {
        let marker = want.requirement.marker.as_ref();
        let holds = marker.map_or(Some(true), |marker| marker.holds(&installed.facts));
        if holds.is_none() {
            let why = "whether it applies here cannot be told";
            self.unjudged.push(format!("{}: {why}", want.source));
        }
        holds == Some(true)
    }

    fn want(&mut self, want: &Want, bounds: &Specifiers, installed: &Installed) {
        let name = &want.requirement.name;
        match &want.requirement.wanted {
            Wanted::Version(specifiers) => {
                let specifiers = specifiers.clone().and(bounds);
                self.version(name, &specifiers, &want.source, installed);
            }
            Wanted::Url if installed.packages.contains_key(name) => {
                let why = "it comes from a URL: only that it is installed can be told";
                self.unjudged.push(format!("{}: {why}", want.source));
            }
            // What an index has under that name may be another package.
            Wanted::Url => self.add(Misfit {
                name: name.clone(),
                wanted: " from a URL".to_owned(),
                mend: None,
                installed: None,
                source: want.source.clone(),
                is_exact: false,
            }),
        }
    }

    fn version(
        &mut self,
        name: &PackageName,
        specifiers: &Specifiers,
        source: &Source,
        installed: &Installed,
    ) {
        let found = installed.packages.get(name);
        if let Some(text) = found.filter(|_| !specifiers.is_any()) {
            let Ok(version) = text.parse::<Version>() else {
                let why = "its installed version cannot be compared";
                return self.unjudged.push(format!("{name}: {why}"));
            };
            if specifiers.contain(&version) {
                return;
            }
        } else if found.is_some() {
            return;
        }
        self.add(Misfit {
            name: name.clone(),
            wanted: specifiers.to_string(),
            mend: Some(format!("{name}{specifiers}")),
            installed: found.cloned(),
            source: source.clone(),
            is_exact: specifiers.is_exact(),
        });
    }

    fn python(&mut self, specifiers: &Specifiers, source: &Source, installed: &Installed) {
        let said = installed.facts.version();
        let (major, minor) = installed.facts.python;
        // Where only `3.11` is known, its first and its last release must be judged alike.
        let may_be = match &installed.facts.full {
            Some(full) => vec![full.clone()],
            None => vec![
                format!("{major}.{minor}.0"),
                format!("{major}.{minor}.9999"),
            ],
        };
        let versions = may_be
            .iter()
            .filter_map(|text| text.parse::<Version>().ok());
        let judged: Vec<bool> = versions.map(|v| specifiers.contain(&v)).collect();
        let Ok(name) = PYTHON.parse() else { return };
        match judged.as_slice() {
            [true, .., true] | [true] => {}
            [false, .., false] | [false] => self.add(Misfit {
                name,
                wanted: specifiers.to_string(),
                mend: None,
                installed: Some(said),
                source: source.clone(),
                is_exact: false,
            }),
            _ => {
                let why = format!("whether Python {said} is {specifiers} cannot be told");
                self.unjudged.push(format!("{source}: {why}"));
            }
        }
    }

    /// One of a package is enough, and the one that names a version says most.
    fn add(&mut self, misfit: Misfit) {
        match self.misfits.get(&misfit.name) {
            Some(known) if known.is_exact || !misfit.is_exact => {}
            Some(_) | None => drop(self.misfits.insert(misfit.name.clone(), misfit)),
        }
    }
}

/// Returns the command that installs what is missing; nothing where there is no such command.
pub(super) fn mend<'a>(
    misfits: impl Iterator<Item = &'a Misfit>,
    installed: &Installed,
) -> Option<String> {
    let wanted = misfits.filter_map(|misfit| misfit.mend.as_deref());
    let quoted: Vec<String> = wanted.map(|wanted| format!("'{wanted}'")).collect();
    if quoted.is_empty() || quoted.len() > MENDED_MAX {
        return None;
    }
    let python = quote(&installed.python.to_string_lossy());
    let has_pip = installed.packages.keys().any(|name| name.as_str() == "pip");
    let pip = if has_pip {
        format!("{python} -m pip install")
    } else {
        format!("uv pip install --python {python}")
    };
    Some(format!("{pip} {}", quoted.join(" ")))
}

/// A command of more packages is nobody's to read.
const MENDED_MAX: usize = 100;

fn quote(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    if path.chars().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
