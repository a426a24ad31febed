//! The user's own error out of Dagster's: the cause that lies in the user's files, with Dagster's
//! frames left out and counted.

use codevol_protocol::name::Text;

use super::observe::ErrorInfo;
use super::place::Place;

/// Why the code did not load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadFailure {
    /// The error, `ModuleNotFoundError: No module named 'polars'`.
    pub message: Text,
    /// The frames that are not Dagster's, oldest first, paths relative to the tree.
    pub traceback: Text,
    /// How many frames were left out.
    pub hidden_frames: u32,
    /// Where in the tree it happened: file and line.
    pub location: Option<(Text, u32)>,
    /// The server's Python environment and its version, `/opt/venv, 3.11`, as far as Dagster's own
    /// frames tell.
    pub python: Option<Text>,
}

impl LoadFailure {
    /// Makes a failure that has no traceback.
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self {
            message: Text::cut(message),
            traceback: Text::default(),
            hidden_frames: 0,
            location: None,
            python: None,
        }
    }

    /// Folds Dagster's error.
    pub(super) fn fold(error: &ErrorInfo) -> Self {
        let users = users_error(error);
        let entry = users.stack.iter().position(|frame| is_users(frame));
        let kept: Vec<&String> = users
            .stack
            .iter()
            .skip(entry.unwrap_or_default())
            .filter(|frame| !is_machinery(frame))
            .collect();
        let all: usize = chain(error).map(|error| error.stack.len()).sum();
        let (detail, message) = split_message(users);
        let mut traceback: String = kept.iter().map(|frame| relative(frame)).collect();
        traceback.push_str(&relative(detail));
        // A syntax error's file and line stand in its message, the importing file in its stack.
        let location = located(detail).or_else(|| {
            let mut frames = users.stack.iter().rev();
            frames.find_map(|frame| located(frame))
        });
        Self {
            message: Text::cut(message),
            traceback: Text::cut(traceback),
            hidden_frames: u32::try_from(all - kept.len()).unwrap_or(u32::MAX),
            location: location.map(|(file, line)| (Text::cut(file), line)),
            python: chain(error)
                .flat_map(|error| &error.stack)
                .find_map(|frame| python_of(frame_of(frame)?.0)),
        }
    }
}

/// Returns the name of the release's directory in which the error arose, if it lies in one.
pub(super) fn release_of(error: &ErrorInfo) -> Option<&str> {
    users_error(error)
        .stack
        .iter()
        .rev()
        .find_map(|frame| match Place::of(frame_of(frame)?.0) {
            Place::Release(name, _) => Some(name),
            Place::Current(_) | Place::Outside => None,
        })
}

/// Whether any of the error's causes arose in the user's files.
pub(super) fn in_users_files(error: &ErrorInfo) -> bool {
    chain(error).any(names_users_file)
}

/// The error and its causes, outermost first. What an error arose *during* counts only until one
/// lies in the user's files: Dagster raises its own with a cause.
fn chain(error: &ErrorInfo) -> impl Iterator<Item = &ErrorInfo> {
    let mut found = false;
    std::iter::successors(Some(error), move |error| {
        found |= names_users_file(error);
        let context = error.context.as_deref().filter(|_| !found);
        error.cause.as_deref().or(context)
    })
}

/// The deepest cause that lies in the user's files, or else the deepest.
fn users_error(error: &ErrorInfo) -> &ErrorInfo {
    let deepest = |found, error| {
        if names_users_file(error) {
            Some(error)
        } else {
            found
        }
    };
    chain(error)
        .fold(None, deepest)
        .or_else(|| chain(error).last())
        .unwrap_or(error)
}

fn names_users_file(error: &ErrorInfo) -> bool {
    located(&error.message).is_some() || error.stack.iter().any(|frame| is_users(frame))
}

fn is_users(frame: &str) -> bool {
    located(frame).is_some()
}

/// Returns the environment in which a file of Dagster is installed, and its version of Python:
/// `/opt/venv/lib/python3.11/site-packages/dagster/x.py` lies in that of `/opt/venv`.
fn python_of(path: &str) -> Option<Text> {
    let (library, file) = installed(path)?;
    let (environment, python) = library.rsplit_once("/lib/python")?;
    let is_version =
        python.contains('.') && python.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (is_version && file.starts_with("dagster"))
        .then(|| Text::cut(format!("{environment}, {python}")))
}

/// Splits the path of an installed file at the folder of installed packages.
fn installed(path: &str) -> Option<(&str, &str)> {
    let split = path.rsplit_once("/site-packages/");
    split.or_else(|| path.rsplit_once("/dist-packages/"))
}

/// Whether a frame is Dagster's or the import system's.
fn is_machinery(frame: &str) -> bool {
    let Some((path, _)) = frame_of(frame) else {
        return false;
    };
    path.starts_with("<frozen importlib")
        || path.ends_with("/importlib/__init__.py")
        || installed(path).is_some_and(|(_, file)| file.starts_with("dagster"))
}

/// Splits an error's text into its details (a syntax error's place, a traceback within the text)
/// and the error.
fn split_message(error: &ErrorInfo) -> (&str, &str) {
    let text = error.message.trim_end();
    if frame_of(text).is_none() {
        let (message, detail) = text.split_once("\n\nStack Trace:\n").unwrap_or((text, ""));
        return (detail, message);
    }
    let class = error.cls_name.as_deref().unwrap_or_default();
    let error_line = text
        .match_indices('\n')
        .map(|(at, _)| text.split_at(at + 1))
        .find(|(_, line)| line.starts_with(class));
    error_line.unwrap_or(("", text))
}

/// Returns file and line of a frame, the file relative to the user's tree; nothing for others.
fn located(frame: &str) -> Option<(&str, u32)> {
    let (path, line) = frame_of(frame)?;
    Some((Place::of_user(path)?, line))
}

/// Reads `File "PATH", line N` at the beginning of a frame.
fn frame_of(frame: &str) -> Option<(&str, u32)> {
    let quoted = frame.trim_start().strip_prefix("File \"")?;
    let (path, rest) = quoted.split_once("\", line ")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((path, digits.parse().ok()?))
}

/// Returns a frame with its path relative to the user's tree.
fn relative(frame: &str) -> String {
    match (frame_of(frame), located(frame)) {
        (Some((path, _)), Some((file, _))) => frame.replacen(path, file, 1),
        _ => frame.to_owned(),
    }
}

#[cfg(test)]
mod tests;
