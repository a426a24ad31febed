use codevol_protocol::evidence::CodeServerKind;
use proptest::prelude::*;

use super::environment::tests::Laid;
use super::imports::imports;
use super::marker::Marker;
use super::requirement::Requirement;
use super::version::{Specifiers, Version};
use super::*;
use crate::config::{CodeServerConfig, DependencyPolicy, DriftMode};

const FIRST: &str = "127.0.0.1:4000";
const SECOND: &str = "127.0.0.1:4001";

pub(super) fn volume(servers: &[(&str, Option<PathBuf>)], python: Option<PathBuf>) -> VolumeConfig {
    let server = |(address, python): &(&str, Option<PathBuf>)| CodeServerConfig {
        address: address.parse().unwrap(),
        kind: CodeServerKind::Auto,
        verify_timeout: std::time::Duration::from_secs(1),
        python: python.clone(),
    };
    VolumeConfig {
        name: "pipes".parse().unwrap(),
        root: "/nowhere".into(),
        keep: 1,
        drift: DriftMode::Report,
        scrub: std::time::Duration::from_secs(3_600),
        dependencies: DependencyPolicy::Warn,
        python,
        requirements: Vec::new(),
        code_servers: servers.iter().map(server).collect(),
    }
}

fn with_dagster(version: &str) -> Laid {
    let laid = Laid::new();
    let metadata = format!("Name: dagster\nVersion: {version}\n");
    laid.package(&format!("dagster-{version}.dist-info"), &metadata);
    laid
}

fn said(python: &Path, dagster: &str) -> Said {
    Said {
        python: python.to_str().unwrap().to_owned(),
        dagster: Some(dagster.to_owned()),
    }
}

/// Returns the interpreters that are compared with, and what could not be judged.
fn read(dependencies: &mut Dependencies) -> (Vec<PathBuf>, Vec<String>) {
    let mut unjudged = Vec::new();
    let pythons = dependencies.read_environments(&mut unjudged);
    (pythons, unjudged)
}

#[test]
fn a_code_server_is_believed_where_its_path_leads_to_its_own_dagster() {
    let (laid, other) = (with_dagster("1.11.2"), with_dagster("1.10.0"));
    let mut dependencies = Dependencies::new(&volume(&[(FIRST, None), (SECOND, None)], None));
    let (pythons, unjudged) = read(&mut dependencies);
    assert!(pythons.is_empty());
    assert!(unjudged[0].starts_with("127.0.0.1:4000 has not said yet which Python"));
    assert_eq!(unjudged.len(), 2);
    let mut hear = |address: &str, said| dependencies.said.insert(address.to_owned(), said);
    hear(FIRST, said(&laid.python(), "1.11.2"));
    // The same path in another container is another environment.
    hear(SECOND, said(&other.python(), "1.11.2"));
    let (pythons, unjudged) = read(&mut dependencies);
    assert_eq!(pythons, [laid.python()]);
    let python = other.python();
    assert_eq!(
        unjudged,
        [format!(
            "127.0.0.1:4001 runs Dagster 1.11.2, and `{}` on this host has 1.10.0; `python` in its \
             table names the right one",
            python.display()
        )]
    );
}

#[test]
fn what_the_configuration_names_is_compared_whatever_a_code_server_says() {
    let (own, of_volume) = (with_dagster("1.11.2"), with_dagster("1.10.0"));
    let servers = [(FIRST, Some(own.python())), (SECOND, None)];
    let config = volume(&servers, Some(of_volume.python()));
    let mut dependencies = Dependencies::new(&config);
    assert_eq!(
        read(&mut dependencies).0,
        [own.python(), of_volume.python()]
    );
    let elsewhere = said(Path::new("/elsewhere/bin/python"), "1.9");
    dependencies.said.insert(FIRST.to_owned(), elsewhere);
    let (pythons, unjudged) = read(&mut dependencies);
    assert_eq!(pythons, [own.python(), of_volume.python()]);
    assert!(unjudged[0].contains("runs Dagster 1.9"), "{unjudged:?}");
}

#[test]
fn an_environment_that_cannot_be_read_is_said_and_read_once_it_is_there() {
    let laid = with_dagster("1.11.2");
    let gone = laid.python().with_file_name("gone");
    let mut dependencies = Dependencies::new(&volume(&[], Some(gone.clone())));
    let (pythons, unjudged) = read(&mut dependencies);
    assert!(pythons.is_empty());
    assert!(unjudged[0].starts_with("cannot read `"), "{unjudged:?}");
    std::fs::copy(laid.python(), &gone).unwrap();
    assert_eq!(read(&mut dependencies).0, [gone]);
}

#[test]
fn nothing_is_compared_where_there_is_nothing_to_compare_with_or_it_is_off() {
    assert!(!Dependencies::new(&volume(&[], None)).is_on());
    let mut config = volume(&[(FIRST, None)], None);
    assert!(Dependencies::new(&config).is_on());
    config.dependencies = DependencyPolicy::Off;
    assert!(!Dependencies::new(&config).is_on());
}

#[test]
fn what_is_found_is_cut_to_what_may_be_told_and_the_rest_counted() {
    let drift = |n: usize| ImportDrift {
        module: short(&"m".repeat(TOLD_BYTES_MAX + 9)),
        python: Text::cut("/bin/python"),
        file: Text::cut(format!("{n}.py")),
        line: 1,
    };
    let findings = Findings {
        imports: (0..DRIFTS_MAX + 3).map(drift).collect(),
        unjudged: vec!["twice".to_owned(), "twice".to_owned()],
        ..Findings::default()
    };
    let found = findings.cut();
    assert_eq!(found.imports.len(), DRIFTS_MAX);
    assert_eq!(found.left_out, 3);
    assert_eq!(found.unjudged.len(), 1);
    assert_eq!(found.imports[0].module.as_str().len(), TOLD_BYTES_MAX);
}

proptest! {
    #[test]
    fn no_text_of_a_stranger_makes_a_reader_fall_over(text in "\\PC*|[-a-z0-9.<>=!~;'\"\\[\\]()\\n\\\\ #@+*,]*") {
        drop(text.parse::<Version>());
        drop(text.parse::<Specifiers>());
        drop(text.parse::<Marker>());
        drop(text.parse::<Requirement>());
        drop(requirements::lines(&text));
        drop(project::read(&text));
        drop(lock::uv(&text));
        drop(imports(&text));
    }

    #[test]
    fn a_version_says_itself(text in "([0-9]!)?[0-9]{1,3}(\\.[0-9]{1,3}){0,3}((a|b|rc)[0-9])?(\\.post[0-9])?(\\.dev[0-9])?(\\+[a-z0-9]{1,4})?") {
        let version: Version = text.parse().unwrap();
        let again: Version = version.to_string().parse().unwrap();
        prop_assert_eq!(version, again);
    }
}
