//! The keys that exist, and what they may hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use codevol_agent::config::{
    self as agent, AgentConfig, CodeServerConfig, DependencyPolicy, DriftMode,
};
use codevol_protocol::evidence::CodeServerKind;
use codevol_protocol::limits;
use codevol_protocol::name::VolumeName;
use codevol_source::config::{self as source, PublishMode, SourceConfig, WatchConfig, WatchMode};
use toml::de::DeTable;

use crate::config::fault::Fault;
use crate::config::place::Place;
use crate::config::reader::Reader;
use crate::config::section::Section;
use crate::config::{Config, OperatorConfig, Role, check, defaults, rollout, value};

const SETTLE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const SETTLE_MAX: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);
const SCRUB: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
const RESCAN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
pub(super) const VERIFY: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3_600);
const SOURCE_KEEP: RangeInclusive<u32> = 1..=100_000;
#[expect(clippy::cast_possible_truncation, reason = "a thousand or so")]
const AGENT_KEEP: RangeInclusive<u32> = 1..=limits::HELD_MAX as u32;
/// A socket's address has room for 108 bytes; the system's own files need some.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Reads the whole configuration. Nothing comes back where something is missing; the faults are the
/// reader's.
pub(super) fn config<'a>(
    reader: &mut Reader<'a>,
    document: &'a DeTable<'a>,
    expected: Option<Role>,
) -> Option<Config> {
    let mut root = Section::root(document);
    let role = reader.optional_text(&mut root, "role", str::parse::<Role>);
    if role.is_none() && reader.faults.is_empty() {
        reader.fault(
            "role",
            "no `role`: begin the file with `role = \"source\"` or `role = \"agent\"`",
        );
    }
    // Without a role there are no keys to check; a daemon's own will do.
    let role = role.or(expected)?;
    if let Some(expected) = expected.filter(|expected| *expected != role) {
        let hint = "name the other file with `-C FILE`".to_owned();
        let message = format!("this is the configuration of role `{role}`, not of `{expected}`");
        let fault = Fault::new(reader.place("role"), message).hint(Some(hint));
        reader.faults.push(fault);
        return None;
    }
    let config = match role {
        Role::Source => source_config(reader, &mut root).map(Config::Source),
        Role::Agent => agent_config(reader, &mut root).map(Config::Agent),
        Role::Operator => operator_config(reader, &mut root).map(Config::Operator),
    };
    reader.finish(&root);
    let config = config?;
    let file = reader.file.clone();
    for found in check::nesting(&config, &file, check::lexical) {
        reader.fault(&found.key, found.message);
    }
    Some(config)
}

fn source_config<'a>(reader: &mut Reader<'a>, root: &mut Section<'a>) -> Option<SourceConfig> {
    let listen = reader.text(root, "listen", Some(defaults::LISTEN), |text| {
        let invalid = || format!("`{text}` is not an address and port, as `[::]:7443`");
        text.parse::<SocketAddr>().ok().ok_or_else(invalid)
    });
    let advertise = reader.optional_text(root, "advertise", value::host_port);
    let (state_dir, control_socket) = own_places(reader, root);
    let metrics = metrics(reader, root);
    let sections = volume_sections(reader, root);
    let volumes: Vec<Option<source::VolumeConfig>> = sections
        .into_iter()
        .map(|mut section| {
            let volume = source_volume(reader, &mut section);
            reader.finish(&section);
            volume
        })
        .collect();
    Some(SourceConfig {
        listen: listen?,
        advertise,
        state_dir: state_dir?,
        control_socket: control_socket?,
        metrics,
        volumes: volumes.into_iter().collect::<Option<_>>()?,
    })
}

fn source_volume<'a>(
    reader: &mut Reader<'a>,
    section: &mut Section<'a>,
) -> Option<source::VolumeConfig> {
    let name = volume_name(reader, section);
    let path = reader.path(section, "path", None);
    let publish = reader.text(section, "publish", Some("auto"), |text| {
        let modes = [("auto", PublishMode::Auto), ("manual", PublishMode::Manual)];
        value::one_of(text, &modes)
    });
    let ignore = reader.list(section, "ignore", ignore_rule);
    let keep = reader.number(section, "keep", defaults::SOURCE_KEEP, SOURCE_KEEP);
    let mut watch_section = reader.section(section, "watch");
    let watch = watch(reader, &mut watch_section);
    reader.finish(&watch_section);
    let mut rollout_section = reader.section(section, "rollout");
    let rollout = rollout::policy(reader, &mut rollout_section);
    reader.finish(&rollout_section);
    Some(source::VolumeConfig {
        name: name?,
        path: path?,
        publish: publish?,
        ignore: ignore?,
        keep: keep?,
        watch: watch?,
        rollout: rollout?,
    })
}

