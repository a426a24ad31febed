//! What the daemons count of themselves, by HTTP; pings, and the doctor.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use codevol_tests::{
    Agent, Ended, Fleet, Host, Place, Scrape, Source, noise, not_run, wait_for, wait_until,
};
use rustix::process::Signal;
use serde_json::Value;

const LISTEN: (&str, &str) = ("METRICS__LISTEN", "127.0.0.1:0");

/// What cli.md names, where it is served.
const OF_BOTH: [&str; 14] = [
    "codevol_build_info",
    "codevol_release_info",
    "codevol_release_lag",
    "codevol_phase_duration_seconds",
    "codevol_sent_bytes_total",
    "codevol_received_bytes_total",
    "codevol_store_bytes",
    "codevol_quic_rtt_seconds",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
];
const OF_SOURCE: [&str; 6] = [
    "codevol_nodes",
    "codevol_rollouts_total",
    "codevol_propagation_seconds",
    "codevol_watch_overflows_total",
    "codevol_rescans_total",
    "codevol_frozen",
];
const OF_AGENT: [&str; 2] = ["codevol_reload_failures_total", "codevol_drifted_files"];

/// A source and `dag-01`, both with metrics, r1 live.
fn fleet_with_metrics() -> Fleet {
    let mut fleet = Fleet::start_in(Place::new(), 0, |source| source.set(LISTEN.0, LISTEN.1));
    let mut agent = Agent::join(&fleet.source, "dag-01", None);
    agent.set(LISTEN.0, LISTEN.1);
    agent.start();
    fleet.agents.push(agent);
    fleet.source.wait("the agent is live", |status| {
        status.state("dag-01") == "live"
    });
    fleet
}

/// Reads the metrics until they hold.
#[track_caller]
fn wait_scrape(host: &mut Host, what: &str, holds: impl Fn(&Scrape) -> bool) -> Scrape {
    wait_for(what, || {
        let scrape = host.scrape();
        if holds(&scrape) {
            Ok(scrape)
        } else {
            Err(scrape.text)
        }
    })
}

#[track_caller]
fn assert_rises(series: &[&str], before: &Scrape, after: &Scrape) {
    for series in series {
        let (before, after) = (before.get(series).unwrap_or(0.0), after.value(series));
        assert!(after > before, "{series}: {before} and then {after}");
    }
}

const STORE: &str = "codevol_store_bytes{volume=\"pipes\"}";

#[test]
fn all_that_the_contract_names_is_served_by_both_and_moves_with_a_push() {
    let mut fleet = fleet_with_metrics();
    let (source, agent) = (&mut fleet.source, &mut fleet.agents[0]);
    let measured = |scrape: &Scrape| scrape.get(STORE).is_some();
    let before = wait_scrape(source, "the store is measured", measured);
    let agent_before = wait_scrape(agent, "the root is measured", measured);
    for name in OF_BOTH.iter().chain(&OF_SOURCE) {
        assert!(before.has(name), "no {name} in:\n{}", before.text);
    }
    for name in OF_BOTH.iter().chain(&OF_AGENT) {
        assert!(
            agent_before.has(name),
            "no {name} in:\n{}",
            agent_before.text
        );
    }
    let live = "codevol_nodes{volume=\"pipes\",state=\"live\"}";
    assert_eq!(before.value(live), 1.0);
    let first = "codevol_release_info{volume=\"pipes\",release=\"r1\"}";
    assert_eq!((before.value(first), agent_before.value(first)), (1.0, 1.0));
    // Nobody wrote what stood there when the source was started.
    let propagated = "codevol_propagation_seconds_count{volume=\"pipes\"}";
    assert_eq!(before.value(propagated), 0.0);

    source.save("pipes/large.bin", noise(300_000, 7));
    source.run(&["push"]).succeeds();
    let second = "codevol_release_info{volume=\"pipes\",release=\"r2\"}";
    let grown = |before: &Scrape| {
        let before = before.value(STORE);
        move |scrape: &Scrape| {
            scrape
                .get(STORE)
                .is_some_and(|bytes| bytes >= before + 300_000.0)
        }
    };
    let after = wait_scrape(source, "the store has grown", grown(&before));
    let agent_after = wait_scrape(agent, "the root has grown", grown(&agent_before));
    for (before, after) in [(&before, &after), (&agent_before, &agent_after)] {
        assert_eq!((after.get(first), after.get(second)), (None, Some(1.0)));
        let moved = ["codevol_sent_bytes_total", "codevol_received_bytes_total"];
        assert_rises(&moved, before, after);
        assert_rises(&["process_cpu_seconds_total"], before, after);
    }
    let moved = [
        "codevol_rollouts_total{volume=\"pipes\",result=\"done\"}",
        propagated,
        "codevol_propagation_seconds_sum{volume=\"pipes\"}",
        "codevol_rescans_total{volume=\"pipes\"}",
        "codevol_phase_duration_seconds_count{phase=\"scan\"}",
        "codevol_phase_duration_seconds_count{phase=\"publish\"}",
        "codevol_phase_duration_seconds_count{phase=\"rollout\"}",
    ];
    assert_rises(&moved, &before, &after);
    assert!(after.value("codevol_propagation_seconds_sum{volume=\"pipes\"}") < 60.0);
    let rtt = after.value("codevol_quic_rtt_seconds{peer=\"dag-01\"}");
    assert!(rtt > 0.0 && rtt < 1.0, "{rtt}");
    assert!(agent_after.value("codevol_quic_rtt_seconds{peer=\"source\"}") > 0.0);
    let moved = ["stage", "activate", "verify"]
        .map(|phase| format!("codevol_phase_duration_seconds_count{{phase=\"{phase}\"}}"));
    assert_rises(
        &moved.each_ref().map(String::as_str),
        &agent_before,
        &agent_after,
    );
}

