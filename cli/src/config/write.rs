//! The configuration that `init` and `join` write: what differs from the defaults, and each default
//! in a comment beside what it means.

use std::net::SocketAddr;
use std::path::Path;

use codevol_agent::config::{
    self as agent, Address, AgentConfig, CodeServerConfig, DependencyPolicy, DriftMode,
};
use codevol_protocol::evidence::CodeServerKind;
use codevol_protocol::path::RelPath;
use codevol_protocol::rollout::Policy;
use codevol_source::config::{self as source, PublishMode, SourceConfig, WatchConfig, WatchMode};
use toml::Value;

use crate::config::value::count;
use crate::config::{OperatorConfig, Role, defaults, duration_text, rollout};
use crate::error::CommandError;

/// Returns the text of a source's configuration that is to stand at `file`.
///
/// # Errors
/// A path is not UTF-8, which the file's format asks for, or the working folder is gone.
pub fn render_source(config: &SourceConfig, file: &Path) -> Result<String, CommandError> {
    let mut out = Writer::new(Role::Source, file);
    let listen = config.listen.to_string();
    out.key(
        "listen",
        listen,
        defaults::LISTEN,
        "The UDP address where agents reach this host.",
    );
    out.optional(
        "advertise",
        config.advertise.as_deref(),
        "src01.example.org:7443",
        "What agents are told to dial, where that is not the address above.",
    );
    out.own_places(&config.state_dir, Some(&config.control_socket))?;
    for volume in &config.volumes {
        out.source_volume(volume)?;
        out.watch(&volume.watch);
        out.rollout(&volume.rollout);
    }
    out.metrics(config.metrics);
    Ok(out.text)
}

/// Returns the text of an agent's configuration that is to stand at `file`.
///
/// # Errors
/// A path is not UTF-8, which the file's format asks for, or the working folder is gone.
pub fn render_agent(config: &AgentConfig, file: &Path) -> Result<String, CommandError> {
    let mut out = Writer::new(Role::Agent, file);
    out.always(
        "source",
        config.source.clone(),
        "Where the source is reached, tried in order.",
    );
    out.own_places(&config.state_dir, Some(&config.control_socket))?;
    for volume in &config.volumes {
        out.text.push_str("\n[[volume]]\n");
        out.always(
            "name",
            volume.name.as_str(),
            "What the source calls the volume.",
        );
        out.always(
            "root",
            utf8(&volume.root)?,
            "The folder of `current` and `releases`.",
        );
        out.key(
            "layout",
            "releases",
            "releases",
            "Each release in a folder of its own.",
        );
        let keep = (count(volume.keep), count(defaults::AGENT_KEEP));
        out.key(
            "keep",
            keep.0,
            keep.1,
            "How many releases are kept for going back.",
        );
        out.drift(volume);
        out.dependencies(volume)?;
        for server in &volume.code_servers {
            out.text.push_str("\n[[volume.code_server]]\n");
            out.code_server(server)?;
        }
        if volume.code_servers.is_empty() {
            out.text.push_str(NO_CODE_SERVER);
        }
    }
    out.metrics(config.metrics);
    Ok(out.text)
}

/// Returns the text of an operator's configuration that is to stand at `file`.
///
/// # Errors
/// A path is not UTF-8, which the file's format asks for, or the working folder is gone.
pub fn render_operator(config: &OperatorConfig, file: &Path) -> Result<String, CommandError> {
    let mut out = Writer::new(Role::Operator, file);
    out.always(
        "source",
        config.source.clone(),
        "Where the source is reached, tried in order.",
    );
    out.own_places(&config.state_dir, None)?;
    Ok(out.text)
}

const NO_CODE_SERVER: &str = r#"
# The code server that loads this volume. Without one, nothing is reloaded or verified.
# [[volume.code_server]]
# address = "127.0.0.1:4000"
# kind = "auto"
# verify_timeout = "60s"
# python = "/opt/venv/bin/python"
"#;

struct Writer<'a> {
    text: String,
    file: &'a Path,
}