fn watch<'a>(reader: &mut Reader<'a>, section: &mut Section<'a>) -> Option<WatchConfig> {
    let default = WatchConfig::default();
    let mode = reader.text(section, "mode", Some("auto"), |text| {
        let modes = [
            ("auto", WatchMode::Auto),
            ("inotify", WatchMode::Inotify),
            ("poll", WatchMode::Poll),
        ];
        value::one_of(text, &modes)
    });
    let settle = duration(reader, section, "settle", (default.settle, SETTLE));
    let longest = (default.settle_max, SETTLE_MAX);
    let settle_max = duration(reader, section, "settle_max", longest);
    let rescan = duration(reader, section, "rescan", (default.rescan, RESCAN));
    let (settle, settle_max) = (settle?, settle_max?);
    if settle > settle_max {
        let (short, long) = (
            value::duration_text(settle),
            value::duration_text(settle_max),
        );
        // The fault stands where a person wrote something.
        let keys = [section.key("settle"), section.key("settle_max")];
        let said = keys.iter().find(|key| reader.place(key) != Place::Default);
        let key = said.cloned().unwrap_or_default();
        reader.fault(
            &key,
            format!("`settle` ({short}) is longer than `settle_max` ({long})"),
        );
    }
    Some(WatchConfig {
        mode: mode?,
        settle,
        settle_max,
        rescan: rescan?,
    })
}

fn agent_config<'a>(reader: &mut Reader<'a>, root: &mut Section<'a>) -> Option<AgentConfig> {
    let source = source_addresses(reader, root);
    let (state_dir, control_socket) = own_places(reader, root);
    let metrics = metrics(reader, root);
    let sections = volume_sections(reader, root);
    let volumes: Vec<Option<agent::VolumeConfig>> = sections
        .into_iter()
        .map(|mut section| {
            let volume = agent_volume(reader, &mut section);
            reader.finish(&section);
            volume
        })
        .collect();
    Some(AgentConfig {
        source: source?,
        state_dir: state_dir?,
        control_socket: control_socket?,
        metrics,
        volumes: volumes.into_iter().collect::<Option<_>>()?,
    })
}

fn agent_volume<'a>(
    reader: &mut Reader<'a>,
    section: &mut Section<'a>,
) -> Option<agent::VolumeConfig> {
    let name = volume_name(reader, section);
    let root = reader.path(section, "root", None);
    let layout = reader.text(section, "layout", Some("releases"), |text| {
        value::one_of(text, &[("releases", ())])
    });
    let keep = reader.number(section, "keep", defaults::AGENT_KEEP, AGENT_KEEP);
    let drift = reader.text(section, "drift", Some("report"), |text| {
        let modes = [
            ("report", DriftMode::Report),
            ("restore", DriftMode::Restore),
        ];
        value::one_of(text, &modes)
    });
    let scrub = duration(reader, section, "scrub", (defaults::SCRUB, SCRUB));
    let dependencies = dependencies(reader, section);
    let python = reader.optional_path(section, "python");
    let requirements = reader.list(section, "requirements", value::tree_path);
    let mut known = BTreeMap::new();
    let mut code_servers = Vec::new();
    for mut server in reader.sections(section, "code_server") {
        let read = code_server(reader, &mut server);
        if let Some(address) = read.as_ref().map(|server| server.address.clone()) {
            let key = server.key("address");
            if known.insert(address, ()).is_some() {
                reader.fault(&key, "two code servers of a volume have this address");
            }
        }
        reader.finish(&server);
        code_servers.push(read);
    }
    layout?;
    Some(agent::VolumeConfig {
        name: name?,
        root: root?,
        keep: keep?,
        drift: drift?,
        scrub: scrub?,
        dependencies: dependencies?,
        python,
        requirements: requirements?,
        code_servers: code_servers.into_iter().collect::<Option<_>>()?,
    })
}

fn dependencies<'a>(
    reader: &mut Reader<'a>,
    section: &mut Section<'a>,
) -> Option<DependencyPolicy> {
    reader.text(section, "dependencies", Some("warn"), |text| {
        let policies = [
            ("off", DependencyPolicy::Off),
            ("warn", DependencyPolicy::Warn),
            ("refuse", DependencyPolicy::Refuse),
        ];
        value::one_of(text, &policies)
    })
}

