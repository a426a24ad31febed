//! Crashes, absences, cuts and damage, and that all of them end where they should by themselves.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use codevol_tests::{
    Agent, Defines, Fleet, HeldTree, Place, Relay, Source, noise, project, save, say, wait_for,
    wait_until,
};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;

const MEBIBYTE: usize = 1 << 20;

/// A source and one agent, with a network between them.
fn relayed() -> (Source, Agent, Relay) {
    let place = Arc::new(Place::new());
    let mut source = Source::init(&place);
    project(&source, &Defines::asset("first"));
    source.start();
    let relay = Relay::to(&source.listen());
    let agent = Agent::join_through(&source, "dag-01", &relay);
    wait_until("r1 is there", || agent.current_seq() == Some(1));
    source.wait_live_everywhere(1);
    (source, agent, relay)
}

#[test]
fn an_agent_killed_in_the_middle_of_200_mebibytes_resumes_there() {
    let (source, mut agent, relay) = relayed();
    let whole = noise(200 * MEBIBYTE, 7);
    // At once: a file that is written in place may be seen before it is whole.
    source.save("../table.bin", &whole);
    let (from, to) = (
        source.tree().join("../table.bin"),
        source.tree().join("pipes/table.bin"),
    );
    fs::rename(from, to).unwrap();
    wait_until("100 MiB have arrived", || {
        agent.incoming_bytes() > 100 * MEBIBYTE as u64
    });
    agent.process().kill();
    let first_run = relay.to_agents_bytes();
    assert!(
        first_run < 195 * MEBIBYTE as u64,
        "it was killed too late: {first_run}"
    );
    assert_eq!(agent.current_seq(), Some(1));
    agent.start();
    source.wait_live_everywhere(2);
    let second_run = relay.to_agents_bytes() - first_run;
    // What had arrived in whole segments was not sent again.
    let most = 150 * MEBIBYTE as u64;
    assert!(second_run < most, "{first_run} bytes, then {second_run}");
    assert!(fs::read(agent.root().join("current/pipes/table.bin")).unwrap() == whole);
}

#[test]
fn an_agent_away_for_five_releases_catches_up_in_one_transfer() {
    let mut fleet = Fleet::start(2);
    fleet.agents[1].process().terminate();
    for n in 2..=6 {
        fleet
            .source
            .save("pipes/orders.py", format!("ORDERS = {n}\n"));
        fleet
            .source
            .save(&format!("pipes/new{n}.py"), format!("NEW = {n}\n"));
        fleet.source.run(&["push"]).exits(3);
    }
    let head = fleet.source.status().head();
    fleet.agents[1].start();
    fleet.source.wait_live_everywhere(head);
    let agent = &fleet.agents[1];
    let held = agent.releases();
    assert_eq!(held.len(), 2, "nothing between was sent: {held:?}");
    assert_eq!(agent.read("pipes/orders.py").unwrap(), "ORDERS = 6\n");
    assert_eq!(agent.read("pipes/new3.py").unwrap(), "NEW = 3\n");
}

#[test]
fn an_agent_whose_disk_was_emptied_is_whole_again() {
    let mut fleet = Fleet::start(1);
    fleet.agent().process().terminate();
    let root = fleet.agent().root().to_owned();
    fs::remove_dir_all(root.join("releases")).unwrap();
    fs::remove_dir_all(root.join(".codevol")).unwrap();
    fs::remove_file(root.join("current")).unwrap();
    fleet.agent().start();
    wait_until("r1 is back", || {
        fleet.agents[0].read("definitions.py").is_some()
    });
    fleet.source.wait_live_everywhere(1);
}

#[test]
fn a_source_killed_and_restarted_has_its_agents_back() {
    let mut fleet = Fleet::start(3);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    let killed = Instant::now();
    fleet.source.crash_and_restart();
    let started = killed.elapsed();
    let status = fleet.source.wait_live_everywhere(2);
    // That it is a second at most is shown in virtual time, in the transport.
    let (all, start) = (killed.elapsed().as_millis(), started.as_millis());
    say(&format!(
        "3 agents back {all} ms after the kill, the source {start} ms"
    ));
    assert_eq!(status.head(), 2, "a restart publishes nothing: {status}");
    fleet.source.save("pipes/orders.py", "ORDERS = 3\n");
    fleet.source.wait_live_everywhere(3);
}

#[test]
fn what_was_saved_while_the_source_was_down_is_published_when_it_is_back() {
    let mut fleet = Fleet::start(1);
    fleet.source.process().kill();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.remove("definitions.py");
    fleet.source.start();
    fleet.source.wait_live_everywhere(2);
    assert_eq!(
        fleet.agents[0].read("pipes/orders.py").unwrap(),
        "ORDERS = 2\n"
    );
    assert_eq!(fleet.agents[0].read("definitions.py"), None);
}

