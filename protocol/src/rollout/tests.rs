use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;
use crate::limits::STEP_TIMEOUT;
use crate::name::Text;
use crate::release::UnixMillis;

const VERIFY: Duration = Duration::from_secs(65);
/// Far more than falls due in any of these tests.
const DUE_MAX: u32 = 1_000;
/// All members in one wave.
const AT_ONCE: Policy = Policy {
    canary: Canary::Nodes(0),
    wave: Wave::All,
    on_broken: OnBroken::Return,
    require_online: RequireOnline::Any,
    verify_timeout: VERIFY,
};

/// A machine, its virtual clock, and what it put out since the last look.
struct Bench {
    machine: Machine,
    policy: Policy,
    now: Instant,
    saved: Saved,
    outputs: Vec<Output>,
    seq: u64,
}

fn r(seq: u64) -> ReleaseId {
    ReleaseId::of(&seq.to_be_bytes())
}

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn names(texts: &[&str]) -> BTreeSet<NodeName> {
    texts.iter().map(|text| name(text)).collect()
}

#[expect(clippy::disallowed_methods, reason = "where virtual time begins")]
pub(super) fn beginning() -> Instant {
    Instant::now()
}

impl Bench {
    fn new() -> Self {
        Self::with(AT_ONCE)
    }

    fn with(policy: Policy) -> Self {
        let now = beginning();
        Self {
            machine: Machine::restore(Saved::default(), BTreeSet::new(), policy, now),
            policy,
            now,
            saved: Saved::default(),
            outputs: Vec::new(),
            seq: 0,
        }
    }

    /// A fleet that runs r1, proven.
    fn on_r1(nodes: &[&str]) -> Self {
        let mut bench = Self::new();
        bench.publish(Intent::Wanted);
        for node in nodes {
            bench.online(node, &[1], Some(1), Standing::Proven);
        }
        bench.take();
        bench
    }

    fn event(&mut self, event: Event) {
        self.machine.handle(event, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            if let Output::Save(saved) = &output {
                self.saved = (**saved).clone();
            } else {
                self.outputs.push(output);
            }
        }
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    fn publish(&mut self, intent: Intent) {
        self.seq += 1;
        self.event(Event::Published {
            release: r(self.seq),
            seq: Seq(self.seq),
            intent,
        });
    }

    fn online(&mut self, node: &str, held: &[u64], active: Option<u64>, standing: Standing) {
        self.event(Event::Online {
            node: name(node),
            held: held.iter().map(|seq| r(*seq)).collect(),
            active: active.map(r),
            standing,
        });
    }

    fn offline(&mut self, node: &str) {
        self.event(Event::Offline { node: name(node) });
    }

    fn staged(&mut self, node: &str, seq: u64) {
        let (node, release) = (name(node), r(seq));
        self.event(Event::Staged { node, release });
    }

    fn activated(&mut self, node: &str, seq: u64) {
        let (node, release) = (name(node), r(seq));
        self.event(Event::Activated { node, release });
    }

    fn verified(&mut self, node: &str, seq: u64, standing: Standing) {
        self.event(Event::Verified {
            node: name(node),
            release: r(seq),
            standing,
        });
    }

    fn returned(&mut self, node: &str, from: u64, to: u64) {
        self.event(Event::Returned {
            node: name(node),
            from: r(from),
            to: r(to),
        });
    }

    /// Lets time pass, and the machine do what falls due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut due = 0;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= end) {
            due += 1;
            assert!(due < DUE_MAX, "what is due stays due");
            self.now = self.now.max(at);
            self.machine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// The source dies and starts again from what it saved last.
    fn restart(&mut self, enrolled: &[&str]) {
        self.machine = Machine::restore(self.saved.clone(), names(enrolled), self.policy, self.now);
        self.outputs.clear();
        self.drain();
    }

    fn state(&self, node: &str) -> NodeState {
        self.machine.view().nodes[&name(node)].state
    }

    fn live(&self) -> Option<ReleaseId> {
        self.machine.live()
    }

    /// The only output that tells how a rollout ended, since the last look.
    fn ended(&mut self) -> Outcome {
        let outputs = self.take();
        let mut ended = outputs.iter().filter_map(|output| {
            if let Output::Ended(outcome) = output {
                Some(outcome.clone())
            } else {
                None
            }
        });
        let outcome = ended
            .next()
            .unwrap_or_else(|| panic!("no end in {outputs:?}"));
        assert_eq!(ended.next(), None);
        outcome
    }
}

fn ask(node: &str, command: Command) -> Output {
    let node = name(node);
    Output::Ask { node, command }
}

#[test]
fn a_rollout_stages_on_all_then_activates_on_all_then_moves_live() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    assert_eq!(
        bench.take(),
        [
            Output::Started(r(2)),
            ask("a", Command::Push(r(2))),
            ask("b", Command::Push(r(2)))
        ]
    );
    bench.staged("a", 2);
    assert_eq!(bench.take(), []);
    bench.staged("b", 2);
    assert_eq!(
        bench.take(),
        [
            ask("a", Command::Activate(r(2))),
            ask("b", Command::Activate(r(2)))
        ]
    );
    for node in ["a", "b"] {
        bench.activated(node, 2);
        assert_eq!(bench.live(), Some(r(1)));
        bench.verified(node, 2, Standing::Proven);
    }
    assert_eq!(bench.live(), Some(r(2)));
    let outcome = bench.ended();
    assert!(outcome.live);
    assert_eq!(outcome.nodes[&name("a")], NodeState::Live);
    assert_eq!(bench.saved, *bench.machine.saved());
}

