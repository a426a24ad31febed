//! Canary, waves, stopping, and waiting for whoever is away.

use super::*;

/// One at a time.
const ONE_BY_ONE: Policy = Policy {
    canary: Canary::Nodes(1),
    wave: Wave::Nodes(1),
    ..AT_ONCE
};
const STOP: Policy = Policy {
    canary: Canary::Nodes(2),
    on_broken: OnBroken::Stop,
    ..AT_ONCE
};
const ALL_ONLINE: Policy = Policy {
    require_online: RequireOnline::All,
    ..ONE_BY_ONE
};

impl Bench {
    /// A fleet on r1, so standing, that has staged r2 under this policy.
    fn all_staged(policy: Policy, standings: &[(&str, Standing)]) -> Self {
        let mut bench = Self::with(policy);
        bench.publish(Intent::Wanted);
        for (node, standing) in standings {
            bench.online(node, &[1], Some(1), *standing);
        }
        bench.publish(Intent::Watched);
        bench.take();
        for (node, _) in standings {
            bench.staged(node, 2);
        }
        bench
    }

    fn proven(policy: Policy, nodes: &[&str]) -> Self {
        let standings: Vec<_> = nodes.iter().map(|n| (*n, Standing::Proven)).collect();
        Self::all_staged(policy, &standings)
    }

    /// It activates r2, and finds this.
    fn runs(&mut self, node: &str, standing: Standing) {
        self.activated(node, 2);
        self.verified(node, 2, standing);
    }

    /// It finds r2 broken, and goes back by itself.
    fn breaks(&mut self, node: &str) {
        self.runs(node, Standing::Broken);
        self.returned(node, 2, 1);
        self.verified(node, 1, Standing::Proven);
    }

    /// Who was asked something like this since the last look.
    fn asked(&mut self, command: Command) -> Vec<String> {
        let asked = self.take().into_iter().filter_map(|output| match output {
            Output::Ask { node, command: c } if c == command => Some(node.to_string()),
            _ => None,
        });
        asked.collect()
    }

    fn activating(&mut self) -> Vec<String> {
        self.asked(Command::Activate(r(2)))
    }

    fn planned(&self) -> Vec<Vec<String>> {
        let rollout = self.saved.rollout.as_ref().expect("a rollout runs");
        let wave = |wave: &BTreeSet<NodeName>| wave.iter().map(ToString::to_string).collect();
        rollout.waves.iter().map(wave).collect()
    }
}

fn planned(canary: Canary, wave: Wave, nodes: &[&str]) -> Vec<Vec<String>> {
    let policy = Policy {
        canary,
        wave,
        ..AT_ONCE
    };
    Bench::proven(policy, nodes).planned()
}

