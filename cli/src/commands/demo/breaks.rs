//! The part of the story in which something breaks, and what codevol does about it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use codevol_protocol::status::NodeState;

use super::fleet::AGENTS;
use super::story::{ASK, Cast, within};
use crate::error::CommandError;
use crate::output::units;

const BROKEN_LINE: &str = "import a_module_that_nobody_has\n";

impl Cast<'_> {
    /// With real code servers: an import that fails, and the way back.
    pub(super) async fn break_code(&self) -> Result<(), CommandError> {
        let good = self.fleet.status().await?.live.unwrap_or_default();
        let file = self.project.tree.join(&self.project.edited);
        let whole = fs::read(&file)
            .map_err(|error| CommandError::failed("cannot read the copy").because(&error))?;
        self.append(&self.project.edited, BROKEN_LINE)?;
        let progress = self.context.printer.progress("broken, and on the way back");
        let began = Instant::now();
        let mut last = None;
        within("the servers do not come back", ASK, async || {
            let status = self.fleet.status().await?;
            let broken = status.quarantined.iter().any(|entry| entry.release > good);
            let back = status.rollout.is_none()
                && status
                    .nodes
                    .iter()
                    .all(|node| node.release == Some(good) && node.state == NodeState::Live);
            last = Some(status);
            Ok(broken && back)
        })
        .await?;
        drop(progress);
        let status = last.ok_or_else(|| CommandError::failed("nothing was heard of the source"))?;
        let found = status
            .quarantined
            .iter()
            .rfind(|entry| entry.release > good);
        if let Some(found) = found {
            let name = self.project.edited.display();
            self.say(
                "break",
                &format!(
                    "{name} saved with a bad import: {} on {}: {}",
                    found.release, found.node, found.message
                ),
            )?;
        }
        let mended = fs::File::create(&file).and_then(|mut file| file.write_all(&whole));
        mended.map_err(|error| CommandError::failed("cannot mend the copy").because(&error))?;
        self.say(
            "return",
            &format!(
                "after {}: the old definitions are served again",
                units::elapsed(began.elapsed())
            ),
        )?;
        self.context
            .printer
            .line(format_args!("back on {good} on {AGENTS} of {AGENTS}"))
    }

    /// Without code servers nothing can fail to load: a tree that goes away, and a rollback.
    pub(super) async fn break_tree(&self) -> Result<(), CommandError> {
        let before = self.fleet.status().await?;
        let good = before.live.unwrap_or_default();
        let aside = self.project.tree.with_extension("aside");
        let failed =
            |error: std::io::Error| CommandError::failed("cannot move the copy").because(&error);
        move_contents(&self.project.tree, &aside).map_err(failed)?;
        let pushed = self
            .fleet
            .run(&["push", "-m", "an unmounted source"])
            .await?;
        let said = String::from_utf8_lossy(&pushed.stderr);
        let said = said
            .lines()
            .find(|line| line.starts_with("error"))
            .unwrap_or("error: none")
            .to_owned();
        self.say(
            "break",
            &format!(
                "the tree is gone: push exits {} ({said})",
                pushed.status.code().unwrap_or(-1)
            ),
        )?;
        move_contents(&aside, &self.project.tree).map_err(failed)?;
        let after = self.fleet.status().await?;
        self.say(
            "guard",
            &format!("{}: nothing was published", self.live(&after)),
        )?;

        self.append(
            &self.project.edited,
            "# a change that turns out to be wrong\n",
        )?;
        let bad = self.live_at(|live| live > good).await?;
        self.say("edit", &self.live(&bad))?;
        let back = self
            .fleet
            .run(&["rollback", &good.to_string(), "-y", "-m", "demo"])
            .await?;
        if !back.status.success() {
            let said = String::from_utf8_lossy(&back.stderr).trim().to_owned();
            return Err(CommandError::failed("the rollback of the demo failed").cause(said));
        }
        let status = self
            .live_at(|live| bad.live.is_none_or(|bad| live > bad))
            .await?;
        let seq = status.live.unwrap_or_default();
        self.say(
            "rollback",
            &format!(
                "{seq} has the tree of {good}; no file travelled; the volume is frozen until `thaw`"
            ),
        )?;
        self.context
            .printer
            .line(format_args!("back on {seq} on {AGENTS} of {AGENTS}"))
    }
}

/// Moves what a folder holds into another, which is made; the folder itself stays.
fn move_contents(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::rename(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