impl Bench {
    /// r2 is published, and staged by these.
    fn staged_r2(nodes: &[&str]) -> Self {
        let mut bench = Self::on_r1(nodes);
        bench.publish(Intent::Watched);
        nodes.iter().for_each(|node| bench.staged(node, 2));
        bench
    }

    /// r2 is activated by these, nothing is verified.
    fn activated_r2(nodes: &[&str]) -> Self {
        let mut bench = Self::staged_r2(nodes);
        nodes.iter().for_each(|node| bench.activated(node, 2));
        bench.take();
        bench
    }

    /// r2 is live although nobody was there to verify it.
    fn unseen_r2() -> Self {
        let mut bench = Self::on_r1(&[]);
        bench.publish(Intent::Watched);
        bench.take();
        bench
    }
}

#[test]
fn with_no_node_online_live_moves_at_once() {
    let mut bench = Bench::new();
    bench.publish(Intent::Watched);
    assert_eq!(bench.live(), Some(r(1)));
    assert!(bench.ended().live);
}

#[test]
fn a_broken_member_takes_every_member_back_and_live_stays() {
    let mut bench = Bench::activated_r2(&["a", "b"]);
    bench.verified("a", 2, Standing::Proven);
    bench.verified("b", 2, Standing::Broken);
    let outputs = bench.take();
    let node = name("b");
    assert_eq!(
        outputs,
        [
            Output::Quarantined {
                release: r(2),
                node
            },
            ask("a", Command::Return(r(1))),
            ask("b", Command::Return(r(1)))
        ]
    );
    for node in ["a", "b"] {
        bench.returned(node, 2, 1);
        bench.verified(node, 1, Standing::Proven);
    }
    let outcome = bench.ended();
    assert_eq!(
        (outcome.live, outcome.returned, outcome.broken_on),
        (false, true, Some(name("b")))
    );
    assert_eq!(outcome.nodes[&name("b")], NodeState::Live);
    assert_eq!(bench.live(), Some(r(1)));
}

#[test]
fn a_quarantine_is_saved_before_anyone_is_asked_to_return() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.machine.handle(
        Event::Verified {
            node: name("a"),
            release: r(2),
            standing: Standing::Broken,
        },
        bench.now,
    );
    let Some(Output::Save(saved)) = bench.machine.poll_output() else {
        panic!("no save first");
    };
    assert_eq!(saved.quarantined[0].release, r(2));
    assert!(matches!(saved.rollout.unwrap().step, Step::Return { .. }));
}

#[test]
fn a_member_that_only_staged_is_not_touched_when_another_is_broken() {
    let mut bench = Bench::staged_r2(&["a", "b"]);
    bench.activated("a", 2);
    bench.event(Event::StepFailed {
        node: name("b"),
        release: r(2),
        retryable: true,
    });
    bench.take();
    bench.verified("a", 2, Standing::Broken);
    // It was asked to activate, and its answer may be under way: it is asked to come back too.
    assert!(bench.take().contains(&ask("b", Command::Return(r(1)))));

    let mut bench = Bench::staged_r2(&["a", "b"]);
    bench.activated("a", 2);
    bench.event(Event::StepFailed {
        node: name("b"),
        release: r(2),
        retryable: false,
    });
    bench.take();
    bench.verified("a", 2, Standing::Broken);
    assert!(!bench.take().contains(&ask("b", Command::Return(r(1)))));
}

