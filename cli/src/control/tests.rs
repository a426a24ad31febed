use std::os::unix::net::UnixListener;

use codevol_protocol::name::Text;
use tempfile::TempDir;

use super::*;

fn control(dir: &TempDir) -> Control {
    let start = "codevol -C codevol.toml source".to_owned();
    Control::of_socket(Role::Source, &socket(dir), start)
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("control.sock")
}

#[test]
fn a_daemon_that_does_not_run_is_unreachable() {
    let dir = TempDir::new().unwrap();
    let control = control(&dir);
    let absent = control.ask(&Call::Status).unwrap_err();
    // A socket that nobody listens on any more: the daemon was killed.
    drop(UnixListener::bind(socket(&dir)).unwrap());
    let refused = control.ask(&Call::Status).unwrap_err();
    for error in [absent, refused] {
        assert_eq!((error.exit.code(), &*error.kind), (69, "unreachable"));
        let hint = error.hint.unwrap();
        assert_eq!(hint, "`codevol -C codevol.toml source` starts it");
    }
}

#[test]
fn each_sort_of_failure_has_its_exit_status() {
    let sorts = [
        (FailureSort::Failed, 1),
        (FailureSort::Usage, 2),
        (FailureSort::Refused, 4),
        (FailureSort::Unavailable, 69),
        (FailureSort::Denied, 77),
        (FailureSort::Configuration, 78),
    ];
    for (sort, exit) in sorts {
        let mut failure = CallFailure::new(sort, "kind", "message").hint("hint");
        failure.causes.push(Text::cut("Cause (os error 13)"));
        let error = CommandError::from(failure);
        assert_eq!(error.exit.code(), exit);
        assert_eq!((&*error.kind, &*error.message), ("kind", "message"));
        assert_eq!(error.causes, ["cause"], "no bare number");
        assert_eq!(error.hint.as_deref(), Some("hint"));
    }
}
