use super::super::environment::tests::installed;
use super::super::lock;
use super::super::requirements::{self, Line};
use super::*;

fn wants(text: &str) -> Wants {
    let mut wants = Wants::default();
    for (line, said) in requirements::lines(text) {
        let Line::Wants(requirement) = said else {
            panic!("{said:?}");
        };
        wants.wants.push(Want {
            requirement: *requirement,
            source: source(Some(line)),
        });
    }
    wants
}

fn source(line: Option<u32>) -> Source {
    Source {
        file: "r.txt".to_owned(),
        line,
    }
}

fn shown(compared: &Compared) -> Vec<String> {
    let one = |misfit: &Misfit| {
        let installed = misfit.installed.as_deref().unwrap_or("none");
        format!(
            "{}{} {installed} {}",
            misfit.name, misfit.wanted, misfit.source
        )
    };
    compared.misfits.values().map(one).collect()
}

#[test]
fn what_is_missing_or_another_version_is_found_with_its_line() {
    let environment = installed(
        &[("polars", "1.2.0"), ("pandas", "2.0"), ("foo-bar", "1")],
        &[],
        None,
    );
    let compared = compare(
        &wants("polars==1.2\npandas>=2.1\nFoo_Bar\nrich[all]<14\nPolars>1\n"),
        &environment,
    );
    assert_eq!(
        shown(&compared),
        ["pandas>=2.1 2.0 r.txt:2", "rich<14 none r.txt:4"]
    );
    assert_eq!(compared.unjudged, [""; 0]);
}

#[test]
fn a_requirement_of_another_system_is_none_here_and_an_open_one_is_said() {
    let environment = installed(&[], &[], None);
    let text = "a; sys_platform == 'win32'\nb; python_version < '3'\nc; platform_release > '5'\n";
    let compared = compare(&wants(text), &environment);
    assert_eq!(shown(&compared), [""; 0]);
    assert_eq!(
        compared.unjudged,
        ["r.txt:3: whether it applies here cannot be told"]
    );
}

#[test]
fn constraints_bound_what_is_wanted_and_nothing_else() {
    let environment = installed(&[("polars", "2"), ("pandas", "2")], &[], None);
    let mut asked = wants("polars>=1\n");
    asked.bounds = wants("polars<2\npandas<2\nPolars<1; os_name == 'nt'\n").wants;
    assert_eq!(
        shown(&compare(&asked, &environment)),
        ["polars>=1,<2 2 r.txt:1"]
    );
}

#[test]
fn what_comes_from_a_url_is_only_looked_for() {
    let environment = installed(&[("here", "1")], &[], None);
    let compared = compare(
        &wants("here @ https://x/y.whl\ngone @ git+https://x/z\n"),
        &environment,
    );
    assert_eq!(shown(&compared), ["gone from a URL none r.txt:2"]);
    assert_eq!(
        compared.unjudged,
        ["r.txt:1: it comes from a URL: only that it is installed can be told"]
    );
    // An index may have another package under that name.
    assert_eq!(mend(compared.misfits.values(), &environment), None);
}

#[test]
fn a_lock_wants_exact_versions_and_says_most() {
    let mut asked = wants("polars>=1\n");
    let text = "[[package]]\nname = \"p\"\nsource = { virtual = \".\" }\n\
                dependencies = [{ name = \"polars\" }, { name = \"rich\" }]\n\
                [[package]]\nname = \"polars\"\nversion = \"1.2\"\n\
                [[package]]\nname = \"rich\"\nversion = \"13.0\"\n";
    asked.locks.push((lock::uv(text).unwrap(), source(None)));
    let environment = installed(&[("rich", "13.1")], &[], None);
    assert_eq!(
        shown(&compare(&asked, &environment)),
        ["polars==1.2 none r.txt", "rich==13.0 13.1 r.txt"]
    );
}

#[test]
fn the_interpreter_itself_may_be_the_wrong_one() {
    let asked = |rule: &str| {
        let mut wants = Wants::default();
        wants.pythons = vec![(rule.parse().unwrap(), source(None))];
        wants
    };
    let mut environment = installed(&[], &[], None);
    let found = compare(&asked(">=3.12"), &environment);
    assert_eq!(shown(&found), ["python>=3.12 3.11.7 r.txt"]);
    // There is no command for that.
    assert_eq!(mend(found.misfits.values(), &environment), None);
    assert_eq!(shown(&compare(&asked(">=3.11.5"), &environment)), [""; 0]);
    environment.facts.full = None;
    assert_eq!(
        shown(&compare(&asked(">=3.10,<3.13"), &environment)),
        [""; 0]
    );
    let open = compare(&asked(">=3.11.5"), &environment);
    assert_eq!(shown(&open), [""; 0]);
    assert_eq!(
        open.unjudged,
        ["r.txt: whether Python 3.11 is >=3.11.5 cannot be told"]
    );
}

#[test]
fn an_installed_version_that_is_none_is_said_to_be_open() {
    let environment = installed(&[("polars", "dev-branch")], &[], None);
    let compared = compare(&wants("polars==1\n"), &environment);
    assert_eq!(shown(&compared), [""; 0]);
    assert_eq!(
        compared.unjudged,
        ["polars: its installed version cannot be compared"]
    );
    assert_eq!(compare(&wants("polars\n"), &environment).unjudged, [""; 0]);
}

#[test]
fn the_command_that_mends_it_is_the_environments_own_and_safe_to_paste() {
    let asked = wants("polars==1.2\npandas>=2,<3\n");
    let mut environment = installed(&[("pip", "24")], &[], None);
    let command = |environment: &Installed| {
        mend(compare(&asked, environment).misfits.values(), environment).unwrap()
    };
    assert_eq!(
        command(&environment),
        "/opt/venv/bin/python -m pip install 'pandas>=2,<3' 'polars==1.2'"
    );
    environment.packages.clear();
    environment.python = "/opt/it's/bin/python".into();
    assert_eq!(
        command(&environment),
        r"uv pip install --python '/opt/it'\''s/bin/python' 'pandas>=2,<3' 'polars==1.2'"
    );
}