#[test]
fn an_answer_that_crossed_the_return_is_returned_too() {
    let mut bench = Bench::staged_r2(&["a", "b"]);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Broken);
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    bench.activated("b", 2);
    bench.verified("b", 2, Standing::Broken);
    assert!(bench.machine.view().rollout.is_some());
    bench.returned("b", 2, 1);
    bench.verified("b", 1, Standing::Proven);
    assert!(bench.ended().returned);
    assert_eq!(bench.saved.quarantined.len(), 1);
}

#[test]
fn a_first_release_that_is_broken_stays_as_failed() {
    let mut bench = Bench::new();
    bench.online("a", &[], None, Standing::Unproven);
    assert_eq!(bench.state("a"), NodeState::Joining);
    bench.publish(Intent::Watched);
    bench.staged("a", 1);
    bench.activated("a", 1);
    bench.take();
    bench.verified("a", 1, Standing::Broken);
    let outcome = bench.ended();
    assert!(!outcome.live && !outcome.returned);
    assert_eq!(outcome.nodes[&name("a")], NodeState::Failed);
    assert_eq!(bench.live(), None);
    assert_eq!(bench.saved.quarantined.len(), 1);
}

#[test]
fn the_release_after_a_broken_first_one_goes_live() {
    let mut bench = Bench::new();
    bench.online("a", &[1], Some(1), Standing::Broken);
    bench.publish(Intent::Watched);
    bench.activated("a", 1);
    bench.verified("a", 1, Standing::Broken);
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    assert_eq!(bench.live(), Some(r(2)));
    assert_eq!(bench.state("a"), NodeState::Live);
}

#[test]
fn unproven_does_not_stop_a_rollout() {
    let mut bench = Bench::activated_r2(&["a", "b"]);
    bench.verified("a", 2, Standing::Unproven);
    bench.verified("b", 2, Standing::Good);
    let outcome = bench.ended();
    assert!(outcome.live);
    assert_eq!(outcome.nodes[&name("a")], NodeState::Unverified);
    assert_eq!(outcome.nodes[&name("b")], NodeState::Unverified);
    bench.verified("a", 2, Standing::Proven);
    assert_eq!(bench.state("a"), NodeState::Live);
}

#[test]
fn a_verification_without_a_verdict_ends_as_unproven() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.pass(VERIFY - Duration::from_millis(1));
    assert_eq!(bench.live(), Some(r(1)));
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.live(), Some(r(2)));
    assert_eq!(bench.state("a"), NodeState::Unverified);
}

#[test]
fn a_member_whose_connection_ends_while_staging_is_left_behind() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.take();
    bench.offline("b");
    assert_eq!(bench.take(), [ask("a", Command::Activate(r(2)))]);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    assert_eq!(bench.ended().nodes[&name("b")], NodeState::Offline);
    bench.online("b", &[1], Some(1), Standing::Proven);
    assert_eq!(bench.take(), [ask("b", Command::Push(r(2)))]);
}

#[test]
fn a_member_without_progress_leaves_and_catches_up() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.take();
    bench.pass(STEP_TIMEOUT - Duration::from_secs(1));
    bench.event(Event::Progress { node: name("b") });
    bench.pass(STEP_TIMEOUT - Duration::from_secs(1));
    assert_eq!(bench.take(), []);
    bench.pass(Duration::from_secs(1));
    assert_eq!(
        bench.take(),
        [
            ask("a", Command::Activate(r(2))),
            ask("b", Command::Push(r(2)))
        ]
    );
}

#[test]
fn a_failed_step_is_retried_and_is_no_progress() {
    let mut bench = Bench::on_r1(&["a"]);
    bench.publish(Intent::Watched);
    bench.take();
    let fail = Event::StepFailed {
        node: name("a"),
        release: r(2),
        retryable: true,
    };
    for _ in 0..4 {
        bench.event(fail.clone());
        bench.event(fail.clone());
        assert_eq!(bench.take(), []);
        bench.pass(RETRY_DELAY);
        assert_eq!(bench.take(), [ask("a", Command::Push(r(2)))]);
    }
    bench.pass(STEP_TIMEOUT - 4 * RETRY_DELAY);
    assert!(bench.ended().live);
}

#[test]
fn a_rollout_all_of_whose_members_went_moves_live() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.offline("a");
    assert_eq!(bench.live(), Some(r(2)));
    assert!(!bench.saved.lived[1].good);
    bench.online("a", &[1, 2], Some(2), Standing::Broken);
    assert_eq!(bench.live(), Some(r(1)));
}