#[test]
fn what_is_saved_is_timed_from_the_save_and_what_stands_still_is_told() {
    let mut fleet = fleet_with_metrics();
    let before = fleet.source.scrape();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    let after = fleet.source.scrape();
    let moved = [
        "codevol_propagation_seconds_count{volume=\"pipes\"}",
        "codevol_phase_duration_seconds_count{phase=\"settle\"}",
    ];
    assert_rises(&moved, &before, &after);
    let frozen = "codevol_frozen{volume=\"pipes\"}";
    assert_eq!(after.value(frozen), 0.0);
    fleet.source.run(&["freeze"]).succeeds();
    assert_eq!(fleet.source.scrape().value(frozen), 1.0);
    fleet.source.run(&["thaw"]).succeeds();

    fleet.agents[0].process().kill();
    let offline = "codevol_nodes{volume=\"pipes\",state=\"offline\"}";
    wait_scrape(&mut fleet.source, "the node is offline", |scrape| {
        scrape.value(offline) == 1.0
    });
    fleet.source.save("pipes/orders.py", "ORDERS = 3\n");
    fleet.source.wait("r3 is live", |status| status.live() == 3);
    let away = fleet.source.scrape();
    let lag = "codevol_release_lag{volume=\"pipes\",node=\"dag-01\"}";
    assert_eq!((after.value(lag), away.value(lag)), (0.0, 1.0));
    assert_eq!(away.get("codevol_quic_rtt_seconds{peer=\"dag-01\"}"), None);
    // The link is gone, what it carried is not.
    let carried = ["codevol_sent_bytes_total", "codevol_received_bytes_total"];
    for series in carried {
        assert!(away.value(series) >= after.value(series), "{series}");
    }
}

#[test]
fn a_code_server_that_does_not_answer_counts_as_a_failed_reload() {
    let fleet = Fleet::without_agents();
    let address = "unix:/nonexistent/code.sock";
    let mut agent = Agent::new(fleet.source.place(), "dag-01");
    let token = fleet.source.invite("dag-01");
    agent
        .run_join(&token, &["--code-server", address])
        .succeeds();
    agent.set(LISTEN.0, LISTEN.1);
    agent.start();
    wait_scrape(&mut agent, "the failure is counted", |scrape| {
        scrape.value("codevol_reload_failures_total{reason=\"unproven\"}") >= 1.0
    });
}

#[test]
fn probes_tell_a_daemon_that_works_from_one_that_is_of_use() {
    let mut fleet = Fleet::start_in(Place::new(), 0, |source| {
        source.set(LISTEN.0, LISTEN.1);
        source.set("VOLUME__0__PUBLISH", "manual");
    });
    // It has started, so it has scanned; it has published nothing yet.
    for path in ["/healthz", "/readyz"] {
        assert_eq!(fleet.source.page(path).status, 200);
    }
    assert_eq!(fleet.source.page("/").status, 404);
    let mut agent = Agent::join(&fleet.source, "dag-01", None);
    agent.set(LISTEN.0, LISTEN.1);
    agent.start();
    assert_eq!(agent.page("/healthz").status, 200);
    let unready = agent.page("/readyz");
    assert_eq!(unready.status, 503, "{unready:?}");
    assert_eq!(unready.text, "volume `pipes` holds no release yet\n");
    fleet.source.run(&["push", "--yes"]).succeeds();
    wait_until("the agent is ready", || agent.page("/readyz").status == 200);
}

