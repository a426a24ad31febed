//! The settle machine in virtual time.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const CONFIG: SettleConfig = SettleConfig {
    settle: Duration::from_millis(20),
    settle_max: Duration::from_secs(2),
};

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

/// Some moment: only differences count.
#[expect(
    clippy::disallowed_methods,
    reason = "virtual time has to start somewhere"
)]
fn start() -> Instant {
    Instant::now()
}

/// A machine that has seen these inputs, at milliseconds after the returned start.
fn after(inputs: impl IntoIterator<Item = (u32, Input)>) -> (Settle, Instant) {
    let start = start();
    let mut settle = Settle::new(CONFIG);
    for (at, input) in inputs {
        settle.handle(input, start + MS * at);
    }
    (settle, start)
}

/// When the machine is ready, in milliseconds after the start.
fn ready_at((settle, start): &(Settle, Instant)) -> Option<u128> {
    let deadline = settle.deadline()?;
    assert!(settle.ready(deadline) && !settle.ready(deadline - MS));
    Some((deadline - *start).as_millis())
}

#[test]
fn a_quiet_tree_is_never_ready() {
    let (settle, start) = after([(0, Input::GitBusy), (5, Input::GitIdle)]);
    assert_eq!(settle.deadline(), None);
    assert!(!settle.ready(start + Duration::from_secs(3_600)));
}

#[test]
fn a_single_change_is_ready_after_settle() {
    assert_eq!(ready_at(&after([(7, Input::Changed)])), Some(27));
}

#[test]
fn the_quiet_time_grows_with_the_burst() {
    let burst = (0..=40).map(|i| (i * 10, Input::Changed));
    assert_eq!(ready_at(&after(burst)), Some(400 + 100));
}

#[test]
fn an_endless_burst_is_ready_at_settle_max() {
    let burst = (0..1_000).map(|i| (i * 10, Input::Changed));
    assert_eq!(ready_at(&after(burst)), Some(2_000));
}

#[test]
fn an_open_writer_holds_until_it_closes() {
    let open = [
        (0, Input::Modified(path("a"))),
        (1, Input::Closed(path("b"))),
    ];
    assert_eq!(ready_at(&after(open.clone())), Some(5_000));
    let closed = open.into_iter().chain([(2_500, Input::Closed(path("a")))]);
    assert_eq!(ready_at(&after(closed)), Some(2_000));
}

#[test]
fn writers_one_after_another_do_not_hold_for_ever() {
    let chain = (0..20).map(|i| (i * 900, Input::Modified(path(&format!("f{i}")))));
    assert_eq!(ready_at(&after(chain)), Some(5_000));
}

#[test]
fn a_busy_git_holds_and_its_end_restarts_the_quiet_time() {
    let busy = [(0, Input::GitBusy), (1, Input::Changed)];
    assert_eq!(ready_at(&after(busy.clone())), Some(60_000));
    let idle = busy.into_iter().chain([(101, Input::GitIdle)]);
    assert_eq!(ready_at(&after(idle)), Some(101 + 25));
}

#[test]
fn a_stale_lock_holds_one_minute_in_all() {
    let (mut settle, start) = after([(0, Input::GitBusy), (59_000, Input::Changed)]);
    assert_eq!(settle.deadline(), Some(start + GIT_HOLD_MAX));
    settle.begin();
    let later = start + Duration::from_secs(600);
    settle.handle(Input::GitBusy, later);
    settle.handle(Input::Changed, later);
    assert_eq!(settle.deadline(), Some(later + CONFIG.settle));
}

#[test]
fn git_that_flaps_does_not_hold_past_its_bound() {
    let flaps = (0..20_000).map(|i| {
        let input = if i % 2 == 0 {
            Input::GitIdle
        } else {
            Input::GitBusy
        };
        (i * 5, input)
    });
    let inputs = [(0, Input::Changed)].into_iter().chain(flaps);
    assert_eq!(ready_at(&after(inputs)), Some(60_000));
}

#[test]
fn what_comes_during_the_scan_is_the_next_burst() {
    let (mut settle, start) = after([(0, Input::Modified(path("a")))]);
    settle.begin();
    assert!(!settle.ready(start + Duration::from_secs(60)));
    settle.handle(Input::Closed(path("a")), start + MS * 100);
    assert_eq!(settle.deadline(), Some(start + MS * 120));
}

#[test]
fn more_writers_than_are_told_apart_neither_grow_nor_hold_for_ever() {
    let many = (0..5_000).map(|i| (0, Input::Modified(path(&format!("f{i}")))));
    let machine = after(many);
    assert_eq!(ready_at(&machine), Some(5_000));
    assert_eq!(machine.0.burst.map(|b| b.writers.len()), Some(WRITERS_MAX));
}

fn inputs() -> impl Strategy<Value = Vec<(u64, Input)>> {
    let name = (0..4_u8).prop_map(|n| path(&format!("f{n}")));
    let input = prop_oneof![
        3 => Just(Input::Changed),
        2 => name.clone().prop_map(Input::Modified),
        2 => name.prop_map(Input::Closed),
        1 => Just(Input::GitBusy),
        1 => Just(Input::GitIdle),
    ];
    prop::collection::vec((0..3_000_u64, input), 1..60)
}

proptest! {
    #[test]
    fn a_burst_waits_at_least_settle_and_at_most_the_longest_hold(inputs in inputs()) {
        let mut settle = Settle::new(CONFIG);
        let mut now = start();
        let mut first: Option<Instant> = None;
        let mut last = now;
        for (gap, input) in inputs {
            now += MS * u32::try_from(gap).unwrap();
            let changes = !matches!(input, Input::GitBusy | Input::GitIdle);
            settle.handle(input, now);
            if changes {
                first.get_or_insert(now);
                last = now;
            }
            prop_assert_eq!(settle.deadline().is_some(), first.is_some());
            if let (Some(deadline), Some(first)) = (settle.deadline(), first) {
                prop_assert!(deadline >= (last + CONFIG.settle).min(first + CONFIG.settle_max));
                prop_assert!(deadline <= first + GIT_HOLD_MAX);
            }
            if settle.ready(now) {
                settle.begin();
                first = None;
            }
        }
    }
}

#[test]
fn a_burst_tells_its_first_and_last_change_until_it_is_begun() {
    let inputs = [
        (5, Input::Changed),
        (9, Input::Modified(path("a"))),
        (9, Input::GitBusy),
    ];
    let (mut settle, start) = after(inputs);
    assert_eq!(settle.burst(), Some((start + MS * 5, start + MS * 9)));
    settle.begin();
    assert_eq!(settle.burst(), None);
}