#[test]
fn a_release_that_every_member_refuses_does_not_go_live() {
    let mut bench = Bench::on_r1(&["a"]);
    bench.publish(Intent::Watched);
    bench.take();
    bench.event(Event::StepFailed {
        node: name("a"),
        release: r(2),
        retryable: false,
    });
    let outcome = bench.ended();
    assert!(!outcome.live && outcome.broken_on.is_none());
    assert_eq!(bench.live(), Some(r(1)));
    assert_eq!(bench.state("a"), NodeState::Live);
    bench.event(Event::Retry { release: r(2) });
    assert!(bench.take().contains(&ask("a", Command::Push(r(2)))));
}

#[test]
fn who_connects_meanwhile_stages_but_activates_only_live() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.online("b", &[1], Some(1), Standing::Proven);
    assert_eq!(bench.take(), [ask("b", Command::Push(r(2)))]);
    bench.staged("b", 2);
    bench.online("c", &[1, 2], None, Standing::Unproven);
    assert_eq!(bench.take(), [ask("c", Command::Activate(r(1)))]);
    bench.verified("a", 2, Standing::Proven);
    assert!(bench.take().contains(&ask("b", Command::Activate(r(2)))));
}

#[test]
fn a_newer_release_waits_for_the_end_and_only_the_newest_follows() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.publish(Intent::Watched);
    bench.publish(Intent::Watched);
    assert_eq!(bench.take(), []);
    bench.verified("a", 2, Standing::Proven);
    let started = bench.take();
    assert!(started.contains(&Output::Started(r(4))));
    assert!(!started.contains(&Output::Started(r(3))));
}

#[test]
fn an_absent_node_catches_up_by_the_same_steps() {
    let mut bench = Bench::unseen_r2();
    bench.online("a", &[1], Some(1), Standing::Proven);
    assert_eq!(bench.take(), [ask("a", Command::Push(r(2)))]);
    assert_eq!(bench.state("a"), NodeState::Behind);
    bench.staged("a", 2);
    assert_eq!(bench.take(), [ask("a", Command::Activate(r(2)))]);
    assert_eq!(bench.state("a"), NodeState::Activating);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.state("a"), NodeState::Live);
    assert!(bench.saved.lived[1].good);
}

#[test]
fn a_release_that_the_first_to_catch_up_finds_broken_is_taken_back_everywhere() {
    let mut bench = Bench::unseen_r2();
    for node in ["a", "b"] {
        bench.online(node, &[1, 2], Some(1), Standing::Proven);
        bench.activated(node, 2);
    }
    bench.verified("b", 2, Standing::Unproven);
    bench.take();
    bench.verified("a", 2, Standing::Broken);
    let outputs = bench.take();
    assert!(outputs.contains(&Output::LiveMoved(Some(r(1)))));
    for node in ["a", "b"] {
        assert!(outputs.contains(&ask(node, Command::Return(r(1)))));
        bench.returned(node, 2, 1);
        bench.verified(node, 1, Standing::Proven);
    }
    let outcome = bench.ended();
    assert!(!outcome.live && outcome.returned);
    assert_eq!(bench.saved.quarantined[0].release, r(2));
}

#[test]
fn live_goes_back_past_quarantined_releases() {
    let mut bench = Bench::unseen_r2();
    bench.publish(Intent::Watched);
    bench.online("a", &[1, 2, 3], Some(2), Standing::Unproven);
    bench.activated("a", 3);
    bench.verified("a", 3, Standing::Broken);
    bench.returned("a", 3, 2);
    bench.verified("a", 2, Standing::Broken);
    assert_eq!(bench.live(), Some(r(1)));
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    assert_eq!(bench.state("a"), NodeState::Live);
    assert!(bench.machine.view().rollout.is_none());
}

#[test]
fn a_release_good_elsewhere_fails_on_one_node_alone_and_once() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.verified("a", 2, Standing::Proven);
    bench.online("b", &[1, 2], Some(1), Standing::Proven);
    bench.activated("b", 2);
    bench.take();
    bench.verified("b", 2, Standing::Broken);
    assert_eq!(bench.take(), [ask("b", Command::Return(r(1)))]);
    bench.returned("b", 2, 1);
    bench.verified("b", 1, Standing::Broken);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.live(), Some(r(2)));
    assert_eq!(bench.state("b"), NodeState::Failed);
    bench.restart(&["a", "b"]);
    bench.online("b", &[1, 2], Some(1), Standing::Proven);
    assert_eq!(bench.take(), []);
    bench.event(Event::Retry { release: r(2) });
    assert_eq!(bench.take(), [ask("b", Command::Activate(r(2)))]);
}