#[test]
fn an_agent_that_starts_while_the_source_is_down_is_ready() {
    let mut fleet = Fleet::start(1);
    fleet.source.process().terminate();
    fleet.agent().process().kill();
    fleet.agent().start();
    fleet.agents[0].run(&["health", "--ready"]).succeeds();
    let own = fleet.agents[0].status();
    assert_eq!(own.0["source"]["state"], "connecting", "{own}");
    assert_eq!(own.node("dag-01")["release"], 1, "{own}");
    fleet.source.start();
    fleet.source.wait_live_everywhere(1);
}

#[test]
fn a_partitioned_agent_converges_when_the_network_is_back() {
    let (source, agent, relay) = relayed();
    relay.cut();
    source.wait("it is missed", |status| status.state("dag-01") == "offline");
    source.save("pipes/orders.py", "ORDERS = 2\n");
    source.run(&["push"]).exits(3);
    assert_eq!(agent.current_seq(), Some(1));
    relay.mend();
    source.wait_live_everywhere(2);
}

#[test]
fn nobody_activates_before_all_have_staged_and_who_falls_silent_leaves_the_rollout() {
    let (source, _far, relay) = relayed();
    let near = Agent::join_and_start(&source, "dag-02", None);
    source.wait("both are members", |status| {
        !status.node("dag-02").is_null() && status.is_live_everywhere(1)
    });
    // The source does not know yet that one of them hears nothing more.
    relay.cut();
    source.save("pipes/orders.py", "ORDERS = 2\n");
    wait_until("the near one activates", || near.current_seq() == Some(2));
    let status = source.status();
    assert_eq!(status.state("dag-01"), "offline", "{status}");
    let pushed = source.run(&["push", "--json"]).exits(3);
    let last = pushed.last_json();
    assert_eq!(last["nodes"]["dag-01"], "offline", "{pushed}");
    assert_eq!(last["nodes"]["dag-02"], "live", "{pushed}");
    relay.mend();
    source.wait_live_everywhere(2);
}

#[test]
fn a_member_killed_in_the_stage_step_leaves_the_rollout_and_the_others_go_on() {
    let mut fleet = Fleet::start(2);
    // It neither stages nor goes away: both are in the stage step.
    fleet.agents[1].process().signal(Signal::STOP);
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    wait_until("the other one has staged", || {
        fleet.agents[0].releases().len() == 2
    });
    assert_eq!(fleet.agents[0].current_seq(), Some(1));
    fleet.agents[1].process().kill();
    let killed = Instant::now();
    wait_until("the other one activates", || {
        fleet.agents[0].current_seq() == Some(2)
    });
    let waited = killed.elapsed().as_millis();
    say(&format!("activated {waited} ms after the kill"));
    let status = fleet.source.status();
    // Its connection has ended: it was not the step that took too long.
    assert_eq!(status.state("dag-02"), "offline", "{status}");
    fleet.agents[1].start();
    fleet.source.wait_live_everywhere(2);
}

