//! Where a node goes back to, when it cannot go to what is live.

use super::*;

/// A fleet that went on from r1, over r2, to r3, all found good, while `away` was gone.
fn on_r3_while_gone(nodes: &[&str], away: &str) -> Bench {
    let mut bench = Bench::on_r1(nodes);
    for seq in [2, 3] {
        bench.publish(Intent::Watched);
        for node in nodes {
            bench.staged(node, seq);
        }
        bench.offline(away);
        for node in nodes.iter().filter(|node| **node != away) {
            bench.activated(node, seq);
            bench.verified(node, seq, Standing::Proven);
        }
    }
    assert_eq!(bench.live(), Some(r(3)));
    bench.take();
    bench
}

#[test]
fn a_node_does_not_go_back_to_what_it_found_broken_itself() {
    let mut bench = on_r3_while_gone(&["a", "b"], "a");
    bench.online("a", &[1, 2, 3], Some(2), Standing::Broken);
    bench.activated("a", 3);
    bench.take();
    bench.verified("a", 3, Standing::Broken);
    assert_eq!(bench.take(), [ask("a", Command::Return(r(1)))]);
}

#[test]
fn what_a_node_finds_good_after_all_is_again_a_place_to_go_back_to() {
    let mut bench = on_r3_while_gone(&["a", "b"], "a");
    bench.online("a", &[1, 2, 3], Some(2), Standing::Broken);
    bench.verified("a", 2, Standing::Proven);
    bench.activated("a", 3);
    bench.take();
    bench.verified("a", 3, Standing::Broken);
    assert_eq!(bench.take(), [ask("a", Command::Return(r(2)))]);
}

#[test]
fn what_nobody_found_good_is_quarantined_by_the_first_who_finds_it_broken_though_live_went_on() {
    let mut bench = Bench::on_r1(&["a"]);
    bench.offline("a");
    bench.publish(Intent::Watched);
    bench.publish(Intent::Watched);
    assert_eq!(bench.live(), Some(r(3)));
    bench.take();
    bench.online("a", &[1, 2], Some(2), Standing::Verifying);
    bench.verified("a", 2, Standing::Broken);
    let node = name("a");
    let told = bench.take();
    assert!(told.contains(&Output::Quarantined {
        release: r(2),
        node
    }));
    assert!(told.contains(&ask("a", Command::Return(r(1)))));
    assert_eq!(bench.live(), Some(r(3)));
    bench.returned("a", 2, 1);
    bench.verified("a", 1, Standing::Proven);
    assert_eq!(bench.take(), [ask("a", Command::Push(r(3)))]);
}

#[test]
fn a_node_does_not_go_back_to_what_it_found_broken_while_nothing_was_live() {
    let mut bench = Bench::new();
    bench.publish(Intent::Held);
    bench.online("a", &[1], Some(1), Standing::Broken);
    bench.publish(Intent::Watched);
    bench.staged("a", 2);
    bench.activated("a", 2);
    bench.take();
    bench.verified("a", 2, Standing::Broken);
    let told = bench.take();
    assert!(!told.contains(&ask("a", Command::Return(r(1)))), "{told:?}");
}
