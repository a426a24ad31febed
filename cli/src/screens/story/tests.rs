use codevol_protocol::evidence::Evidence;
use codevol_protocol::name::Text;
use codevol_protocol::release::Seq;
use insta::assert_snapshot;

use super::*;

const ZONE: TimeZone = TimeZone::UTC;
const NOON: u64 = 1_795_262_400_000;

fn step(ms: u64, step: StepKind, release: u64, node: &str) -> Step {
    Step {
        line: ms,
        at: UnixMillis(NOON + ms),
        step,
        release: Some(Seq(release)),
        node: node.parse().ok(),
        by: Text::cut("codevol"),
        evidence: None,
        detail: None,
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_story_has_a_line_a_step() {
    let mut told = vec![
        step(0, StepKind::Published, 43, ""),
        step(12, StepKind::Staged, 43, "dag-01"),
        step(14, StepKind::Activated, 43, "dag-01"),
        step(1_200, StepKind::Broken, 43, "dag-01"),
        step(1_201, StepKind::Quarantined, 43, "dag-01"),
        step(2_300, StepKind::Returned, 42, "dag-01"),
        step(2_301, StepKind::RolloutFailed, 43, ""),
        step(60_000, StepKind::Retried, 43, ""),
    ];
    told[3].evidence = Some(Evidence::Activated);
    told[3].detail = Some(Text::cut(
        "ModuleNotFoundError: No module\n\u{1b}[31mnamed 'polars'",
    ));
    told[5].evidence = Some(Evidence::Proven);
    told[7].by = Text::cut("al\u{7}ice");
    assert_snapshot!(plain(&steps(&told, 0, &ZONE)), @r"
    WHEN                     NODE    STEP            EVIDENCE   BY
    2026-11-21 12:00:00.000          published
    2026-11-21 12:00:00.012  dag-01  staged
    2026-11-21 12:00:00.014  dag-01  activated
    2026-11-21 12:00:01.200  dag-01  broken          activated              ModuleNotFoundError: No module\n\u{1b}[31mnamed 'polars'
    2026-11-21 12:00:01.201  dag-01  quarantined
    2026-11-21 12:00:02.300  dag-01  back on r42     proven
    2026-11-21 12:00:02.301          rollout failed
    2026-11-21 12:01:00.000          retried                    al\u{7}ice
    ");
    assert_snapshot!(plain(&steps(&told[..2], 17, &ZONE)), @"
    WHEN                     NODE    STEP                         EVIDENCE  BY
    2026-11-21 12:00:00.000          published
    ...                              17 more steps are not shown
    2026-11-21 12:00:00.012  dag-01  staged
    ");
    assert_snapshot!(steps(&[], 0, &ZONE), @"the journal says nothing of it");
}

#[test]
fn every_step_has_its_word() {
    use StepKind::*;
    let kinds = [
        Published,
        Held,
        Noted,
        Staged,
        Activated,
        Verified,
        Unproven,
        Broken,
        Missing,
        Failed,
        Returned,
        Quarantined,
        Live,
        RolloutDone,
        RolloutFailed,
        RolledBack,
        Retried,
        Frozen,
        Thawed,
        NodeHeld,
        NodeThawed,
    ];
    let words = kinds.map(|kind| word(kind).0);
    assert_snapshot!(words.join(", "), @"published, held, noted, staged, activated, verified, unproven, broken, sent anew, failed, back on, quarantined, live moved to, rollout done, rollout failed, rolled back, retried, frozen, thawed, held there, held no more");
}

#[test]
fn what_ran_where_names_what_is_doubtful() {
    let ran = |node: &str, release: u64, found: &str| Ran {
        node: node.parse().unwrap(),
        release: (release > 0).then_some(Seq(release)),
        since: UnixMillis(NOON - 3_600_000),
        evidence: (release > 0).then_some(Evidence::Proven),
        found: (!found.is_empty()).then(|| Text::cut(found)),
        online: release != 41,
        held_by: (release == 41).then(|| Text::cut("bob")),
    };
    let mut found = AtTime {
        at: UnixMillis(NOON),
        volume: "pipes".parse().unwrap(),
        live: Some(Seq(42)),
        frozen_by: Some(Text::cut("alice")),
        nodes: vec![
            ran("dag-01", 42, "good"),
            ran("dag-02", 41, "broken"),
            ran("dag-03", 0, ""),
        ],
        line: 9,
        set_back: Some(7),
        journal_first: Some(5),
    };
    assert_snapshot!(plain(&at(&found, &ZONE)), @"
    pipes at 2026-11-21 12:00:00.000: r42 live, frozen by alice

      NODE    RELEASE  SINCE                    FOUND   EVIDENCE  LINK
      dag-01  r42      2026-11-21 11:00:00.000  good    proven
      dag-02  r41      2026-11-21 11:00:00.000  broken  proven    offline, held by bob
      dag-03  none     2026-11-21 11:00:00.000
    ");
    assert_snapshot!(doubts(&found).join("\n"), @"
    the source's clock was set back behind that time after line 7 of the journal: this is the later of the two moments
    dag-02 was out of touch: that is what the source had heard last; what was done there meanwhile, `codevol log REL` tells with the time
    the journal's oldest 4 lines are gone: what only they said is missing
    ");
    found.nodes.clear();
    (found.live, found.frozen_by) = (None, None);
    (found.set_back, found.journal_first) = (None, Some(1));
    assert_snapshot!(plain(&at(&found, &ZONE)), @"
    pipes at 2026-11-21 12:00:00.000: nothing live
    no node ran anything
    ");
    assert!(doubts(&found).is_empty());
}