#[test]
fn a_reader_that_opens_current_once_never_sees_a_mixture() {
    const RELEASES: u64 = 1_000;
    let fleet = Fleet::start_in(Place::in_memory(), 1, |source| {
        source.set("VOLUME__0__WATCH__SETTLE", "1ms");
        for name in ROUND_FILES {
            source.save(&format!("round/{name}"), "0");
        }
    });
    let began = Instant::now();
    let (saw, seen) = mpsc::channel();
    let is_over = AtomicBool::new(false);
    let root = fleet.agents[0].root();
    let (rounds, once, through) = thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&is_over, root, &saw));
        // In the way of a panic the reader would never end.
        let saved = catch_unwind(AssertUnwindSafe(|| {
            for n in 1..=RELEASES {
                save_round(&fleet.source, n);
                let wait = || seen.recv_timeout(Duration::from_secs(60));
                while wait().unwrap_or_else(|_| panic!("round {n} is not seen")) != n {}
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        let read = reader.join().unwrap();
        saved.unwrap();
        read
    });
    say(&format!(
        "{RELEASES} releases in {:.1?}, {rounds} rounds: {once} mixtures with `current` opened once, \
         {through} path by path",
        began.elapsed()
    ));
    assert!(rounds > RELEASES, "the reader read {rounds} times only");
    assert_eq!(once, 0, "mixtures in {rounds} rounds");
    assert_eq!(fleet.source.status().head(), RELEASES + 1);
}

const ROUND_FILES: [&str; 4] = ["a.py", "b.py", "y.py", "z.py"];

/// Saves all files of a round in one step: the folder with them takes the place of the one before.
fn save_round(source: &Source, n: u64) {
    let next = source.tree().with_file_name("next");
    for name in ROUND_FILES {
        save(&next.join(name), format!("{n}").as_bytes());
    }
    let round = source.tree().join("round");
    renameat_with(CWD, &next, CWD, &round, RenameFlags::EXCHANGE).unwrap();
}

/// Reads the same text from all files, again and again, and tells each new one. Returns how often, and
/// how often the texts differed for one who opened `current` once, and for one who went through it
/// path by path.
fn read_until(is_over: &AtomicBool, root: &Path, saw: &mpsc::Sender<u64>) -> (u64, u64, u64) {
    let differ = |texts: &[String]| texts.iter().any(|text| *text != texts[0]);
    let mut seen = (0, 0, 0);
    let mut newest = String::new();
    while !is_over.load(Ordering::Relaxed) {
        let held = HeldTree::open(root).unwrap();
        let once = ROUND_FILES.map(|name| held.read(&format!("round/{name}")).unwrap());
        let round = root.join("current/round");
        let through = ROUND_FILES.map(|name| fs::read_to_string(round.join(name)).unwrap());
        seen.0 += 1;
        seen.1 += u64::from(differ(&once));
        seen.2 += u64::from(differ(&through));
        if once[3] != newest {
            newest.clone_from(&once[3]);
            saw.send(newest.parse().unwrap()).unwrap();
        }
    }
    seen
}

#[test]
fn a_held_file_that_was_damaged_is_mended_before_it_is_used_again() {
    let fleet = Fleet::start_with(1, |source| {
        source.save("pipes/table.bin", noise(MEBIBYTE, 1));
    });
    let agent = &fleet.agents[0];
    let held = agent.root().join("releases").join(&agent.releases()[0]);
    damage(&held.join("pipes/table.bin"));
    damage(&held.join("definitions.py"));
    // One is a delta's base, the other one is only linked.
    let mut table = noise(MEBIBYTE, 1);
    table[MEBIBYTE / 2] ^= 1;
    fleet.source.save("pipes/table.bin", &table);
    fleet.source.wait_live_everywhere(2);
    assert!(fs::read(agent.root().join("current/pipes/table.bin")).unwrap() == table);
    let definitions = fs::read(fleet.source.tree().join("definitions.py")).unwrap();
    assert_eq!(
        fs::read(agent.root().join("current/definitions.py")).unwrap(),
        definitions
    );
}

#[test]
fn a_rollback_to_a_release_that_was_damaged_restores_its_bytes() {
    let fleet = Fleet::start_with(1, |source| {
        source.save("pipes/table.bin", noise(MEBIBYTE, 1));
    });
    let agent = &fleet.agents[0];
    fleet.source.save("pipes/table.bin", noise(MEBIBYTE, 2));
    fleet.source.wait_live_everywhere(2);
    let first = agent
        .releases()
        .into_iter()
        .find(|name| name.starts_with("000001-"))
        .unwrap();
    damage(
        &agent
            .root()
            .join("releases")
            .join(first)
            .join("pipes/table.bin"),
    );
    fleet.source.run(&["rollback", "--yes"]).succeeds();
    let table = fs::read(agent.root().join("current/pipes/table.bin")).unwrap();
    assert!(table == noise(MEBIBYTE, 1));
}

#[test]
fn a_same_size_save_within_one_second_arrives() {
    let fleet = Fleet::start(1);
    for n in 1..=20 {
        fleet
            .source
            .save("pipes/orders.py", format!("ORDERS = {n:03}\n"));
        let agent = &fleet.agents[0];
        wait_for("the save arrives", || {
            let arrived = agent.read("pipes/orders.py").unwrap();
            (arrived == format!("ORDERS = {n:03}\n"))
                .then_some(())
                .ok_or(arrived)
        });
    }
}

#[test]
fn old_releases_are_collected_and_the_live_one_and_the_one_before_stay() {
    let fleet = Fleet::start_with(0, |_source| {});
    let mut agent = Agent::join(&fleet.source, "dag-01", None);
    agent.set("VOLUME__0__KEEP", "2");
    agent.start();
    fleet.source.wait_live_everywhere(1);
    for n in 2..=40 {
        fleet
            .source
            .save("pipes/orders.py", format!("ORDERS = {n}\n"));
        fleet.source.run(&["push"]).succeeds();
    }
    let seq = |name: &String| name[..6].parse::<u64>().unwrap();
    // Of those that were live in the last day the newest twenty stay.
    wait_for("the oldest are gone", || {
        let held: Vec<u64> = agent.releases().iter().map(seq).collect();
        (held.len() <= 24)
            .then_some(())
            .ok_or_else(|| format!("{held:?}"))
    });
    let held: Vec<u64> = agent.releases().iter().map(seq).collect();
    assert!(held.contains(&39) && held.contains(&40), "{held:?}");
    assert!(!held.contains(&1), "{held:?}");
}

/// Changes bytes in place, as a failing disk or a stray hand does.
fn damage(file: &Path) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(b"damaged", 3).unwrap();
}
