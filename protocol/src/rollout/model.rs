//! The machine against simulated agents, links, policies, crashes and backups, in virtual time. Each seed is
//! one history: first with faults, then without. Some things hold at every moment ([`oracle`]),
//! others once the faults have stopped and nothing moves any more ([`rest`]). A failure names its
//! seed and tells its history. `CODEVOL_SEEDS` says how many are played, `CODEVOL_SEED` plays one.

mod agent;
mod books;
mod disk;
mod durable;
mod hold;
mod link;
mod member;
mod oracle;
mod queue;
mod rest;
mod restore;
mod rng;
mod source;
mod waves;
mod world;

use std::collections::BTreeMap;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// Seconds, in a build that is not optimised.
const SEEDS: u64 = 1_000;

/// What some of the first histories must meet, else they prove little.
const MEANT: [&str; 40] = [
    "live",
    "quarantined",
    "taken back",
    "live moved back",
    "held back",
    "crash in stage",
    "crash in activate",
    "crash in return",
    "failed alone",
    "failed and stays",
    "one wave",
    "more than two waves",
    "a canary of one",
    "no canary without code servers",
    "broken in a later wave",
    "broken with waves to come",
    "stays after a stop",
    "returned by itself",
    "waits for an absent one",
    "crash between waves",
    "held",
    "let go",
    "held at rest",
    "held on what is rolled out",
    "asked while held",
    "told of its return later",
    "restored",
    "behind",
    "a gap is filled",
    "live follows",
    "crash when it had taken in",
    "no files",
    "collected",
    "let go again",
    "a power cut takes what was staged",
    "asked for what is gone",
    "taken out",
    "taken out of a rollout",
    "crash when one was taken out",
    "joined again",
];

fn play(world: &mut World) -> bool {
    catch_unwind(AssertUnwindSafe(|| world.run())).is_ok()
}

/// Plays a history again, and tells it to its end.
fn tell(seed: u64) -> ! {
    let mut world = World::new(seed);
    world.story = Some(String::new());
    play(&mut world);
    let story = world.story.unwrap();
    let policy = world.policy;
    let tail = story.lines().count().saturating_sub(60);
    let tail: Vec<&str> = story.lines().skip(tail).collect();
    let tail = tail.join("\n");
    panic!("seed {seed} failed (CODEVOL_SEED={seed} plays it alone), {policy:?}:\n{tail}");
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number")),
    )
}

#[test]
fn any_history_is_safe_and_comes_to_rest_on_live() {
    if let Some(seed) = number("CODEVOL_SEED") {
        tell(seed);
    }
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..number("CODEVOL_SEEDS").unwrap_or(SEEDS) {
        let mut world = World::new(seed);
        if !play(&mut world) {
            tell(seed);
        }
        for (what, times) in world.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    for what in MEANT {
        assert!(seen.contains_key(what), "no history met `{what}`: {seen:?}");
    }
}
