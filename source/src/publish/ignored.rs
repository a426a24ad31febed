//! What is left out of the tree, and why.

use codevol_protocol::call::{CallFailure, FailureSort, IgnoredPath};
use codevol_protocol::name::{Printable, Text};
use codevol_protocol::path::RelPath;

use super::request::failed;
use super::task::PublisherTask;
use crate::rules::Verdict;
use crate::watch::Watcher;

impl PublisherTask {
    pub(super) fn ignored(
        &mut self,
        why: Option<String>,
        watcher: &Watcher,
    ) -> Result<Vec<IgnoredPath>, CallFailure> {
        // The watcher says nothing of what a rule leaves out.
        self.expect_anything();
        self.look(watcher).map_err(|error| failed(&error))?;
        let shown = |path: &RelPath, is_dir: bool, verdict: Verdict| {
            let slash = if is_dir { "/" } else { "" };
            let path = Text::cut(format!("{path}{slash}"));
            match verdict {
                Verdict::Included => IgnoredPath {
                    path,
                    ignored: false,
                    rule: None,
                    from: None,
                },
                Verdict::Ignored { rule, from } => IgnoredPath {
                    path,
                    ignored: true,
                    rule: Some(Text::cut(rule)),
                    from: Some(Text::cut(from)),
                },
            }
        };
        let Some(why) = why else {
            let ignored = self.scanner.ignored();
            return Ok(ignored
                .into_iter()
                .map(|i| shown(&i.path, i.is_dir, i.verdict))
                .collect());
        };
        let invalid = |error| {
            let path = Printable(&why).to_string();
            CallFailure::new(
                FailureSort::Usage,
                "path",
                format!("`{path}` is no path of the tree"),
            )
            .caused_by(&error)
        };
        let path: RelPath = why.trim_end_matches('/').parse().map_err(invalid)?;
        let is_dir = why.ends_with('/') || self.config.path.join(path.as_str()).is_dir();
        Ok(vec![shown(
            &path,
            is_dir,
            self.scanner.rules().verdict(&path, is_dir),
        )])
    }
}
