use super::*;

fn facts(full: Option<&str>) -> Facts {
    Facts {
        python: (3, 11),
        full: full.map(str::to_owned),
        machine: "x86_64".to_owned(),
        any_extra: false,
    }
}

fn holds(text: &str) -> Option<bool> {
    let marker: Marker = text.parse().unwrap_or_else(|Invalid| panic!("{text}"));
    marker.holds(&facts(Some("3.11.7")))
}

#[test]
fn a_marker_is_evaluated_for_the_environment() {
    for (text, expected) in [
        ("python_version >= '3.9'", true),
        // As versions: by their texts it would be the other way round.
        ("python_version < \"3.9\"", false),
        ("'3.9' <= python_version", true),
        ("python_full_version == '3.11.7'", true),
        ("python_version in '3.10 3.11'", true),
        ("python_version not in '3.10 3.11'", false),
        ("sys_platform == 'win32' or os_name == 'posix'", true),
        ("sys_platform == 'win32' and os_name == 'posix'", false),
        ("platform_system == 'Darwin'", false),
        ("platform_machine == 'x86_64'", true),
        ("implementation_name == 'cpython'", true),
        ("platform.python_implementation != 'PyPy'", true),
        ("extra == 's3'", false),
        ("(python_version > '3' and (sys_platform == 'linux'))", true),
        // `and` binds closer than `or`.
        (
            "os_name == 'posix' or os_name == 'nt' and os_name == 'nt'",
            true,
        ),
    ] {
        assert_eq!(holds(text), Some(expected), "{text}");
    }
}

#[test]
fn what_is_not_known_leaves_a_marker_open_unless_it_does_not_matter() {
    assert_eq!(holds("platform_release > '5'"), None);
    assert_eq!(
        holds("platform_release > '5' and os_name == 'nt'"),
        Some(false)
    );
    assert_eq!(
        holds("platform_version == 'x' or os_name == 'posix'"),
        Some(true)
    );
    let without = |text: &str| {
        let marker: Marker = text.parse().unwrap();
        marker.holds(&facts(None))
    };
    assert_eq!(without("python_full_version < '3.12'"), Some(true));
    assert_eq!(without("'3.9.1' <= python_full_version"), Some(true));
    assert_eq!(without("python_full_version < '3.11.4'"), None);
    assert_eq!(without("python_full_version == '3.11.4'"), None);
}

#[test]
fn what_is_no_marker_is_refused() {
    let deep = "(".repeat(DEPTH_MAX + 1) + "os_name == 'x'" + &")".repeat(DEPTH_MAX + 1);
    let long = format!("os_name == '{}'", "x".repeat(BYTES_MAX));
    for text in [
        "",
        "os_name",
        "os_name ==",
        "os_name == posix",
        "os_name = 'x'",
        "os_name == 'x",
        "(os_name == 'x'",
        "os_name == 'x')",
        "os_name == 'x' and",
        "os_name not 'x'",
        "os_name == 'x' os_name == 'y'",
        "$(id) == 'x'",
        &deep,
        &long,
    ] {
        assert!(text.parse::<Marker>().is_err(), "{text:?} was taken");
    }
}
