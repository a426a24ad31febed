//! The screen of `codevol fetch`.

use codevol_protocol::status::NodeState;

use super::{release, sentence};
use crate::commands::fetch::VolumeFetched;

/// Returns one line a volume, and what is wrong with it below, the last line not ended.
#[must_use]
pub fn render(volumes: &[VolumeFetched]) -> String {
    let mut lines = Vec::new();
    for volume in volumes {
        let name = &volume.name;
        let stands = match (volume.release, &volume.id) {
            (Some(seq), Some(id)) => release(seq, id),
            (Some(seq), None) => seq.to_string(),
            (None, _) => "nothing".to_owned(),
        };
        let live = volume
            .live
            .map_or_else(|| "-".to_owned(), |live| live.to_string());
        let evidence = volume
            .evidence
            .map_or_else(|| "no evidence".to_owned(), |evidence| evidence.to_string());
        lines.push(match volume.state {
            NodeState::Live => format!("Fetched  {name} is on {stands}, live ({evidence})"),
            state => {
                format!("Fetched  {name} is on {stands}, {state} ({evidence}); live is {live}")
            }
        });
        if let Some(error) = &volume.error {
            lines.push(format!("  {}", sentence(error)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use codevol_protocol::evidence::Evidence;
    use codevol_protocol::id::ReleaseId;
    use codevol_protocol::release::Seq;

    use super::*;

    #[test]
    fn a_fetched_volume_says_what_stands_here_and_why_not_more() {
        let live = VolumeFetched {
            name: "pipes".parse().unwrap(),
            release: Some(Seq(42)),
            live: Some(Seq(42)),
            id: Some(ReleaseId::of(b"42")),
            state: NodeState::Live,
            evidence: Some(Evidence::Activated),
            error: None,
        };
        let broken = VolumeFetched {
            release: Some(Seq(41)),
            id: None,
            state: NodeState::Behind,
            error: Some("verify: ModuleNotFoundError".to_owned()),
            ..live.clone()
        };
        insta::assert_snapshot!(render(&[live, broken]), @"
        Fetched  pipes is on r42 da136474, live (activated)
        Fetched  pipes is on r41, behind (activated); live is r42
          verify: ModuleNotFoundError
        ");
    }
}