#[test]
fn waves_are_as_large_as_the_policy_says() {
    let five = ["a", "b", "c", "d", "e"];
    let (none, one) = (Canary::Nodes(0), Canary::Nodes(1));
    let sizes = |canary, wave| {
        let waves = planned(canary, wave, &five);
        waves.iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(sizes(none, Wave::All), [5]);
    assert_eq!(sizes(one, Wave::All), [1, 4]);
    assert_eq!(sizes(Canary::Auto, Wave::All), [1, 4]);
    assert_eq!(sizes(Canary::Nodes(9), Wave::All), [5]);
    assert_eq!(sizes(none, Wave::Nodes(2)), [2, 2, 1]);
    assert_eq!(sizes(one, Wave::Nodes(3)), [1, 3, 1]);
    assert_eq!(sizes(none, Wave::Percent(50)), [3, 2]);
    assert_eq!(sizes(one, Wave::Percent(1)), [1, 1, 1, 1, 1]);
    assert_eq!(sizes(none, Wave::Percent(100)), [5]);
}

#[test]
fn a_fleet_without_code_servers_has_no_canary() {
    let auto = Policy {
        canary: Canary::Auto,
        ..AT_ONCE
    };
    let bare = [("a", Standing::Activated), ("b", Standing::Activated)];
    let mut bench = Bench::all_staged(auto, &bare);
    assert_eq!(bench.activating(), ["a", "b"]);
    let mixed = [("a", Standing::Activated), ("b", Standing::Proven)];
    let mut bench = Bench::all_staged(auto, &mixed);
    assert_eq!(bench.activating(), ["b"]);
}

#[test]
fn the_canary_is_one_that_can_tell() {
    let standings = [
        ("a", Standing::Activated),
        ("b", Standing::Unproven),
        ("c", Standing::Broken),
        ("d", Standing::Good),
        ("e", Standing::Proven),
    ];
    let mut bench = Bench::all_staged(ONE_BY_ONE, &standings);
    assert_eq!(bench.activating(), ["d"]);
    assert_eq!(bench.planned(), [["d"], ["e"], ["b"], ["c"], ["a"]]);
}

#[test]
fn a_wave_begins_when_each_of_the_wave_before_is_good_unproven_or_gone() {
    let pairs = Policy {
        canary: Canary::Nodes(0),
        wave: Wave::Nodes(3),
        ..AT_ONCE
    };
    let mut bench = Bench::proven(pairs, &["a", "b", "c", "d"]);
    assert_eq!(bench.activating(), ["a", "b", "c"]);
    bench.runs("a", Standing::Proven);
    bench.runs("b", Standing::Unproven);
    bench.activated("c", 2);
    assert_eq!(bench.take(), []);
    bench.offline("c");
    assert_eq!(bench.activating(), ["d"]);
    assert_eq!(bench.live(), Some(r(1)));
    bench.runs("d", Standing::Good);
    let outcome = bench.ended();
    assert_eq!((outcome.live, outcome.wave, outcome.waves), (true, 2, 2));
}

#[test]
fn a_broken_canary_touches_nobody_else() {
    let mut bench = Bench::proven(ONE_BY_ONE, &["a", "b", "c"]);
    assert_eq!(bench.activating(), ["a"]);
    bench.breaks("a");
    let told = bench.take();
    let others =
        |output: &&Output| matches!(output, Output::Ask { node, .. } if node != &name("a"));
    assert_eq!(told.iter().find(others), None);
    bench.outputs = told;
    let outcome = bench.ended();
    assert_eq!((outcome.live, outcome.returned), (false, true));
    assert_eq!((outcome.wave, outcome.waves), (1, 3));
    assert_eq!(bench.saved.quarantined[0].release, r(2));
}

#[test]
fn a_broken_second_wave_takes_the_first_back_and_leaves_the_third_alone() {
    let mut bench = Bench::proven(ONE_BY_ONE, &["a", "b", "c"]);
    bench.runs("a", Standing::Proven);
    bench.take();
    bench.breaks("b");
    assert_eq!(bench.asked(Command::Return(r(1))), ["a", "b"]);
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    let outcome = bench.ended();
    assert!(outcome.returned);
    assert_eq!((outcome.wave, outcome.waves), (2, 3));
    assert_eq!(outcome.nodes[&name("c")], NodeState::Live);
}

#[test]
fn a_canary_that_goes_while_it_stages_gives_its_place_to_another() {
    let mut bench = Bench::with(ONE_BY_ONE);
    bench.publish(Intent::Wanted);
    for node in ["a", "b", "c"] {
        bench.online(node, &[1], Some(1), Standing::Proven);
    }
    bench.publish(Intent::Watched);
    bench.staged("b", 2);
    bench.staged("c", 2);
    bench.take();
    bench.offline("a");
    assert_eq!(bench.activating(), ["b"]);
    assert_eq!(bench.planned(), [["b"], ["c"]]);
}

#[test]
fn a_restarted_source_goes_on_in_the_wave_it_was_in() {
    let mut bench = Bench::proven(ONE_BY_ONE, &["a", "b", "c"]);
    bench.runs("a", Standing::Proven);
    let all = ["a", "b", "c"];
    bench.restart(&all);
    bench.online("c", &[1, 2], Some(1), Standing::Proven);
    bench.online("b", &[1, 2], Some(1), Standing::Proven);
    assert_eq!(bench.activating(), ["b"]);
    bench.runs("b", Standing::Proven);
    // What the first wave runs is not known before it is back.
    assert_eq!(bench.take(), []);
    bench.online("a", &[1, 2], Some(2), Standing::Proven);
    assert_eq!(bench.activating(), ["c"]);
}

#[test]
fn status_tells_the_wave() {
    let mut bench = Bench::proven(ONE_BY_ONE, &["a", "b", "c"]);
    bench.runs("a", Standing::Proven);
    let rollout = bench.machine.view().rollout.unwrap();
    assert_eq!((rollout.wave, rollout.waves), (2, 3));
    assert_eq!(rollout.phase, Phase::Activate);
    assert_eq!(bench.machine.wave_of(&name("c")), Some(3));
    bench.runs("b", Standing::Broken);
    let rollout = bench.machine.view().rollout.unwrap();
    assert_eq!((rollout.phase, rollout.wave), (Phase::Return, 2));
}

#[test]
fn stopping_returns_the_broken_one_and_lets_the_others_stay() {
    let mut bench = Bench::proven(STOP, &["a", "b", "c"]);
    bench.runs("a", Standing::Proven);
    bench.take();
    bench.breaks("b");
    let told = bench.take();
    let others =
        |output: &&Output| matches!(output, Output::Ask { node, .. } if node != &name("b"));
    assert_eq!(told.iter().find(others), None);
    bench.outputs = told;
    let outcome = bench.ended();
    assert_eq!((outcome.live, outcome.returned), (false, false));
    assert_eq!(bench.live(), Some(r(1)));
    assert_eq!(bench.state("a"), NodeState::Behind);
    assert_eq!(bench.state("b"), NodeState::Live);
    // Nor is it brought to live when it, or the source, starts again.
    bench.offline("a");
    bench.online("a", &[1, 2], Some(2), Standing::Verifying);
    bench.verified("a", 2, Standing::Unproven);
    bench.restart(&["a", "b", "c"]);
    bench.online("a", &[1, 2], Some(2), Standing::Proven);
    assert_eq!(bench.take(), []);
}

#[test]
fn who_stays_after_a_stop_and_finds_it_broken_later_returns() {
    let mut bench = Bench::proven(STOP, &["a", "b", "c"]);
    bench.activated("a", 2);
    bench.take();
    bench.breaks("b");
    // The verdict of the one that had activated is still waited for.
    assert!(bench.machine.view().rollout.is_some());
    bench.take();
    bench.verified("a", 2, Standing::Broken);
    assert_eq!(bench.asked(Command::Return(r(1))), ["a"]);
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    assert!(bench.ended().returned);
}

#[test]
fn who_had_not_answered_when_a_rollout_stops_returns() {
    let mut bench = Bench::proven(STOP, &["a", "b", "c"]);
    bench.take();
    bench.breaks("b");
    assert_eq!(bench.asked(Command::Return(r(1))), ["a", "b"]);
}

#[test]
fn who_stayed_after_a_stop_goes_where_live_goes() {
    let mut bench = Bench::proven(STOP, &["a", "b", "c"]);
    bench.runs("a", Standing::Proven);
    bench.breaks("b");
    bench.offline("a");
    bench.publish(Intent::Watched);
    bench.staged("b", 3);
    bench.staged("c", 3);
    for node in ["b", "c"] {
        bench.activated(node, 3);
        bench.verified(node, 3, Standing::Proven);
    }
    assert_eq!(bench.live(), Some(r(3)));
    bench.take();
    bench.online("a", &[1, 2, 3], Some(2), Standing::Proven);
    assert_eq!(bench.asked(Command::Return(r(3))), ["a"]);
}

#[test]
fn a_source_restarted_in_a_stop_lets_stay_who_comes_back_well() {
    let mut bench = Bench::proven(STOP, &["a", "b", "c"]);
    bench.runs("a", Standing::Proven);
    bench.activated("b", 2);
    bench.restart(&["a", "b", "c"]);
    bench.online("b", &[1, 2], Some(2), Standing::Broken);
    assert_eq!(bench.asked(Command::Return(r(1))), ["b"]);
    bench.online("a", &[1, 2], Some(2), Standing::Proven);
    assert_eq!(bench.take(), []);
}

#[test]
fn with_all_required_nothing_begins_while_one_is_away() {
    let mut bench = Bench::with(ALL_ONLINE);
    bench.event(Event::Enrolled { node: name("a") });
    assert_eq!(bench.state("a"), NodeState::Joining);
    bench.online("b", &[], None, Standing::Unproven);
    bench.publish(Intent::Wanted);
    assert_eq!(bench.take(), []);
    assert_eq!(bench.machine.view().waits_for, [name("a")]);
    bench.publish(Intent::Wanted);
    bench.online("a", &[], None, Standing::Unproven);
    let told = bench.take();
    assert!(told.contains(&Output::Started(r(2))) && !told.contains(&Output::Started(r(1))));
    assert_eq!(bench.machine.view().waits_for, []);
}

#[test]
fn with_all_required_a_rollout_that_stages_waits_anew_when_one_goes() {
    let mut bench = Bench::with(ALL_ONLINE);
    for node in ["a", "b"] {
        bench.online(node, &[], None, Standing::Unproven);
    }
    bench.publish(Intent::Wanted);
    bench.staged("a", 1);
    bench.take();
    bench.offline("b");
    assert!(bench.take().contains(&Output::HeldBack(r(1))));
    bench.online("b", &[], None, Standing::Unproven);
    assert!(bench.take().contains(&Output::Started(r(1))));
}

#[test]
fn with_all_required_no_wave_begins_and_live_stays_while_one_is_away() {
    let mut bench = Bench::proven(ALL_ONLINE, &["a", "b"]);
    bench.activated("a", 2);
    bench.take();
    bench.offline("a");
    assert_eq!(bench.take(), []);
    assert_eq!(bench.machine.view().waits_for, [name("a")]);
    bench.online("a", &[1, 2], Some(2), Standing::Proven);
    assert_eq!(bench.activating(), ["b"]);
    bench.offline("a");
    bench.runs("b", Standing::Proven);
    assert_eq!(bench.live(), Some(r(1)));
    bench.event(Event::Removed { node: name("a") });
    assert_eq!(bench.live(), Some(r(2)));
}

#[test]
fn with_all_required_a_broken_release_is_taken_back_although_one_is_away() {
    let mut bench = Bench::proven(ALL_ONLINE, &["a", "b"]);
    bench.activated("a", 2);
    bench.offline("b");
    bench.take();
    bench.breaks("a");
    assert!(bench.ended().returned);
}

#[test]
fn with_all_required_a_restarted_source_waits_for_those_that_were_there() {
    let mut bench = Bench::with(ALL_ONLINE);
    for node in ["a", "b"] {
        bench.online(node, &[], None, Standing::Unproven);
    }
    bench.publish(Intent::Wanted);
    bench.restart(&["a", "b"]);
    bench.online("a", &[], None, Standing::Unproven);
    assert_eq!(bench.asked(Command::Push(r(1))), ["a"]);
    bench.pass(RECONNECT_TIMEOUT);
    assert!(bench.take().contains(&Output::HeldBack(r(1))));
}