#[test]
fn frozen_holds_back_the_watcher_but_not_a_person_nor_catching_up() {
    let mut bench = Bench::on_r1(&["a"]);
    bench.event(frozen());
    bench.publish(Intent::Watched);
    bench.online("b", &[], None, Standing::Unproven);
    assert_eq!(bench.take(), [ask("b", Command::Push(r(1)))]);
    bench.offline("b");
    bench.publish(Intent::Wanted);
    assert!(bench.take().contains(&Output::Started(r(3))));
    bench.publish(Intent::Watched);
    bench.staged("a", 3);
    bench.activated("a", 3);
    bench.verified("a", 3, Standing::Proven);
    assert_eq!(bench.live(), Some(r(3)));
    bench.take();
    bench.event(Event::Thaw);
    assert!(bench.take().contains(&Output::Started(r(4))));
}

#[test]
fn freezing_stops_an_unwanted_rollout_only_before_it_activates() {
    let mut bench = Bench::on_r1(&["a"]);
    bench.publish(Intent::Watched);
    bench.take();
    bench.event(frozen());
    assert_eq!(
        bench.take(),
        [Output::HeldBack(r(2)), ask("a", Command::Cancel(r(2)))]
    );
    assert!(bench.saved.rollout.is_none());
    bench.event(Event::Thaw);
    assert!(bench.take().contains(&Output::Started(r(2))));
    bench.staged("a", 2);
    bench.event(frozen());
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    assert_eq!(bench.live(), Some(r(2)));
}

#[test]
fn a_held_release_is_tried_only_when_a_person_asks() {
    let mut bench = Bench::on_r1(&["a"]);
    bench.publish(Intent::Held);
    assert_eq!(bench.take(), []);
    bench.event(Event::Retry { release: r(2) });
    assert!(bench.take().contains(&Output::Started(r(2))));
}

#[test]
fn a_retry_tries_a_quarantined_release_from_the_beginning() {
    let mut bench = Bench::new();
    bench.online("a", &[], None, Standing::Unproven);
    bench.publish(Intent::Watched);
    bench.staged("a", 1);
    bench.activated("a", 1);
    bench.verified("a", 1, Standing::Broken);
    bench.take();
    bench.event(Event::Retry { release: r(1) });
    assert_eq!(
        bench.take(),
        [Output::Started(r(1)), ask("a", Command::Activate(r(1)))]
    );
    // A verdict of the attempt before, said again, counts for nothing.
    bench.verified("a", 1, Standing::Broken);
    assert_eq!(bench.take(), []);
    bench.activated("a", 1);
    bench.verified("a", 1, Standing::Proven);
    assert_eq!(bench.live(), Some(r(1)));
    assert_eq!(bench.saved.quarantined, []);
}

#[test]
fn a_release_that_was_told_before_changes_nothing() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.verified("a", 2, Standing::Broken);
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    bench.restart(&["a"]);
    bench.online("a", &[1, 2], Some(1), Standing::Proven);
    bench.seq = 1;
    bench.publish(Intent::Wanted);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.live(), Some(r(1)));
}

#[test]
fn a_node_on_another_release_than_live_is_brought_to_it() {
    let mut bench = Bench::activated_r2(&["a"]);
    bench.verified("a", 2, Standing::Proven);
    bench.take();
    bench.online("b", &[7], Some(7), Standing::Proven);
    assert_eq!(bench.take(), [ask("b", Command::Push(r(2)))]);
}

#[test]
fn a_node_on_a_quarantined_release_returns() {
    let mut bench = Bench::activated_r2(&["a", "b"]);
    bench.offline("b");
    bench.verified("a", 2, Standing::Broken);
    bench.take();
    bench.online("b", &[1, 2], Some(2), Standing::Verifying);
    assert_eq!(bench.take(), [ask("b", Command::Return(r(1)))]);
}

#[test]
fn a_node_that_returned_by_itself_found_the_release_broken() {
    let mut bench = Bench::activated_r2(&["a", "b"]);
    bench.returned("a", 2, 1);
    let outputs = bench.take();
    assert!(outputs.contains(&ask("b", Command::Return(r(1)))));
    assert!(!outputs.contains(&ask("a", Command::Return(r(1)))));
}

