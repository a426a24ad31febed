use super::*;

const A: &str = "dag-01";
const B: &str = "dag-02";

fn id(n: u8) -> ReleaseId {
    ReleaseId::of(&[n])
}

fn seq_of(release: ReleaseId) -> Option<Seq> {
    (0..9).find(|n| id(*n) == release).map(|n| Seq(n.into()))
}

/// One line: its time, its action with its outcome, its release and its node.
type Row = (u64, &'static str, &'static str, u8, &'static str);

/// Hands out the rows as the lines 1, 2, 3 ... of a journal. A release of 0 is none, and a node that
/// is empty too.
fn each(rows: &[Row], mut take: impl FnMut(&Fact<'_>)) {
    let (actor, volume) = (Text::cut("alice"), "pipes".parse().unwrap());
    for (line, (at, action, outcome, release, node)) in (1..).zip(rows) {
        let node: Option<NodeName> = node.parse().ok();
        take(&Fact {
            line,
            at: UnixMillis(*at),
            actor: &actor,
            action,
            volume: (*action != action::REMOVE).then_some(&volume),
            release: (*release > 0).then(|| id(*release)),
            node: node.as_ref(),
            evidence: (*outcome == outcome::GOOD).then_some(Evidence::Proven),
            outcome,
            detail: None,
        });
    }
}

fn story(rows: &[Row], release: u8) -> Vec<String> {
    let mut teller = Teller::new("pipes".parse().unwrap(), id(release), seq_of);
    each(rows, |fact| teller.take(fact));
    let (steps, cut) = teller.finish();
    assert_eq!(cut, 0);
    steps
        .iter()
        .map(|step| {
            let node = step.node.as_ref().map_or("-", NodeName::as_str);
            let release = step.release.unwrap_or_default();
            format!("{} {:?} {release} {node}", step.line, step.step)
        })
        .collect()
}

fn at(rows: &[Row], time: u64) -> Option<AtTime> {
    let mut clock = Clock::new(UnixMillis(time));
    each(rows, |fact| clock.take(fact.line, fact.at));
    let last = clock.last()?;
    let mut standing = Standing::new("pipes".parse().unwrap());
    each(rows, |fact| {
        if fact.line <= last {
            standing.take(fact);
        }
    });
    Some(standing.finish(&clock, None, seq_of))
}

/// Returns what ran: `dag-01 r1, dag-02 -`.
fn ran(rows: &[Row], time: u64) -> String {
    let Some(found) = at(rows, time) else {
        return "nothing is known".to_owned();
    };
    let shown = found.nodes.iter().map(|ran| {
        let release = ran
            .release
            .map_or_else(|| "-".to_owned(), |r| r.to_string());
        format!("{} {release}", ran.node)
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// r1 live on two nodes; r2 is broken on the first of them, and both go back.
const BROKEN: [Row; 17] = [
    (10, "publish", "published", 1, ""),
    (11, "staged", "done", 1, A),
    (12, "staged", "done", 1, B),
    (13, "activated", "done", 1, A),
    (14, "activated", "done", 1, B),
    (15, "verified", "good", 1, A),
    (16, "live", "done", 1, ""),
    (20, "publish", "published", 2, ""),
    (21, "staged", "done", 2, A),
    (22, "activated", "done", 2, A),
    (23, "activated", "done", 2, B),
    (24, "verified", "broken", 2, A),
    (25, "quarantined", "done", 2, A),
    (26, "returned", "good", 1, A),
    (27, "returned", "good", 1, B),
    (28, "rollout", "failed", 2, ""),
    (29, "freeze", "done", 0, ""),
];

#[test]
fn a_broken_release_is_told_up_to_the_last_node_that_left_it() {
    let expected = [
        "8 Published r2 -",
        "9 Staged r2 dag-01",
        "10 Activated r2 dag-01",
        "11 Activated r2 dag-02",
        "12 Broken r2 dag-01",
        "13 Quarantined r2 dag-01",
        "14 Returned r1 dag-01",
        "15 Returned r1 dag-02",
        "16 RolloutFailed r2 -",
    ];
    assert_eq!(story(&BROKEN, 2), expected);
    let of_r1 = story(&BROKEN, 1);
    assert_eq!(of_r1.len(), 10, "{of_r1:?}");
    // What freezes the volume while it is live belongs to it.
    assert_eq!(of_r1[9], "17 Frozen r0 -");
}

#[test]
fn a_rolled_back_release_names_who_went_back_and_where_to() {
    let rows = [
        (1, "live", "done", 2, ""),
        (2, "freeze", "done", 0, ""),
        (3, "rollback", "done", 2, ""),
        (4, "publish", "published", 3, ""),
        (5, "live", "done", 3, ""),
        (6, "thaw", "done", 0, ""),
        (7, "retry", "done", 2, ""),
    ];
    let expected = [
        "1 Live r2 -",
        "2 Frozen r0 -",
        "3 RolledBack r2 -",
        "5 Live r3 -",
        "7 Retried r2 -",
    ];
    assert_eq!(story(&rows, 2), expected);
    let expected = ["4 Published r3 -", "5 Live r3 -", "6 Thawed r0 -"];
    assert_eq!(story(&rows, 3), expected);
}

#[test]
fn a_long_story_keeps_its_beginning_and_its_end() {
    let rows: Vec<Row> = (0..3_000).map(|n| (n, "staged", "done", 1, A)).collect();
    let mut teller = Teller::new("pipes".parse().unwrap(), id(1), seq_of);
    each(&rows, |fact| teller.take(fact));
    let (steps, cut) = teller.finish();
    assert_eq!((steps.len(), cut), (2_000, 1_000));
    let lines = |index: usize| steps.get(index).unwrap().line;
    assert_eq!([0, 999, 1_000, 1_999].map(lines), [1, 1_000, 2_001, 3_000]);
}

#[test]
fn long_words_are_cut_at_a_character() {
    let words = cut(&Text::cut("é".repeat(500)));
    assert_eq!(words.as_str(), format!("{}...", "é".repeat(128)));
    assert_eq!(cut(&Text::cut("short")).as_str(), "short");
}

#[test]
fn what_ran_is_what_the_lines_up_to_the_moment_say() {
    for (time, expected) in [
        (9, "nothing is known"),
        (10, ""),
        (13, "dag-01 r1"),
        (14, "dag-01 r1, dag-02 r1"),
        (22, "dag-01 r2, dag-02 r1"),
        (25, "dag-01 r2, dag-02 r2"),
        (26, "dag-01 r1, dag-02 r2"),
        (u64::MAX, "dag-01 r1, dag-02 r1"),
    ] {
        assert_eq!(ran(&BROKEN, time), expected, "at {time}");
    }
    let found = at(&BROKEN, 24).unwrap();
    let broken = &found.nodes[0];
    assert_eq!(broken.since, UnixMillis(22));
    assert_eq!(broken.found, Some(Text::cut("broken")));
    assert_eq!(
        (found.live, found.line, found.set_back),
        (Some(Seq(1)), 12, None)
    );
    assert_eq!(found.frozen_by, None);
    let frozen = at(&BROKEN, 30).unwrap();
    assert_eq!(frozen.frozen_by, Some(Text::cut("alice")));
    let thawed = [(1, "freeze", "done", 0, ""), (2, "thaw", "done", 0, "")];
    assert_eq!(at(&thawed, 2).unwrap().frozen_by, None);
}

#[test]
fn a_flip_makes_what_was_proven_before_unknown() {
    let rows = [
        (1, "verified", "good", 1, A),
        (2, "activated", "done", 2, A),
    ];
    let before = &at(&rows, 1).unwrap().nodes[0];
    let proven = (Some(Evidence::Proven), Some(Text::cut("good")));
    assert_eq!((before.evidence, before.found.clone()), proven);
    let after = &at(&rows, 2).unwrap().nodes[0];
    assert_eq!(
        (after.evidence, after.found.clone()),
        (Some(Evidence::Activated), None)
    );
}

#[test]
fn a_node_is_online_until_it_goes_or_the_source_starts_anew_and_gone_when_removed() {
    let rows = [
        (1, "online", "done", 1, A),
        (2, "offline", "done", 0, A),
        (3, "online", "done", 1, A),
        (4, "start", "done", 0, ""),
        (5, "staged", "done", 2, A),
        (6, "remove", "done", 0, A),
        (7, "offline", "done", 0, A),
    ];
    let online = [1, 2, 3, 4, 5].map(|time| at(&rows, time).unwrap().nodes[0].online);
    assert_eq!(online, [true, false, true, false, true]);
    // Neither hides what it runs since when.
    let found = at(&rows, 5).unwrap();
    assert_eq!(found.nodes[0].since, UnixMillis(1));
    assert_eq!([ran(&rows, 5).as_str(), &ran(&rows, 7)], ["dag-01 r1", ""]);
}

#[test]
fn a_clock_that_was_set_back_reorders_nothing_and_is_said() {
    // Line 3 was written after line 2, whatever the clock says.
    let rows = [
        (100, "activated", "done", 1, A),
        (200, "activated", "done", 2, A),
        (150, "activated", "done", 3, A),
        (300, "activated", "done", 4, A),
    ];
    for (time, expected, set_back) in [
        (99, "nothing is known", None),
        (149, "dag-01 r1", None),
        (150, "dag-01 r3", Some(2)),
        (199, "dag-01 r3", Some(2)),
        (200, "dag-01 r3", None),
        (299, "dag-01 r3", None),
        (300, "dag-01 r4", None),
    ] {
        assert_eq!(ran(&rows, time), expected, "at {time}");
        let found = at(&rows, time).and_then(|found| found.set_back);
        assert_eq!(found, set_back, "at {time}");
    }
}

#[test]
fn a_clock_that_was_far_ahead_for_a_while_hides_nothing_that_came_later() {
    let rows = [
        (100, "activated", "done", 1, A),
        (9_000, "activated", "done", 2, A),
        (200, "activated", "done", 3, A),
        (300, "activated", "done", 4, A),
    ];
    assert_eq!(ran(&rows, 250), "dag-01 r3");
    assert_eq!(at(&rows, 250).unwrap().set_back, Some(2));
    assert_eq!(ran(&rows, 300), "dag-01 r4");
}
