//! A source that was put back from a backup: what its nodes run was live.

use super::*;

fn seq(release: ReleaseId) -> Option<Seq> {
    (1..20).find(|seq| r(*seq) == release).map(Seq)
}

impl Bench {
    /// The backup knows r1; then `newest` was published.
    fn behind(nodes: &[&str], newest: u64) -> Self {
        let mut bench = Self::on_r1(nodes);
        for node in nodes {
            bench.offline(node);
        }
        bench.event(Event::Behind {
            newest: Seq(newest),
        });
        bench.take();
        bench
    }

    fn take_in(&mut self, node: &str, active: u64, standing: Standing) {
        let runs = (r(active), standing);
        self.machine.take_in(&name(node), runs, seq);
    }

    fn greets(&mut self, node: &str, active: u64, standing: Standing) {
        self.take_in(node, active, standing);
        let held: Vec<u64> = (1..=active).collect();
        self.online(node, &held, Some(active), standing);
    }

    fn line(&self) -> Vec<Option<Seq>> {
        let line = self.saved.lived.iter();
        line.map(|lived| seq(lived.release)).collect()
    }
}

#[test]
fn what_was_lost_is_not_rolled_out_when_it_is_take_in() {
    let mut bench = Bench::behind(&["a"], 7);
    assert!(bench.saved.restored);
    for seq in 2..=7 {
        let (release, seq) = (r(seq), Seq(seq));
        let intent = Intent::Wanted;
        bench.event(Event::Published {
            release,
            seq,
            intent,
        });
    }
    assert!(bench.saved.rollout.is_none() && bench.saved.waiting.is_empty());
    bench.event(Event::Thaw);
    assert!(!bench.saved.restored);
}

#[test]
fn a_rollout_that_runs_when_a_log_is_found_behind_ends_and_moves_nothing() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    assert!(bench.saved.rollout.is_some());
    bench.event(Event::Behind { newest: Seq(7) });
    assert!(bench.saved.rollout.is_none());
    assert_eq!(bench.live(), Some(r(1)));
}

#[test]
fn the_newest_that_a_node_runs_is_live_and_the_others_are_what_was_live_before() {
    let mut bench = Bench::behind(&["a", "b", "c"], 7);
    bench.greets("a", 7, Standing::Verifying);
    bench.greets("b", 6, Standing::Proven);
    bench.greets("c", 6, Standing::Proven);
    let line = [1, 6, 7].map(|seq| Some(Seq(seq)));
    assert_eq!(bench.line(), line);
    bench.take();
    // It was on trial there when the source was lost.
    bench.verified("a", 7, Standing::Broken);
    assert_eq!(bench.live(), Some(r(6)));
    let told = bench.take();
    assert!(told.contains(&ask("a", Command::Return(r(6)))), "{told:?}");
}

#[test]
fn what_is_broken_where_it_runs_leads_nobody_there() {
    let mut bench = Bench::behind(&["a", "b"], 7);
    bench.greets("b", 6, Standing::Proven);
    bench.take();
    bench.greets("a", 7, Standing::Broken);
    assert_eq!(bench.live(), Some(r(6)));
    let to_r7 = ask("b", Command::Push(r(7)));
    let told = bench.take();
    assert!(told.contains(&ask("a", Command::Return(r(6)))), "{told:?}");
    assert!(!told.contains(&to_r7), "{told:?}");
}

#[test]
fn what_a_node_went_back_to_by_itself_was_live() {
    let mut bench = Bench::behind(&["a"], 7);
    bench.greets("a", 7, Standing::Verifying);
    bench.take_in("a", 6, Standing::Proven);
    bench.take();
    bench.returned("a", 7, 6);
    bench.verified("a", 6, Standing::Proven);
    assert_eq!(bench.live(), Some(r(6)));
    let told = bench.take();
    assert!(
        !told.iter().any(|o| matches!(o, Output::Ask { .. })),
        "{told:?}"
    );
}

