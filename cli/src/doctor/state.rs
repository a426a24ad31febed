//! What the daemon itself needs: its folders, its identity, and whether it runs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use codevol_agent::identity::Identity as AgentIdentity;
use codevol_protocol::call::Call;
use codevol_source::identity::Identity as SourceIdentity;

use super::Check;
use crate::config::check::{Finding, findings, state_dir};
use crate::config::{Config, Loaded};
use crate::control::Control;
use crate::error::chain;
use crate::exit::ExitStatus;
use crate::membership;

/// How long the daemon may take to say that it works.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Looks at the folders of the configuration, at keys and at the daemon.
pub(super) async fn look(loaded: &Loaded) -> Vec<Check> {
    let found = findings(loaded);
    let mut checks = vec![owner(loaded)];
    if !found.iter().any(|finding| finding.key == "state_dir") {
        let folder = state_dir(&loaded.config).display();
        checks.push(Check::ok(
            "state",
            format!("`{folder}` can be used, and is closed to others"),
        ));
    }
    let places = match loaded.config {
        Config::Source(_) => "tree",
        Config::Agent(_) => "root",
        Config::Operator(_) => "",
    };
    let is_of_place = |finding: &Finding| finding.key.starts_with("volume.");
    if !places.is_empty() && !found.iter().any(is_of_place) {
        checks.push(Check::ok(
            places,
            "each can be used, and lies apart from the others",
        ));
    }
    checks.extend(found.into_iter().map(|finding| {
        let what = match finding.key.as_str() {
            "state_dir" => "state",
            "control_socket" => "control socket",
            _ => places,
        };
        let mend = finding.mend.unwrap_or_else(|| {
            let key = &finding.key;
            format!("give it to the user that runs the daemon, or name another as `{key}`")
        });
        Check::wrong(what, finding.message).mend(mend)
    }));
    checks.push(identity(&loaded.config));
    checks.extend(daemon(loaded).await);
    checks
}

/// Says whether what is found is what the daemon would find: its user is the one that owns its state.
fn owner(loaded: &Loaded) -> Check {
    let folder = state_dir(&loaded.config);
    let own = rustix::process::geteuid().as_raw();
    let Ok(owner) = fs::metadata(folder).map(|stat| stat.uid()) else {
        let message = format!("this is uid {own}; `{}` is not there yet", folder.display());
        return Check::skipped("user", message);
    };
    judge_owner(own, owner, &loaded.path.display().to_string())
}

fn judge_owner(own: u32, owner: u32, file: &str) -> Check {
    let mend = format!("sudo -u '#{owner}' codevol -C {file} doctor");
    match own {
        _ if own == owner => Check::ok("user", format!("this is uid {own}, which owns the state")),
        0 => Check::warning(
            "user",
            format!("this is root, and uid {owner} owns the state: what that user may not do does not show here"),
        )
        .mend(mend),
        _ => Check::wrong("user", format!("this is uid {own}, and uid {owner} owns the state"))
            .mend(mend),
    }
}

/// Opens the keys and what goes with them, as the daemon does when it starts.
fn identity(config: &Config) -> Check {
    let (opened, how) = match config {
        Config::Source(config) => {
            let opened = SourceIdentity::open(&config.state_dir).map(drop);
            let how = "`codevol init DIR` makes keys; restore the state folder if they are gone";
            (opened.map_err(|error| chain(&error)), how)
        }
        Config::Agent(config) => {
            let opened = AgentIdentity::open(&config.state_dir).map(drop);
            let how = "`codevol join TOKEN --root DIR` enrols this node";
            (opened.map_err(|error| chain(&error)), how)
        }
        Config::Operator(config) => {
            let opened = membership::open(&config.state_dir).map(drop);
            let how = "`codevol join TOKEN` enrols this machine";
            (opened.map_err(|error| chain(&error)), how)
        }
    };
    match opened {
        Ok(()) => Check::ok(
            "identity",
            "keys, and what goes with them, are there and belong together",
        ),
        Err(causes) => Check::wrong("identity", causes.join(": ")).mend(how),
    }
}

async fn daemon(loaded: &Loaded) -> Option<Check> {
    let control = Control::new(loaded).ok()?;
    let role = control.role();
    let asked = control.ask_now(&Call::Health { ready: true }, ANSWER_TIMEOUT);
    Some(match asked.await {
        Ok(_) => Check::ok("daemon", format!("the {role} runs, and is ready")),
        Err(error) => {
            let hint = error.hint.unwrap_or_default();
            let found = if error.exit == ExitStatus::NotPermitted {
                Check::skipped("daemon", error.message)
            } else {
                Check::warning("daemon", error.message)
            };
            if hint.is_empty() {
                found
            } else {
                found.mend(hint)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn only_the_owner_sees_what_the_daemon_sees() {
        let state = |own, owner| judge_owner(own, owner, "x.toml").state;
        assert_eq!(state(5, 5), State::Ok);
        assert_eq!(state(0, 0), State::Ok);
        assert_eq!(state(0, 5), State::Warning);
        assert_eq!(state(7, 5), State::Wrong);
        let mend = judge_owner(0, 5, "x.toml").mend.unwrap();
        assert_eq!(mend, "sudo -u '#5' codevol -C x.toml doctor");
    }
}
