//! A daemon that cannot go on: it stops as one that failed, and says so.

use std::fs;
use std::sync::Arc;

use codevol_tests::{Defines, Place, Source, project};

#[test]
fn a_source_that_cannot_save_fails_and_its_caller_hears_that_it_stops() {
    let place = Arc::new(Place::new());
    let mut source = Source::init(&place);
    project(&source, &Defines::asset("first"));
    source.start();
    // No file can take the place of a directory, whoever the user is.
    let register = source.file().with_file_name("state/volumes/pipes/rollout");
    fs::remove_file(&register).unwrap();
    fs::create_dir(&register).unwrap();
    let frozen = source.run(&["freeze"]);
    assert!(frozen.stderr.contains("the source is stopping"), "{frozen}");
    let ended = source.process().wait();
    let log = source.process().log();
    assert_eq!(ended.code(), Some(1), "{log}");
    let said: Vec<_> = log
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    assert_eq!(
        said,
        ["error: the daemon could not go on, and has stopped"],
        "{log}"
    );
}