#[test]
fn a_restarted_source_finishes_what_stages() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    bench.restart(&["a", "b"]);
    bench.online("a", &[1, 2], Some(1), Standing::Proven);
    assert_eq!(bench.take(), []);
    bench.online("b", &[1], Some(1), Standing::Proven);
    assert_eq!(bench.take(), [ask("b", Command::Push(r(2)))]);
    bench.staged("b", 2);
    assert!(bench.take().contains(&ask("a", Command::Activate(r(2)))));
}

#[test]
fn a_restarted_source_finishes_what_activates() {
    let mut bench = Bench::staged_r2(&["a", "b"]);
    bench.restart(&["a", "b"]);
    bench.online("a", &[1, 2], Some(2), Standing::Proven);
    assert_eq!(bench.live(), Some(r(1)));
    bench.online("b", &[1, 2], Some(1), Standing::Proven);
    assert_eq!(bench.take(), [ask("b", Command::Activate(r(2)))]);
    bench.activated("b", 2);
    bench.verified("b", 2, Standing::Unproven);
    assert_eq!(bench.live(), Some(r(2)));
}

#[test]
fn a_restarted_source_returns_what_is_broken() {
    let mut bench = Bench::staged_r2(&["a", "b"]);
    bench.restart(&["a", "b"]);
    bench.online("a", &[1, 2], Some(2), Standing::Broken);
    assert_eq!(bench.saved.quarantined[0].release, r(2));
    bench.restart(&["a", "b"]);
    bench.online("a", &[1, 2], Some(2), Standing::Broken);
    assert_eq!(bench.take(), [ask("a", Command::Return(r(1)))]);
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    // Whether the other one is on it is not known before it is back.
    assert_eq!(bench.take(), []);
    bench.online("b", &[1, 2], Some(2), Standing::Proven);
    assert_eq!(bench.take(), [ask("b", Command::Return(r(1)))]);
    bench.returned("b", 2, 1);
    bench.verified("b", 1, Standing::Proven);
    assert!(bench.ended().returned);
}

#[test]
fn a_restarted_source_waits_for_its_nodes_before_it_begins() {
    let mut bench = Bench::activated_r2(&["a", "b"]);
    bench.verified("a", 2, Standing::Proven);
    bench.verified("b", 2, Standing::Proven);
    bench.restart(&["a", "b"]);
    bench.publish(Intent::Watched);
    bench.online("a", &[2], Some(2), Standing::Proven);
    assert_eq!(bench.take(), []);
    bench.pass(RECONNECT_TIMEOUT);
    assert!(bench.take().contains(&Output::Started(r(3))));
}

#[test]
fn a_restarted_source_leaves_members_behind_that_do_not_come_back() {
    let mut bench = Bench::staged_r2(&["a", "b"]);
    bench.restart(&["a", "b"]);
    bench.online("a", &[1, 2], Some(2), Standing::Proven);
    assert_eq!(bench.live(), Some(r(1)));
    bench.pass(RECONNECT_TIMEOUT);
    assert_eq!(bench.live(), Some(r(2)));
}

#[test]
fn reports_that_come_twice_or_of_strangers_change_nothing() {
    let mut bench = Bench::activated_r2(&["a", "b"]);
    bench.verified("a", 2, Standing::Proven);
    let before = (bench.machine.view(), bench.saved.clone());
    bench.staged("a", 2);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    bench.verified("a", 1, Standing::Broken);
    bench.staged("stranger", 2);
    bench.activated("stranger", 2);
    bench.verified("stranger", 2, Standing::Broken);
    bench.returned("stranger", 2, 1);
    bench.offline("stranger");
    bench.event(Event::Removed {
        node: name("stranger"),
    });
    assert_eq!(bench.take(), []);
    assert_eq!((bench.machine.view(), bench.saved.clone()), before);
}

#[test]
fn a_removed_member_holds_up_nobody() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.event(Event::Removed { node: name("b") });
    assert!(bench.take().contains(&ask("a", Command::Activate(r(2)))));
    assert!(!bench.machine.view().nodes.contains_key(&name("b")));
}

#[test]
fn a_fresh_node_that_cannot_return_is_brought_to_live() {
    let mut bench = Bench::on_r1(&["a"]);
    bench.online("b", &[], None, Standing::Unproven);
    bench.publish(Intent::Watched);
    for node in ["a", "b"] {
        bench.staged(node, 2);
    }
    for node in ["a", "b"] {
        bench.activated(node, 2);
    }
    bench.take();
    bench.verified("b", 2, Standing::Broken);
    assert!(bench.take().contains(&ask("b", Command::Push(r(1)))));
}

