use super::*;

const RELEASE: &str = "000042-3f9ac1d2";

fn listing(json: &str) -> Listing {
    let answer = Answer::parse(json);
    let Answer::Listed(listing) = answer else {
        panic!("not a listing: {answer:?}");
    };
    listing
}

fn pointing(pointers: &str, marker: &str) -> Origin {
    listing(&format!(
        r#"{{"__class__": "ListRepositoriesResponse",
            "repository_code_pointer_dict": {{{pointers}}},
            "dagster_library_versions": {{"dagster": "1.13.27"{marker}}}}}"#
    ))
    .origin()
}

fn file(directory: &str, file: &str) -> Origin {
    pointing(
        &format!(
            r#""r": {{"__class__": "FileCodePointer", "fn_name": "defs",
                "python_file": "{file}", "working_directory": {directory}}}"#
        ),
        "",
    )
}

#[test]
fn a_listing_says_which_python_it_runs() {
    let said = |json: &str| Answer::parse(json).python();
    let file = said(include_str!("../fixtures/listed-file.json"));
    let expected = Said {
        python: "/opt/venv/bin/python3".to_owned(),
        dagster: Some("1.13.27".to_owned()),
    };
    assert_eq!(file, Some(expected));
    assert_eq!(said(include_str!("../fixtures/import-error.json")), None);
    let reply = |path: &str| {
        format!(
            r#"{{"__class__": "ListRepositoriesResponse", "repository_code_pointer_dict": {{}},
                "executable_path": {path}}}"#
        )
    };
    assert_eq!(said(&reply("\"python3\"")), None);
    assert_eq!(said(&reply("null")), None);
    assert!(said(&reply("\"/bin/python3\"")).unwrap().dagster.is_none());
}

#[test]
fn recorded_listings_say_where_the_code_comes_from() {
    let cases = [
        (
            include_str!("../fixtures/listed-file.json"),
            Origin::Current,
        ),
        (
            include_str!("../fixtures/listed-module.json"),
            Origin::Current,
        ),
        (
            include_str!("../fixtures/listed-inside-release.json"),
            Origin::Release("000001-aaaaaaaa".into()),
        ),
    ];
    for (json, origin) in cases {
        assert_eq!(listing(json).origin(), origin);
    }
}

#[test]
fn a_pointer_counts_by_where_its_modules_and_its_file_lie() {
    let cases = [
        // The entry file is named through `current`, from anywhere.
        (file("\"/\"", "/vol/current/defs.py"), Origin::Current),
        (file("null", "/vol/current/defs.py"), Origin::Current),
        (file("\"/vol/current/sub\"", "defs.py"), Origin::Current),
        // Its modules come from a release that the working directory names.
        (
            file("\"/vol/releases/000001-aaaaaaaa\"", "/vol/current/defs.py"),
            Origin::Release("000001-aaaaaaaa".into()),
        ),
        (
            file("\"/\"", "/vol/releases/000042-3f9ac1d2/defs.py"),
            Origin::Release(RELEASE.into()),
        ),
        (file("\"/vol/current\"", "/app/defs.py"), Origin::Outside),
        (file("\"/app\"", "defs.py"), Origin::Outside),
        (file("null", "defs.py"), Origin::Outside),
    ];
    for (at, (origin, expected)) in cases.into_iter().enumerate() {
        assert_eq!(origin, expected, "case {at}");
    }
}

#[test]
fn a_pointer_of_a_class_that_says_nothing_is_outside() {
    let custom = r#""r": {"__class__": "CustomPointer", "reconstructable_args": []}"#;
    assert_eq!(pointing(custom, ""), Origin::Outside);
    assert_eq!(pointing("", ""), Origin::Outside);
}

#[test]
fn of_several_repositories_the_one_that_does_not_follow_counts() {
    let current = r#""a": {"python_file": "/vol/current/a.py"}"#;
    let outside = r#""b": {"python_file": "/app/b.py"}"#;
    let stuck = r#""c": {"python_file": "/vol/releases/000001-aaaaaaaa/c.py"}"#;
    assert_eq!(
        pointing(&format!("{current}, {outside}"), ""),
        Origin::Outside
    );
    assert_eq!(
        pointing(&format!("{stuck}, {current}, {outside}"), ""),
        Origin::Release("000001-aaaaaaaa".into())
    );
}

#[test]
fn the_shims_marker_says_more_than_a_pointer() {
    let outside = r#""r": {"python_file": "/app/shim.py"}"#;
    let id = format!("3f9ac1d2{}", "0".repeat(56));
    for marker in [RELEASE, &id] {
        let origin = pointing(outside, &format!(r#", "codevol-release": "{marker}""#));
        assert!(origin.names(RELEASE), "{marker}");
        assert!(!origin.names("000043-3f9ac1d3"), "{marker}");
    }
    // A directory's name is compared whole.
    assert!(!Origin::Release("000041-3f9ac1d2".into()).names(RELEASE));
}

#[test]
fn recorded_errors_are_load_errors() {
    for (json, class) in [
        (
            include_str!("../fixtures/import-error.json"),
            "DagsterImportError",
        ),
        (
            include_str!("../fixtures/syntax-error.json"),
            "DagsterUserCodeLoadError",
        ),
        (include_str!("../fixtures/exit-on-import.json"), "Exception"),
    ] {
        let answer = Answer::parse(json);
        let Answer::LoadError(error) = answer else {
            panic!("not an error: {answer:?}");
        };
        assert_eq!(error.cls_name.as_deref(), Some(class));
    }
}

#[test]
fn what_is_no_such_answer_proves_nothing() {
    let deep = format!(
        "{}null{}",
        r#"{"__class__": "SerializableErrorInfo", "message": "", "cause": "#.repeat(10_000),
        "}".repeat(10_000)
    );
    for json in [
        "",
        "null",
        "[]",
        "\"healthy\"",
        "{}",
        r#"{"__class__": "ListRepositoriesResponse"}"#,
        r#"{"__class__": "SomethingElse", "repository_code_pointer_dict": {}}"#,
        &deep,
    ] {
        assert!(matches!(
            Answer::parse(json),
            Answer::Failed(CallError::Lost(_))
        ));
    }
}
