use super::super::project::{self, Project};
use super::*;

fn facts() -> Facts {
    Facts {
        python: (3, 11),
        full: None,
        machine: "x86_64".to_owned(),
        any_extra: false,
    }
}

fn shown(lock: &Lock) -> (Vec<String>, usize) {
    let needs = lock.needs(&facts());
    let one = |(name, version): (&PackageName, &Option<Version>)| match version {
        Some(version) => format!("{name} {version}"),
        None => name.to_string(),
    };
    (needs.packages.iter().map(one).collect(), needs.open)
}

const UV: &str = r#"
version = 1
requires-python = ">=3.10"

[[package]]
name = "pipes"
version = "0.1.0"
source = { editable = "." }
dependencies = [
    { name = "dagster", extra = ["s3"] },
    { name = "shared" },
    { name = "colorama", marker = "sys_platform == 'win32'" },
    { name = "numpy", version = "1.26.4", source = { registry = "x" }, marker = "python_version < '3.12'" },
    { name = "numpy", version = "2.1.0", source = { registry = "x" }, marker = "python_version >= '3.12'" },
    { name = "odd", marker = "platform_release > '5'" },
]

[package.dev-dependencies]
dev = [{ name = "pytest" }]

[package.metadata]
requires-dist = [{ name = "dagster" }]

[[package]]
name = "shared"
source = { directory = "libs/shared" }
dependencies = [{ name = "orjson" }]

[[package]]
name = "dagster"
version = "1.11.2"
source = { registry = "https://pypi.org/simple" }
dependencies = [{ name = "click" }]

[package.optional-dependencies]
s3 = [{ name = "boto3" }]
gcs = [{ name = "gcsfs" }]

[[package]]
name = "click"
version = "8.1.7"
dependencies = [{ name = "dagster" }]

[[package]]
name = "boto3"
version = "1.34.0"

[[package]]
name = "gcsfs"
version = "1"

[[package]]
name = "orjson"
version = "3.10.0"

[[package]]
name = "colorama"
version = "0.4.6"

[[package]]
name = "numpy"
version = "1.26.4"

[[package]]
name = "numpy"
version = "2.1.0"

[[package]]
name = "pytest"
version = "8.0.0"

[[package]]
name = "odd"
version = "1"
"#;

#[test]
fn a_uv_lock_names_what_the_project_needs_and_no_more() {
    let (packages, open) = shown(&uv(UV).unwrap());
    assert_eq!(
        packages,
        [
            "boto3 1.34.0",
            "click 8.1.7",
            "dagster 1.11.2",
            "numpy 1.26.4",
            "orjson 3.10.0",
        ]
    );
    assert_eq!(open, 1);
}

#[test]
fn a_workspace_without_a_project_of_its_own_needs_what_its_members_do() {
    let text = UV.replace("editable = \".\"", "editable = \"packages/pipes\"");
    let (packages, _) = shown(&uv(&text).unwrap());
    assert!(packages.contains(&"dagster 1.11.2".to_owned()));
}

const POETRY: &str = r#"
[[package]]
name = "dagster"
version = "1.11.2"
optional = false

[package.dependencies]
click = ">=5.0"
s3fs = {version = "*", optional = true, markers = "extra == \"s3\""}
gone = {version = "*", optional = true, markers = "extra == \"other\""}
never = {version = "*", optional = true, markers = "extra == \"s3\" and sys_platform == \"win32\""}
tomli = {version = ">=1", markers = "python_version < \"3.11\""}
protobuf = [
    {version = ">=3", markers = "python_version < \"3.11\""},
    {version = ">=4", markers = "python_version >= \"3.11\""},
]

[package.extras]
s3 = ["s3fs (>=2023)", "never"]
other = ["gone"]

[[package]]
name = "click"
version = "8.1.7"

[[package]]
name = "s3fs"
version = "2024.1.0"

[[package]]
name = "gone"
version = "1"

[[package]]
name = "tomli"
version = "2"

[[package]]
name = "protobuf"
version = "4.25.0"

[[package]]
name = "pytest"
version = "8.0.0"

[metadata]
lock-version = "2.0"
"#;

#[test]
fn a_poetry_lock_is_followed_from_the_project_beside_it() {
    let own = "[tool.poetry.dependencies]\npython = \"^3.11\"\n\
               dagster = { version = \"^1\", extras = [\"s3\"] }\n";
    let standard = "[project]\ndependencies = [\"dagster[s3]>=1\"]\n";
    for project in [own, standard] {
        let project = project::read(project).unwrap();
        let (packages, open) = shown(&poetry(POETRY, &project).unwrap());
        assert_eq!(
            packages,
            [
                "click 8.1.7",
                "dagster 1.11.2",
                "protobuf 4.25.0",
                "s3fs 2024.1.0"
            ]
        );
        assert_eq!(open, 0);
    }
    assert!(poetry(POETRY, &Project::default()).is_err());
}

#[test]
fn what_is_no_lock_or_names_no_project_is_refused() {
    for text in [
        "package = 1",
        "[[package]]\nname = \"a b\"\nversion = \"1\"\n",
        "[[package]]\nname = \"a\"\nversion = \"one\"\nsource = { virtual = \".\" }\n",
        // Nothing says what of it is needed.
        "[[package]]\nname = \"a\"\nversion = \"1\"\n",
    ] {
        assert!(uv(text).is_err(), "{text:?} was taken");
    }
}

#[test]
fn a_package_that_is_locked_twice_is_only_looked_for() {
    let text = "[[package]]\nname = \"p\"\nsource = { virtual = \".\" }\n\
                dependencies = [{ name = \"x\" }]\n\
                [[package]]\nname = \"x\"\nversion = \"1\"\n\
                [[package]]\nname = \"x\"\nversion = \"2\"\n";
    assert_eq!(shown(&uv(text).unwrap()).0, ["x"]);
}

#[test]
fn a_lock_whose_extras_go_round_in_circles_ends() {
    let text = "[[package]]\nname = \"p\"\nsource = { virtual = \".\" }\n\
                dependencies = [{ name = \"p\", extra = [\"a\"] }]\n\
                [package.optional-dependencies]\na = [{ name = \"p\", extra = [\"a\"] }]\n";
    assert_eq!(shown(&uv(text).unwrap()).0, [""; 0]);
}