#[test]
fn what_is_saved_reads_back() {
    let bench = Bench::activated_r2(&["a"]);
    let bytes = crate::codec::encode_record(1, &bench.saved);
    assert_eq!(crate::codec::decode_record(1, &bytes), Ok(bench.saved));
}

fn frozen() -> Event {
    Event::Freeze(Frozen {
        why: Text::cut("incident"),
        by: Text::cut("alice"),
        at: UnixMillis(0),
        by_rollback: false,
    })
}

#[test]
fn an_asked_return_that_crosses_a_retry_finds_nothing_broken() {
    let mut bench = Bench::activated_r2(&["a", "b"]);
    bench.offline("b");
    bench.verified("a", 2, Standing::Broken);
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    bench.online("b", &[1, 2], Some(2), Standing::Verifying);
    assert!(bench.take().contains(&ask("b", Command::Return(r(1)))));
    bench.event(Event::Retry { release: r(2) });
    bench.returned("b", 2, 1);
    assert_eq!(bench.saved.quarantined, []);
    bench.activated("b", 2);
    bench.returned("b", 2, 1);
    assert_eq!(bench.saved.quarantined[0].node, name("b"));
}

#[test]
fn a_retry_is_not_judged_by_what_an_absent_node_knew_before() {
    let mut bench = Bench::new();
    bench.online("a", &[1], Some(1), Standing::Broken);
    bench.publish(Intent::Watched);
    bench.activated("a", 1);
    bench.verified("a", 1, Standing::Broken);
    bench.offline("a");
    bench.event(Event::Retry { release: r(1) });
    assert_eq!(bench.live(), Some(r(1)));
    assert_eq!(bench.saved.quarantined, []);
}

mod fallback;
mod restored;
mod waves;

fn hold_on(seq: u64) -> Hold {
    Hold {
        release: r(seq),
        seq: Seq(seq),
        why: Text::cut("look at it"),
        by: Text::cut("alice"),
        at: UnixMillis(7),
        asked_at: crate::hold::AskedAt::Node,
    }
}

impl Bench {
    fn held(&mut self, node: &str, hold: Option<Hold>) {
        let node = name(node);
        self.event(Event::Held { node, hold });
    }
}

/// `b` is held on r1, and r2 is live elsewhere.
fn held_on_r1() -> Bench {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.held("b", Some(hold_on(1)));
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    bench
}

#[test]
fn a_node_that_is_held_stages_and_is_no_member() {
    let mut bench = held_on_r1();
    let outputs = bench.take();
    assert!(
        outputs.contains(&ask("b", Command::Push(r(2)))),
        "{outputs:?}"
    );
    assert!(!outputs.contains(&ask("b", Command::Activate(r(2)))));
    assert_eq!(bench.live(), Some(r(2)));
    bench.staged("b", 2);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.state("b"), NodeState::Behind);
}

#[test]
fn a_node_that_is_let_go_converges_to_what_is_live() {
    let mut bench = held_on_r1();
    bench.staged("b", 2);
    bench.take();
    bench.held("b", None);
    assert_eq!(bench.take(), [ask("b", Command::Activate(r(2)))]);
}

#[test]
fn a_hold_outlasts_a_restart_and_the_nodes_own_word_counts() {
    let mut bench = held_on_r1();
    bench.restart(&["a", "b"]);
    bench.online("a", &[1, 2], Some(2), Standing::Proven);
    bench.online("b", &[1, 2], Some(1), Standing::Proven);
    assert_eq!(bench.take(), []);
    assert_eq!(
        bench.machine.view().nodes[&name("b")].hold,
        Some(hold_on(1))
    );
    // It was let go on its own host, while it was away.
    bench.offline("b");
    bench.held("b", None);
    bench.online("b", &[1, 2], Some(1), Standing::Proven);
    assert_eq!(bench.take(), [ask("b", Command::Activate(r(2)))]);
}

#[test]
fn a_member_that_a_person_takes_hold_of_leaves_the_rollout() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.held("b", Some(hold_on(1)));
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    assert_eq!(bench.live(), Some(r(2)));
}

#[test]
fn what_is_broken_where_a_person_wanted_it_is_no_verdict_for_others() {
    let mut bench = held_on_r1();
    bench.staged("b", 2);
    bench.held("b", Some(hold_on(2)));
    bench.activated("b", 2);
    bench.take();
    bench.verified("b", 2, Standing::Broken);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.live(), Some(r(2)));
    assert_eq!(bench.state("b"), NodeState::Failed);
    // Where the node goes back by itself, that is its own affair as well.
    bench.returned("b", 2, 1);
    bench.verified("b", 1, Standing::Proven);
    assert_eq!(bench.live(), Some(r(2)));
}