impl<'a> Writer<'a> {
    fn new(role: Role, file: &'a Path) -> Self {
        let text = format!("role = \"{role}\"\n\n");
        Self { text, file }
    }

    /// Writes a key that has no default.
    fn always(&mut self, key: &str, value: impl Into<Value>, comment: &str) {
        self.line("", key, &value.into(), comment);
    }

    /// Writes a key, in a comment where the default holds.
    fn key(
        &mut self,
        key: &str,
        value: impl Into<Value>,
        default: impl Into<Value>,
        comment: &str,
    ) {
        let (value, default) = (value.into(), default.into());
        let mark = if value == default { "# " } else { "" };
        self.line(mark, key, &value, comment);
    }

    /// Writes a key that may be left out; then an example stands in a comment.
    fn optional(&mut self, key: &str, value: Option<&str>, example: &str, comment: &str) {
        match value {
            Some(value) => self.always(key, value, comment),
            None => self.line("# ", key, &example.into(), comment),
        }
    }

    fn line(&mut self, mark: &str, key: &str, value: &Value, comment: &str) {
        self.text
            .extend([format!("# {comment}\n{mark}{key} = {value}\n")]);
    }

    fn own_places(&mut self, state: &Path, socket: Option<&Path>) -> Result<(), CommandError> {
        let folder = defaults::folder_of(self.file).map_err(|error| {
            CommandError::environment("the working folder is gone").because(&error)
        })?;
        let default = defaults::state_dir(&folder);
        self.key(
            "state_dir",
            utf8(state)?,
            utf8(&default)?,
            "Where keys and everything that must survive lie. Nobody else may read it.",
        );
        if let Some(socket) = socket {
            let default = defaults::control_socket(state);
            self.key(
                "control_socket",
                utf8(socket)?,
                utf8(&default)?,
                "Where commands on this host reach the daemon.",
            );
        }
        Ok(())
    }

    fn source_volume(&mut self, volume: &source::VolumeConfig) -> Result<(), CommandError> {
        self.text.push_str("\n[[volume]]\n");
        self.always(
            "name",
            volume.name.as_str(),
            "What the volume is called everywhere.",
        );
        self.always(
            "path",
            utf8(&volume.path)?,
            "The tree that is kept the same everywhere.",
        );
        let publish = match volume.publish {
            PublishMode::Auto => "auto",
            PublishMode::Manual => "manual",
        };
        self.key(
            "publish",
            publish,
            "auto",
            "auto: each save; manual: only `codevol push`.",
        );
        let ignore = volume.ignore.clone();
        let none = Vec::<String>::new();
        self.key(
            "ignore",
            ignore,
            none,
            "More to leave out, as in .gitignore.",
        );
        let (keep, default) = (count(volume.keep), count(defaults::SOURCE_KEEP));
        self.key("keep", keep, default, "How many releases are kept whole.");
        Ok(())
    }

    fn watch(&mut self, watch: &WatchConfig) {
        let default = WatchConfig::default();
        // The header stands even where all is default: a key below it is then safe to set.
        self.text.push_str("\n[volume.watch]\n");
        let mode = match watch.mode {
            WatchMode::Auto => "auto",
            WatchMode::Inotify => "inotify",
            WatchMode::Poll => "poll",
        };
        self.key(
            "mode",
            mode,
            "auto",
            "auto, inotify, or poll where there are no events.",
        );
        let mut time = |key, time, default, comment| {
            self.key(key, duration_text(time), duration_text(default), comment);
        };
        let quiet = "How long the tree must be quiet.";
        time("settle", watch.settle, default.settle, quiet);
        let longest = "The longest wait for that, from the first change.";
        time("settle_max", watch.settle_max, default.settle_max, longest);
        let rescan = "How often the whole tree is looked at in any case.";
        time("rescan", watch.rescan, default.rescan, rescan);
    }

