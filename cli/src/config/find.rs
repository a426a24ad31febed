//! Where the configuration lies.

use std::path::{Path, PathBuf};

use crate::config::{Environment, Role};
use crate::error::CommandError;

const HERE: &str = "codevol.toml";

/// Returns the file that was named, else the first of the usual places where one exists.
pub(super) fn file_to_read(
    named: Option<&Path>,
    roles: &[Role],
    environment: &Environment,
) -> Result<PathBuf, CommandError> {
    if let Some(path) = named_file(named, environment) {
        return Ok(path);
    }
    let usual = usual_places(roles);
    // What exists but cannot be looked at is taken too: reading it then says why it cannot.
    let found = usual.iter().find(|path| path.try_exists().unwrap_or(true));
    found.cloned().ok_or_else(|| {
        let places: Vec<String> = usual.iter().map(|p| format!("`{}`", p.display())).collect();
        CommandError::config("no configuration was found")
            .cause(format!("looked for {}", places.join(", ")))
            .hint(how_to_get_one(roles))
    })
}

/// Says which command writes a configuration of one of these roles; of any, where none is named.
pub(super) const fn how_to_get_one(roles: &[Role]) -> &'static str {
    match roles {
        [Role::Source] => "`codevol init DIR` writes one, `-C FILE` names one",
        [Role::Agent | Role::Operator] => "`codevol join TOKEN` writes one, `-C FILE` names one",
        _ => "`codevol init DIR` or `codevol join TOKEN` writes one, `-C FILE` names one",
    }
}

/// Returns where a new configuration is to be written: the file that was named, else
/// `./codevol.toml`, which is looked at first when none is named.
#[must_use]
pub fn file_to_write(named: Option<&Path>) -> PathBuf {
    named_file(named, &Environment::of_process()).unwrap_or_else(|| PathBuf::from(HERE))
}

/// Returns where the new configuration of an operator's machine is to be written: the file that was
/// named, else one in the user's own folder, where it is found from everywhere and no key comes to lie
/// in a repository.
#[must_use]
pub fn operator_file_to_write(named: Option<&Path>) -> PathBuf {
    let own = || user_folder().map(|folder| folder.join(format!("{}.toml", Role::Operator)));
    named_file(named, &Environment::of_process())
        .or_else(own)
        .unwrap_or_else(|| PathBuf::from(HERE))
}

fn named_file(named: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    named
        .map(Path::to_path_buf)
        .or_else(|| environment.file().map(PathBuf::from))
}

fn usual_places(roles: &[Role]) -> Vec<PathBuf> {
    let folders = [Some(PathBuf::from("/etc/codevol")), user_folder()];
    let mut places = vec![PathBuf::from(HERE)];
    for folder in folders.into_iter().flatten() {
        let all = Role::ALL.into_iter();
        let wanted = all.filter(|each| roles.is_empty() || roles.contains(each));
        places.extend(wanted.map(|role| folder.join(format!("{role}.toml"))));
    }
    places
}

/// Returns the user's own configuration folder, by the XDG rules: a relative one is no folder.
fn user_folder() -> Option<PathBuf> {
    let absolute = |name: &str, below: &str| {
        let folder = PathBuf::from(std::env::var_os(name)?);
        folder.is_absolute().then(|| folder.join(below))
    };
    absolute("XDG_CONFIG_HOME", "codevol").or_else(|| absolute("HOME", ".config/codevol"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_looks_for_its_own_file_and_a_command_for_any() {
        let names = |roles: &[Role]| {
            let places = usual_places(roles).into_iter();
            let below_etc =
                places.filter(|place| !place.is_absolute() || place.starts_with("/etc"));
            below_etc
                .map(|place| place.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(&[Role::Agent]),
            ["codevol.toml", "/etc/codevol/agent.toml"]
        );
        let any = ["source", "agent", "operator"].map(|role| format!("/etc/codevol/{role}.toml"));
        assert_eq!(names(&[]).get(1..), Some(&any[..]));
    }
}