/// r2 is live, and r3 was found broken by `b`; that is when the backup was made.
fn with_r3_quarantined() -> Bench {
    let mut bench = Bench::on_r1(&["a", "b"]);
    for (seq, standing) in [(2, Standing::Proven), (3, Standing::Broken)] {
        bench.publish(Intent::Watched);
        for node in ["a", "b"] {
            bench.staged(node, seq);
        }
        bench.activated("a", seq);
        bench.activated("b", seq);
        bench.verified("a", seq, Standing::Proven);
        bench.verified("b", seq, standing);
    }
    bench.offline("a");
    bench.offline("b");
    bench.saved.restored = true;
    bench.restart(&["a", "b"]);
    bench.take();
    bench
}

#[test]
fn a_quarantine_of_the_backup_ends_where_the_release_runs_well() {
    let mut bench = with_r3_quarantined();
    bench.greets("a", 3, Standing::Proven);
    assert_eq!(bench.live(), Some(r(3)));
    assert_eq!(bench.saved.quarantined, []);
    // Who had found it broken is left where it is.
    assert_eq!(bench.saved.broken[&r(3)], names(&["b"]));
    bench.greets("b", 2, Standing::Proven);
    let told = bench.take();
    assert!(
        !told.iter().any(|o| matches!(o, Output::Ask { .. })),
        "{told:?}"
    );
}

#[test]
fn a_quarantine_of_the_backup_lasts_where_a_person_holds_a_node_on_it_or_none_runs_it_well() {
    let mut bench = with_r3_quarantined();
    bench.greets("b", 3, Standing::Verifying);
    bench.held("a", Some(hold_on(3)));
    bench.greets("a", 3, Standing::Proven);
    assert_eq!(bench.live(), Some(r(2)));
    assert_eq!(bench.saved.quarantined.len(), 1);
}

#[test]
fn what_is_rolled_out_is_not_live_before_its_end() {
    let mut bench = Bench::behind(&["a", "b"], 1);
    bench.greets("a", 1, Standing::Proven);
    bench.greets("b", 1, Standing::Proven);
    bench.publish(Intent::Wanted);
    bench.staged("a", 2);
    bench.staged("b", 2);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    bench.offline("a");
    bench.greets("a", 2, Standing::Proven);
    assert_eq!(bench.live(), Some(r(1)));
    bench.activated("b", 2);
    bench.verified("b", 2, Standing::Proven);
    assert_eq!(bench.live(), Some(r(2)));
}

#[test]
fn what_waited_when_the_backup_was_made_waits_for_a_thaw_unless_a_node_runs_it() {
    for (runs, waits) in [(1, true), (2, false)] {
        let mut bench = Bench::on_r1(&["a"]);
        bench.publish(Intent::Wanted);
        bench.staged("a", 2);
        let Event::Freeze(why) = frozen() else {
            unreachable!()
        };
        bench.saved.put_back(why);
        bench.restart(&["a"]);
        bench.greets("a", runs, Standing::Proven);
        assert_eq!(bench.live(), Some(r(runs)));
        assert_eq!(bench.saved.waiting.len(), usize::from(waits));
        assert!(bench.saved.rollout.is_none());
        bench.event(Event::Thaw);
        assert_eq!(bench.saved.rollout.is_some(), waits);
    }
}

#[test]
fn what_a_person_holds_a_node_on_leads_no_other_node_there() {
    let mut bench = Bench::behind(&["a", "b"], 7);
    bench.greets("a", 6, Standing::Proven);
    bench.take();
    // r7 was never live: its operator tries it there.
    bench.machine.greets(&name("b"), Some(hold_on(7)));
    bench.greets("b", 7, Standing::Proven);
    assert_eq!(bench.live(), Some(r(6)));
    assert_eq!(bench.line(), [1, 6].map(|seq| Some(Seq(seq))));
    assert_eq!(bench.take(), []);
    bench.held("b", None);
    assert_eq!(bench.take(), [ask("b", Command::Activate(r(6)))]);
}