    fn rollout(&mut self, policy: &Policy) {
        let default = Policy::default();
        self.text.push_str("\n[volume.rollout]\n");
        self.key(
            "canary",
            rollout::canary_value(policy.canary),
            rollout::canary_value(default.canary),
            "How many activate first. auto: one, unless there is no code server.",
        );
        self.key(
            "wave",
            rollout::wave_value(policy.wave),
            rollout::wave_value(default.wave),
            "How many of the others at a time: all, a number, or as \"50%\".",
        );
        self.key(
            "on_broken",
            rollout::on_broken_text(policy.on_broken),
            rollout::on_broken_text(default.on_broken),
            "return: all go back; stop: the broken one does, the others wait for you.",
        );
        self.key(
            "require_online",
            rollout::require_online_text(policy.require_online),
            rollout::require_online_text(default.require_online),
            "all: nothing goes live while an enrolled server is away.",
        );
        self.key(
            "verify_timeout",
            duration_text(policy.verify_timeout),
            duration_text(default.verify_timeout),
            "How long a server may take to say whether it is broken.",
        );
    }

    fn drift(&mut self, volume: &agent::VolumeConfig) {
        let drift = match volume.drift {
            DriftMode::Report => "report",
            DriftMode::Restore => "restore",
        };
        self.key(
            "drift",
            drift,
            "report",
            "What changed on the disk is told (report), or put back too (restore).",
        );
        self.key(
            "scrub",
            duration_text(volume.scrub),
            duration_text(defaults::SCRUB),
            "How often all that is held is read through.",
        );
    }

    /// Writes where metrics are served. Last: a header that stands nowhere else may stand here.
    fn metrics(&mut self, listen: Option<SocketAddr>) {
        self.text.push_str("\n[metrics]\n");
        let listen = listen.map(|listen| listen.to_string());
        self.optional(
            "listen",
            listen.as_deref(),
            "127.0.0.1:9464",
            "Where metrics are served to whoever asks by HTTP; nowhere, if it is left out.",
        );
    }

    fn dependencies(&mut self, volume: &agent::VolumeConfig) -> Result<(), CommandError> {
        let policy = match volume.dependencies {
            DependencyPolicy::Off => "off",
            DependencyPolicy::Warn => "warn",
            DependencyPolicy::Refuse => "refuse",
        };
        self.key(
            "dependencies",
            policy,
            "warn",
            "off, warn, or refuse a release whose packages are not installed.",
        );
        self.python(volume.python.as_deref(), "whose packages these are.")?;
        let files = volume.requirements.iter().map(RelPath::as_str);
        let files: Vec<String> = files.map(str::to_owned).collect();
        self.key(
            "requirements",
            files,
            Vec::<String>::new(),
            "The files of the tree that name them, where not the usual ones.",
        );
        Ok(())
    }

    fn python(&mut self, python: Option<&Path>, what: &str) -> Result<(), CommandError> {
        let python = python.map(utf8).transpose()?;
        let comment = format!("The interpreter {what}");
        self.optional("python", python, "/opt/venv/bin/python", &comment);
        Ok(())
    }

    fn code_server(&mut self, server: &CodeServerConfig) -> Result<(), CommandError> {
        let address = match &server.address {
            Address::Tcp(address) => address.clone(),
            Address::Unix(path) => format!("unix:{}", utf8(path)?),
        };
        self.always(
            "address",
            address,
            "Where it answers: `host:port` or `unix:/path`.",
        );
        let auto = CodeServerKind::Auto.to_string();
        let kinds = "auto, code-server, or api-grpc, which cannot reload.";
        self.key("kind", server.kind.to_string(), auto, kinds);
        self.key(
            "verify_timeout",
            duration_text(server.verify_timeout),
            duration_text(defaults::VERIFY_TIMEOUT),
            "How long it may take to load a release.",
        );
        self.python(
            server.python.as_deref(),
            "that it runs, where it does not say so.",
        )
    }
}

fn utf8(path: &Path) -> Result<&str, CommandError> {
    path.to_str().ok_or_else(|| {
        let path = path.display();
        CommandError::environment(format!("the path `{path}` is not UTF-8"))
    })
}