fn code_server<'a>(reader: &mut Reader<'a>, section: &mut Section<'a>) -> Option<CodeServerConfig> {
    let address = reader.text(section, "address", None, value::address);
    let kind = reader.text(section, "kind", Some("auto"), |text| {
        let kinds = [
            ("auto", CodeServerKind::Auto),
            ("code-server", CodeServerKind::CodeServer),
            ("api-grpc", CodeServerKind::ApiGrpc),
        ];
        value::one_of(text, &kinds)
    });
    let bounds = (defaults::VERIFY_TIMEOUT, VERIFY);
    let verify_timeout = duration(reader, section, "verify_timeout", bounds);
    let python = reader.optional_path(section, "python");
    Some(CodeServerConfig {
        address: address?,
        kind: kind?,
        verify_timeout: verify_timeout?,
        python,
    })
}

fn operator_config<'a>(reader: &mut Reader<'a>, root: &mut Section<'a>) -> Option<OperatorConfig> {
    let source = source_addresses(reader, root);
    let state_dir = reader.path(root, "state_dir", Some(defaults::state_dir(&reader.folder)));
    Some(OperatorConfig {
        source: source?,
        state_dir: state_dir?,
    })
}

fn source_addresses<'a>(reader: &mut Reader<'a>, root: &mut Section<'a>) -> Option<Vec<String>> {
    let addresses = reader.list(root, "source", value::host_port)?;
    if addresses.is_empty() {
        reader.fault(
            "source",
            "`source` names no address: write `source = [\"src01:7443\"]`",
        );
    }
    Some(addresses)
}

/// Reads where a daemon keeps its state and where it is talked to.
fn own_places<'a>(
    reader: &mut Reader<'a>,
    root: &mut Section<'a>,
) -> (Option<PathBuf>, Option<PathBuf>) {
    let state_dir = reader.path(root, "state_dir", Some(defaults::state_dir(&reader.folder)));
    let beside = state_dir.as_deref().map(defaults::control_socket);
    // Where the state folder is faulty, any default will do: nothing comes of it.
    let socket = reader.path(root, "control_socket", Some(beside.unwrap_or_default()));
    if let Some(path) = &socket {
        let bytes = path.as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            let own = reader.place("control_socket");
            let place = if own == Place::Default {
                reader.place("state_dir")
            } else {
                own
            };
            let message = format!(
                "the control socket `{}` has a path of {bytes} bytes, and {SOCKET_PATH_BYTES_MAX} is the most that works",
                path.display()
            );
            let hint = "set `control_socket` to a shorter path".to_owned();
            reader
                .faults
                .push(Fault::new(place, message).hint(Some(hint)));
        }
    }
    (state_dir, socket)
}

/// Reads where metrics are served: nowhere, where nothing says it.
fn metrics<'a>(reader: &mut Reader<'a>, root: &mut Section<'a>) -> Option<SocketAddr> {
    let mut section = reader.section(root, "metrics");
    let listen = reader.optional_text(&mut section, "listen", |text| {
        let invalid = || format!("`{text}` is not an address and port, as `127.0.0.1:9464`");
        text.parse::<SocketAddr>().ok().ok_or_else(invalid)
    });
    reader.finish(&section);
    listen
}

fn volume_sections<'a>(reader: &mut Reader<'a>, root: &mut Section<'a>) -> Vec<Section<'a>> {
    let faults = reader.faults.len();
    let sections = reader.sections(root, "volume");
    if sections.is_empty() && reader.faults.len() == faults {
        reader.fault("", "no `[[volume]]`: there must be one at least");
    }
    sections
}

fn volume_name<'a>(reader: &mut Reader<'a>, section: &mut Section<'a>) -> Option<VolumeName> {
    let name = reader.text(section, "name", None, |text| {
        text.parse::<VolumeName>()
            .map_err(|error| error.to_string())
    })?;
    let key = section.key("name");
    let taken = reader.settings.iter().any(|setting| {
        let value = setting.value.as_ref().and_then(toml::Value::as_str);
        setting.key != key && setting.key.ends_with(".name") && value == Some(name.as_str())
    });
    if taken {
        reader.fault(&key, format!("two volumes are named `{name}`"));
    }
    Some(name)
}

pub(super) fn duration<'a>(
    reader: &mut Reader<'a>,
    section: &mut Section<'a>,
    key: &'static str,
    (default, bounds): (Duration, RangeInclusive<Duration>),
) -> Option<Duration> {
    let default = value::duration_text(default);
    reader.text(section, key, Some(&default), |text| {
        value::duration_within(text, &bounds)
    })
}

fn ignore_rule(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err("an ignore rule is one line of text".to_owned());
    }
    Ok(text.to_owned())
}
