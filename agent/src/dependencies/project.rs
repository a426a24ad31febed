//! What `pyproject.toml` says of dependencies. Pure.

use serde::Deserialize;

use super::requirement::Requirement;
use super::version::{Invalid, Specifiers};

/// What a project depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Project {
    pub(super) dependencies: Vec<Requirement>,
    /// Which Python it runs on.
    pub(super) python: Option<Specifiers>,
    /// What of it cannot be judged.
    pub(super) unjudged: Vec<String>,
    /// What Poetry's own table names; its rules about versions are Poetry's own too.
    pub(super) poetry: Vec<PoetryRoot>,
}

/// A direct dependency by Poetry's own table.
#[derive(Debug, Clone)]
pub(super) struct PoetryRoot {
    pub(super) name: String,
    pub(super) extras: Vec<String>,
    pub(super) markers: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    project: Option<ProjectTable>,
    tool: Option<Tool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ProjectTable {
    #[serde(default)]
    dependencies: Vec<String>,
    requires_python: Option<String>,
    #[serde(default)]
    dynamic: Vec<String>,
}

#[derive(Deserialize)]
struct Tool {
    poetry: Option<Poetry>,
}

#[derive(Deserialize)]
struct Poetry {
    #[serde(default)]
    dependencies: toml::Table,
}

const DEPENDENCIES_MAX: usize = 10_000;

/// Reads a file's text.
pub(super) fn read(text: &str) -> Result<Project, Invalid> {
    let document: Document = toml::from_str(text).or(Err(Invalid))?;
    let mut project = Project::default();
    if let Some(table) = document.project {
        project.take(table);
    }
    let poetry = document.tool.and_then(|tool| tool.poetry);
    let tables = poetry.map(|poetry| poetry.dependencies).unwrap_or_default();
    let named = tables.into_iter().filter(|(name, _)| name != "python");
    project.poetry = named
        .take(DEPENDENCIES_MAX)
        .flat_map(|(name, value)| poetry_roots(&name, &value))
        .collect();
    Ok(project)
}

impl Project {
    fn take(&mut self, table: ProjectTable) {
        if table.dynamic.iter().any(|key| key == "dependencies") {
            self.unjudged
                .push("its dependencies are dynamic".to_owned());
        }
        match table.requires_python.as_deref().map(str::parse) {
            Some(Ok(python)) => self.python = Some(python),
            Some(Err(Invalid)) => self
                .unjudged
                .push("its `requires-python` cannot be read".to_owned()),
            None => {}
        }
        if table.dependencies.len() > DEPENDENCIES_MAX {
            self.unjudged
                .push("it has too many dependencies".to_owned());
        }
        let mut unread = 0_usize;
        for text in table.dependencies.iter().take(DEPENDENCIES_MAX) {
            match text.parse() {
                Ok(requirement) => self.dependencies.push(requirement),
                Err(Invalid) => unread += 1,
            }
        }
        if unread > 0 {
            let what = format!("{unread} of its dependencies cannot be read");
            self.unjudged.push(what);
        }
    }
}

/// A dependency is a rule, a table, or a list of tables for several environments.
fn poetry_roots(name: &str, value: &toml::Value) -> Vec<PoetryRoot> {
    let tables = match value {
        toml::Value::Array(tables) => tables.as_slice(),
        one => std::slice::from_ref(one),
    };
    let is_optional = |table: &&toml::Value| {
        let optional = table.get("optional").and_then(toml::Value::as_bool);
        optional == Some(true)
    };
    let root = |table: &toml::Value| {
        let markers = table.get("markers").and_then(toml::Value::as_str);
        let extras = table.get("extras").and_then(toml::Value::as_array);
        let extras = extras.into_iter().flatten();
        PoetryRoot {
            name: name.to_owned(),
            extras: extras
                .filter_map(|extra| extra.as_str().map(str::to_owned))
                .collect(),
            markers: markers.map(str::to_owned),
        }
    };
    let needed = tables.iter().filter(|table| !is_optional(table));
    needed.map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_dependencies_are_read() {
        let project = read(
            "[project]\nname = \"x\"\nrequires-python = \">=3.10\"\n\
             dependencies = [\"dagster>=1.11\", \"polars; os_name == 'posix'\"]\n\
             [project.optional-dependencies]\ndev = [\"pytest\"]\n",
        )
        .unwrap();
        let names: Vec<&str> = project
            .dependencies
            .iter()
            .map(|requirement| requirement.name.as_str())
            .collect();
        assert_eq!(names, ["dagster", "polars"]);
        assert_eq!(project.python.unwrap().to_string(), ">=3.10");
        assert_eq!(project.unjudged, [""; 0]);
    }

    #[test]
    fn what_cannot_be_judged_is_said() {
        let project = read(
            "[project]\ndynamic = [\"version\", \"dependencies\"]\nrequires-python = \"^3\"\n\
             dependencies = [\"a b c\", \"fine\"]\n",
        )
        .unwrap();
        assert_eq!(
            project.unjudged,
            [
                "its dependencies are dynamic",
                "its `requires-python` cannot be read",
                "1 of its dependencies cannot be read",
            ]
        );
        assert_eq!(project.dependencies.len(), 1);
    }

    #[test]
    fn poetrys_own_table_names_what_is_needed() {
        let project = read(
            "[tool.poetry.dependencies]\npython = \"^3.11\"\npolars = \"^1.2\"\n\
             gone = { version = \"*\", optional = true }\n\
             dagster = { version = \"1.*\", extras = [\"s3\"], markers = \"os_name == 'posix'\" }\n\
             two = [{ version = \"1\" }, { version = \"2\" }]\n",
        )
        .unwrap();
        let names: Vec<&str> = project.poetry.iter().map(|root| &*root.name).collect();
        assert_eq!(names, ["dagster", "polars", "two", "two"]);
        assert_eq!(project.poetry[0].extras, ["s3"]);
        assert!(project.poetry[0].markers.is_some());
    }

    #[test]
    fn what_is_no_project_is_refused() {
        let deep = "x = ".to_owned() + &"[".repeat(10_000);
        for text in ["[project", "[project]\ndependencies = \"x\"", &deep] {
            assert!(read(text).is_err(), "{text:.40} was taken");
        }
        assert!(read("").unwrap().dependencies.is_empty());
    }
}