#[test]
fn what_a_node_refused_because_it_was_held_it_is_asked_again() {
    let mut bench = held_on_r1();
    bench.staged("b", 2);
    bench.held("b", None);
    bench.held("b", Some(hold_on(1)));
    bench.event(Event::StepFailed {
        node: name("b"),
        release: r(2),
        retryable: false,
    });
    bench.take();
    bench.held("b", None);
    assert_eq!(bench.take(), [ask("b", Command::Activate(r(2)))]);
}

#[test]
fn nobody_waits_for_a_node_that_is_held() {
    let mut bench = Bench::with(Policy {
        require_online: RequireOnline::All,
        ..AT_ONCE
    });
    bench.publish(Intent::Wanted);
    bench.online("a", &[1], Some(1), Standing::Proven);
    bench.online("b", &[1], Some(1), Standing::Proven);
    bench.held("b", Some(hold_on(1)));
    bench.offline("b");
    bench.publish(Intent::Watched);
    assert_eq!(bench.machine.view().waits_for, []);
    bench.staged("a", 2);
    bench.activated("a", 2);
    bench.verified("a", 2, Standing::Proven);
    assert_eq!(bench.live(), Some(r(2)));
    // Who is no member any more is held no more either.
    bench.event(Event::Removed { node: name("b") });
    assert!(bench.saved.holds.is_empty());
}

#[test]
fn who_found_it_broken_and_is_held_elsewhere_since_did_not_just_leave() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.staged("b", 2);
    bench.activated("a", 2);
    // The source is away while the first one finds it broken, goes back, and is held by its operator.
    bench.restart(&["a", "b"]);
    bench.online("b", &[1, 2], Some(1), Standing::Proven);
    bench.take();
    bench.machine.greets(&name("a"), Some(hold_on(1)));
    bench.online("a", &[1, 2], Some(2), Standing::Broken);
    let told = bench.take();
    assert!(
        !told.contains(&ask("b", Command::Activate(r(2)))),
        "{told:?}"
    );
    assert_eq!(bench.saved.quarantined[0].release, r(2));
    assert_eq!(bench.live(), Some(r(1)));
}

#[test]
fn a_hold_of_a_node_that_was_taken_out_when_the_source_stopped_is_nobodys() {
    let mut bench = held_on_r1();
    // The members are kept elsewhere: the machine was not told any more.
    bench.restart(&["a"]);
    assert_eq!(bench.saved.holds.len(), 0);
    bench.event(Event::Enrolled { node: name("b") });
    assert_eq!(bench.state("b"), NodeState::Joining);
    assert_eq!(bench.machine.view().nodes[&name("b")].hold, None);
}

#[test]
fn what_a_node_has_staged_it_refuses_no_more() {
    let mut bench = Bench::new();
    bench.publish(Intent::Wanted);
    bench.online("a", &[], None, Standing::Unproven);
    // Sent twice, since the first time took so long; then that one arrives.
    let (node, release, retryable) = (name("a"), r(1), false);
    bench.event(Event::StepFailed {
        node,
        release,
        retryable,
    });
    assert_eq!(bench.state("a"), NodeState::Failed);
    bench.take();
    bench.staged("a", 1);
    assert_eq!(bench.take(), [ask("a", Command::Activate(r(1)))]);
}

#[test]
fn who_found_a_release_broken_alone_is_not_held_against_it_when_it_is_tried_anew() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.verified("a", 1, Standing::Broken);
    assert_eq!(bench.saved.broken[&r(1)], names(&["a"]));
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.staged("b", 2);
    for node in ["b", "a"] {
        bench.activated(node, 2);
        bench.verified(node, 2, Standing::Proven);
    }
    assert_eq!(bench.live(), Some(r(2)));
    bench.event(Event::Retry { release: r(1) });
    for node in ["a", "b"] {
        bench.activated(node, 1);
        bench.verified(node, 1, Standing::Unproven);
    }
    assert_eq!(bench.live(), Some(r(1)));
    assert_eq!(bench.state("a"), NodeState::Unverified);
}

#[test]
fn what_a_node_found_while_it_was_held_counts_when_it_is_let_go() {
    let mut bench = Bench::on_r1(&["a", "b"]);
    bench.held("b", Some(hold_on(1)));
    bench.verified("b", 1, Standing::Broken);
    assert!(bench.saved.broken.is_empty());
    bench.held("b", None);
    assert_eq!(bench.saved.broken[&r(1)], names(&["b"]));
}
