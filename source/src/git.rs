//! What git says of a tree: commit and branch for the release record, and whether git is at work.
//!
//! git is asked by running it, with a deadline. A tree without git, a machine without git and a
//! repository that git refuses to read (`safe.directory`) are all the same here: nothing to say.
//! [`is_expected`] tells the first from the others. A git that does not answer is another thing: what is
//! published waits for it, and does so once in a while only.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use codevol_protocol::name::Text;
use codevol_protocol::release::Git;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

/// What is run.
const PROGRAM: &str = "git";
/// How long git may take for an answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long one that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(60);
/// As much of an answer as is read: the head, and whether one change follows it.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// What stands in the git directory while git works on the tree, or left it half-way.
const AT_WORK: [&str; 7] = [
    "index.lock",
    "HEAD.lock",
    "rebase-merge",
    "rebase-apply",
    "MERGE_HEAD",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
];

/// The git directory of a tree: of its worktree, where it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitDir {
    path: PathBuf,
}

impl GitDir {
    /// Asks git for the directory; the tree may be any directory of the repository.
    pub async fn find(root: &Path) -> Option<Self> {
        let answer = ask(PROGRAM, root, &["rev-parse", "--absolute-git-dir"]).await;
        let answer = answer.ok()??;
        let path = PathBuf::from(answer.strip_suffix('\n')?);
        path.is_absolute().then_some(Self { path })
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether git is at work on the tree right now, or waits for a person to end a merge or rebase.
    #[must_use]
    pub fn busy(&self) -> bool {
        AT_WORK
            .iter()
            .any(|name| self.path.join(name).symlink_metadata().is_ok())
    }

    /// Whether the coming or going of this name in the directory bears on [`Self::busy`].
    pub(crate) fn is_sign(name: &[u8]) -> bool {
        AT_WORK.iter().any(|sign| sign.as_bytes() == name)
    }
}

/// Whether a repository seems to begin at the tree or above it, whatever git says of it.
#[must_use]
pub fn is_expected(root: &Path) -> bool {
    let has_git = |dir: &Path| dir.join(".git").symlink_metadata().is_ok();
    root.ancestors().any(has_git)
}

/// Git did not answer in time, or did not of late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silent;

/// Asks git where a tree stands. One that did not answer is not asked again at once: each time whatever is
/// published would wait for it.
#[derive(Debug)]
pub struct Asker {
    program: PathBuf,
    left_alone_until: Option<Instant>,
}

impl Default for Asker {
    fn default() -> Self {
        Self {
            program: PROGRAM.into(),
            left_alone_until: None,
        }
    }
}

impl Asker {
    /// Asks where the tree stands. Only what lies in the tree counts as a difference.
    ///
    /// # Errors
    /// When git does not answer.
    pub async fn describe(&mut self, root: &Path) -> Result<Option<Git>, Silent> {
        let arguments = ["status", "--porcelain=v2", "--branch", "--", "."];
        let answer = self.ask(root, &arguments).await?;
        Ok(answer.as_deref().and_then(described))
    }

    /// Asks where one file stands: it differs where git does not hold it as it is.
    ///
    /// # Errors
    /// When git does not answer.
    pub async fn describe_file(&mut self, file: &Path) -> Result<Option<Git>, Silent> {
        let Ok(file) = std::path::absolute(file) else {
            return Ok(None);
        };
        let name = file.file_name().and_then(|name| name.to_str());
        let (Some(name), Some(folder)) = (name, file.parent()) else {
            return Ok(None);
        };
        let status = ["status", "--porcelain=v2", "--branch", "--ignored"];
        let arguments = [&["--literal-pathspecs"], &status[..], &["--", name]].concat();
        let answer = self.ask(folder, &arguments).await?;
        Ok(answer.as_deref().and_then(described))
    }

    async fn ask(&mut self, root: &Path, arguments: &[&str]) -> Result<Option<String>, Silent> {
        let until = self.left_alone_until;
        if until.is_some_and(|until| Instant::now() < until) {
            return Err(Silent);
        }
        let answer = ask(&self.program, root, arguments).await;
        match answer {
            Ok(_) if self.left_alone_until.take().is_some() => {
                info!(tree = %root.display(), "git answers again");
            }
            Ok(_) => {}
            Err(Silent) => {
                if until.is_none() {
                    warn!(
                        tree = %root.display(), waited_ms = DEADLINE.as_millis(), again_ms = PAUSE.as_millis(),
                        "git does not answer: releases bear no commit until it does; `git status` there, as this user, shows where it hangs"
                    );
                }
                self.left_alone_until = Some(Instant::now() + PAUSE);
            }
        }
        answer
    }
}

fn described(answer: &str) -> Option<Git> {
    let header = |name: &str| {
        let mut lines = answer.lines();
        lines.find_map(|line| line.strip_prefix("# branch.")?.strip_prefix(name))
    };
    let commit = header("oid ").filter(|oid| *oid != "(initial)")?;
    let branch = header("head ").filter(|head| *head != "(detached)");
    Some(Git {
        commit: Text::cut(commit),
        branch: branch.map(Text::cut),
        dirty: answer.lines().any(|line| !line.starts_with('#')),
    })
}

async fn ask(
    program: impl AsRef<Path>,
    root: &Path,
    arguments: &[&str],
) -> Result<Option<String>, Silent> {
    let asked = timeout(DEADLINE, run(program.as_ref(), root, arguments)).await;
    asked.or(Err(Silent))
}

async fn run(program: &Path, root: &Path, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        // A configured monitor would be a program out of the repository.
        .args(["-c", "core.fsmonitor=false", "-C"])
        .arg(root)
        .args(arguments)
        // Otherwise asking would take the very lock that says that git is at work.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut answer = Vec::new();
    let mut stdout = child.stdout.take()?.take(ANSWER_BYTES_MAX);
    stdout.read_to_end(&mut answer).await.ok()?;
    // What was cut off needs no end: the child dies with this function.
    let cut = answer.len() as u64 == ANSWER_BYTES_MAX;
    if !cut && !child.wait().await.ok()?.success() {
        return None;
    }
    Some(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
pub(crate) mod tests;