#[test]
fn nothing_listens_on_tcp_where_no_metrics_are_configured() {
    let mut fleet = Fleet::start(1);
    for host in [&mut *fleet.source, &mut *fleet.agents[0]] {
        let listening = listening_sockets();
        let open = open_sockets(host.process().id());
        assert!(!open.is_empty(), "a daemon has sockets");
        let both: Vec<_> = open
            .iter()
            .filter(|each| listening.contains(each))
            .collect();
        assert!(both.is_empty(), "{both:?}");
    }
}

/// Returns the numbers of the sockets that listen on TCP.
fn listening_sockets() -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables = tables.map(|table| fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let listens = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listens = listens.filter(|fields| fields[3] == "0A");
    listens.map(|fields| fields[9].to_owned()).collect()
}

/// Returns the numbers of a process's sockets.
fn open_sockets(process: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = descriptors.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
    let names = targets.map(|target| target.to_string_lossy().into_owned());
    let number = |name: String| {
        let rest = name.strip_prefix("socket:[")?;
        Some(rest.strip_suffix(']')?.to_owned())
    };
    names.filter_map(number).collect()
}

#[test]
fn a_port_that_the_system_chose_is_kept_when_the_file_is_read_again() {
    let mut fleet = fleet_with_metrics();
    let before = fleet.source.metrics_address();
    let file = fleet.source.file();
    let text = fs::read_to_string(&file).unwrap();
    let volume = "[[volume]]\n";
    let text = text.replacen(volume, &format!("{volume}keep = 7\n"), 1);
    codevol_tests::save(&file, text.as_bytes());
    fleet.source.process().signal(Signal::HUP);
    let process = fleet.source.process();
    wait_until("it serves anew", || {
        process.log().contains("configuration was reloaded")
    });
    assert_eq!(fleet.source.metrics_address(), before);
    assert_eq!(fleet.source.page("/healthz").status, 200);
}

#[test]
fn promtool_minds_nothing_of_what_both_daemons_serve() {
    let mut fleet = fleet_with_metrics();
    fleet.source.save("pipes/orders.py", "ORDERS = 2\n");
    fleet.source.wait_live_everywhere(2);
    let hosts = [&mut *fleet.source, &mut *fleet.agents[0]];
    let texts = hosts.map(|host| host.scrape().text);
    for text in texts {
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]);
        if command.stdin(Stdio::null()).output().is_err() {
            return not_run("there is no `promtool`");
        }
        let checked = Ended::run_with(command, &text).exits(0);
        assert_eq!(
            format!("{}{}", checked.stdout, checked.stderr),
            "",
            "{checked}"
        );
    }
}

#[test]
fn a_ping_is_answered_by_the_agent_itself_or_says_why_not() {
    let mut fleet = Fleet::start(1);
    let answer = fleet.source.run(&["ping", "dag-01"]).exits(0);
    assert!(
        answer.stdout.starts_with("dag-01 at 127.0.0.1:"),
        "{answer}"
    );
    assert!(answer.stdout.ends_with(" ms\n"), "{answer}");
    let answer = fleet.source.run(&["ping", "dag-01", "--json"]).exits(0);
    let answer = answer.json();
    assert_eq!(answer["schema"], "codevol.ping/1");
    assert_eq!(answer["node"], "dag-01");
    let rtt = answer["rtt_ms"].as_f64().unwrap();
    assert!(rtt > 0.0 && rtt < 5_000.0, "{rtt}");

    let unknown = fleet.source.run(&["ping", "dag-02"]).exits(4);
    assert!(unknown.stderr.contains("no node `dag-02`"), "{unknown}");

    // It hangs: the link is up, and nobody answers over it.
    fleet.agents[0].process().signal(Signal::STOP);
    let silent = fleet.source.run(&["ping", "dag-01"]).exits(69);
    assert!(silent.stderr.contains("did not answer"), "{silent}");
    fleet.agents[0].process().signal(Signal::CONT);
    wait_until("it answers again", || {
        fleet.source.run(&["ping", "dag-01"]).code == Some(0)
    });

    fleet.agents[0].process().terminate();
    fleet
        .source
        .wait("it is gone", |status| status.state("dag-01") == "offline");
    let gone = fleet.source.run(&["ping", "dag-01", "--json"]).exits(69);
    assert_eq!(gone.json()["kind"], "unreachable", "{gone}");
}

/// Returns the checks of a kind, each with its state.
fn states(ended: &Ended, what: &str) -> Vec<String> {
    let document = ended.json();
    assert_eq!(document["schema"], "codevol.doctor/1", "{ended}");
    let checks = document["checks"].as_array().unwrap();
    let of_kind = checks.iter().filter(|check| check["check"] == what);
    of_kind
        .map(|check| check["state"].as_str().unwrap().to_owned())
        .collect()
}

fn mend(ended: &Ended) -> String {
    let document = ended.json();
    let checks = document["checks"].as_array().unwrap();
    let wrong = checks.iter().find(|check| check["state"] == "wrong");
    wrong
        .and_then(|check| check["mend"].as_str())
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn the_doctor_finds_nothing_wrong_with_a_fleet_and_disturbs_nobody() {
    let mut fleet = Fleet::start(1);
    let source = fleet.source.run(&["doctor", "--net", "--json"]).exits(0);
    let agent = fleet.agents[0].run(&["doctor", "--net", "--json"]).exits(0);
    for (ended, role) in [(&source, "source"), (&agent, "agent")] {
        assert_eq!(ended.json()["role"], role);
        assert_eq!(ended.json()["wrong"], 0);
        for what in [
            "configuration",
            "user",
            "state",
            "identity",
            "daemon",
            "clock",
        ] {
            assert_eq!(states(ended, what), ["ok"], "{what}: {ended}");
        }
    }
    assert_eq!(states(&source, "watch"), ["ok"], "{source}");
    assert_eq!(states(&source, "git"), ["ok"], "{source}");
    assert_eq!(states(&agent, "root"), ["ok"], "{agent}");
    assert_eq!(states(&agent, "source"), ["ok"], "{agent}");
    // It dialled by another key: the agent's own link is as it was.
    fleet.source.run(&["ping", "dag-01"]).succeeds();
    let log = fleet.agents[0].process().log();
    assert!(!log.contains("lost the source"), "{log}");
    let shown = fleet.agents[0].run(&["doctor"]).exits(0);
    assert!(shown.stdout.contains("ok       state"), "{shown}");
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_mends_it() {
    let mut fleet = Fleet::start(1);
    let agent = &fleet.agents[0];
    let state = agent.file().with_file_name("state");
    let open = |mode| fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
    open(0o755);
    let ended = agent.run(&["doctor", "--json"]).exits(1);
    assert_eq!(states(&ended, "state"), ["wrong"], "{ended}");
    assert_eq!(mend(&ended), format!("chmod 700 {}", state.display()));
    open(0o700);
    agent.run(&["doctor"]).succeeds();

    let key = state.join("node.key");
    let kept = state.join("node.key.kept");
    fs::rename(&key, &kept).unwrap();
    let ended = agent.run(&["doctor", "--json"]).exits(1);
    assert_eq!(states(&ended, "identity"), ["wrong"], "{ended}");
    fs::rename(&kept, &key).unwrap();

    let file = agent.file();
    let text = fs::read_to_string(&file).unwrap();
    codevol_tests::save(&file, format!("sorce = 1\n{text}").as_bytes());
    let ended = agent.run(&["doctor", "--json"]).exits(1);
    assert_eq!(states(&ended, "configuration"), ["wrong"], "{ended}");
    assert!(ended.stdout.contains("did you mean `source`?"), "{ended}");
    codevol_tests::save(&file, text.as_bytes());

    // The way to the source is looked at where that is asked for.
    fleet.source.process().terminate();
    fleet.agents[0].run(&["doctor"]).succeeds();
    let ended = fleet.agents[0].run(&["doctor", "--net", "--json"]).exits(1);
    assert_eq!(states(&ended, "source"), ["wrong"], "{ended}");
    let stopped = fleet.source.run(&["doctor", "--json"]).exits(0);
    assert_eq!(states(&stopped, "daemon"), ["warning"], "{stopped}");
}

#[test]
fn the_doctor_needs_a_configuration() {
    let place = std::sync::Arc::new(Place::new());
    let source = Source::new(&place, "tree");
    let ended = source.run(&["doctor", "--json"]).exits(78);
    let error: Value = ended.json();
    assert_eq!(error["schema"], "codevol.error/1", "{ended}");
}
