//! The processes of the demo: a source, agents, code servers. All end with it.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use codevol_protocol::call::{Call, Reply};
use codevol_protocol::status::VolumeStatus;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::project::{Project, Target};
use crate::config::{Config, Role};
use crate::control::Control;
use crate::error::CommandError;

/// How many agents there are.
pub(super) const AGENTS: usize = 3;
/// How long a process may take to stop when it is told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// A folder that is gone with the demo.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    /// Makes a folder of the demo's own below the system's temporary one.
    pub(super) fn make() -> Result<Self, CommandError> {
        let mut random = [0; 6];
        getrandom::fill(&mut random)
            .map_err(|_unavailable| CommandError::failed("the system gives no random bytes"))?;
        let name = format!("codevol-demo-{}", data_encoding::HEXLOWER.encode(&random));
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                CommandError::environment(format!("cannot make `{}`", path.display()))
                    .because(&error)
            })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Read-only leftovers of a Python process are all that could keep it; they harm nobody.
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// The running fleet.
#[derive(Debug)]
pub(super) struct Fleet {
    exe: PathBuf,
    folder: PathBuf,
    source: PathBuf,
    control: Control,
    children: Vec<Child>,
}

impl Fleet {
    /// Starts the source over the project's tree, and agents that join it.
    pub(super) async fn start(
        folder: &Path,
        project: &Project,
        ports: &[u16],
    ) -> Result<Self, CommandError> {
        let exe = std::env::current_exe().map_err(|error| {
            CommandError::failed("cannot find this program's own file").because(&error)
        })?;
        let source = folder.join("source/source.toml");
        let tree = project.tree.as_os_str();
        let init = [
            "init".as_ref(),
            tree,
            "--volume".as_ref(),
            project.volume.as_ref(),
            "--listen".as_ref(),
            "127.0.0.1:0".as_ref(),
        ];
        call(&exe, &source, init).await?;
        let loaded = Config::load(Some(&source), &[Role::Source])?;
        let mut fleet = Self {
            exe,
            folder: folder.to_owned(),
            control: Control::new(&loaded)?,
            source,
            children: Vec::new(),
        };
        let file = fleet.source.clone();
        fleet.daemon(&file, "source")?;
        fleet.wait_until_ready().await?;
        for number in 1..=AGENTS {
            fleet.join(number, ports.get(number - 1).copied()).await?;
        }
        Ok(fleet)
    }

    async fn join(&mut self, number: usize, port: Option<u16>) -> Result<(), CommandError> {
        let name = format!("dag-{number:02}");
        let invited = call(
            &self.exe,
            &self.source,
            ["invite", "--name", &name].map(AsRef::as_ref),
        )
        .await?;
        let token = String::from_utf8_lossy(&invited.stdout).trim().to_owned();
        let file = self.folder.join(&name).join("agent.toml");
        let root = self.root(number);
        let mut words: Vec<&std::ffi::OsStr> = vec![
            "join".as_ref(),
            token.as_ref(),
            "--root".as_ref(),
            root.as_os_str(),
        ];
        let address = port.map(|port| format!("127.0.0.1:{port}"));
        if let Some(address) = &address {
            words.push("--code-server".as_ref());
            words.push(address.as_ref());
        }
        call(&self.exe, &file, words).await?;
        self.daemon(&file, "agent")
    }

    /// Starts a real code server on what an agent holds.
    pub(super) fn code_server(
        &mut self,
        dagster: &Path,
        target: &Target,
        (number, port): (usize, u16),
    ) -> Result<(), CommandError> {
        let current = self.root(number).join("current");
        let home = self.folder.join(format!("dagster-{number:02}"));
        let mut command = Command::new(dagster);
        command.args([
            "code-server",
            "start",
            "-h",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ]);
        match target {
            Target::File(file) => {
                command
                    .arg("-d")
                    .arg(&current)
                    .arg("-f")
                    .arg(current.join(file));
            }
            Target::Module(module, folder) => {
                command
                    .arg("-d")
                    .arg(current.join(folder))
                    .args(["-m", module]);
            }
        }
        command
            .env("DAGSTER_HOME", &home)
            .env_remove("PYTHONDONTWRITEBYTECODE");
        let made = fs::create_dir_all(&home);
        made.map_err(|error| CommandError::failed("cannot make DAGSTER_HOME").because(&error))?;
        self.spawn(command, &format!("code-server-{number:02}"))
    }

    /// Returns the root of an agent.
    pub(super) fn root(&self, number: usize) -> PathBuf {
        self.folder.join(format!("dag-{number:02}")).join("root")
    }

    /// Runs a command of codevol against the source, whatever it exits with.
    pub(super) async fn run(&self, words: &[&str]) -> Result<Output, CommandError> {
        output(&self.exe, &self.source, words.iter().map(AsRef::as_ref)).await
    }

    /// Asks the source how the volume stands.
    pub(super) async fn status(&self) -> Result<VolumeStatus, CommandError> {
        let mut replies = self.control.begin(&Call::Status).await?;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        match replies.next(deadline).await? {
            Reply::Status(status) => status
                .volumes
                .into_iter()
                .next()
                .ok_or_else(|| CommandError::failed("the demo's source has no volume")),
            _ => Err(self.control.unexpected()),
        }
    }

    async fn wait_until_ready(&self) -> Result<(), CommandError> {
        let ready = async {
            while !self.run(&["health", "--ready"]).await?.status.success() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        };
        let in_time = timeout(Duration::from_secs(15), ready).await;
        in_time.unwrap_or_else(|_elapsed| {
            Err(CommandError::failed("the demo's source does not start"))
        })
    }

    fn daemon(&mut self, file: &Path, role: &str) -> Result<(), CommandError> {
        let mut command = Command::new(&self.exe);
        command.arg("-C").arg(file).arg(role);
        let name = file.parent().and_then(Path::file_name).unwrap_or_default();
        self.spawn(command, &name.to_string_lossy())
    }

    /// Starts a process in a group of its own, so that Ctrl-C reaches the demo alone, which then
    /// ends all of them.
    fn spawn(&mut self, mut command: Command, name: &str) -> Result<(), CommandError> {
        let failed = |error: std::io::Error| {
            CommandError::failed(format!("cannot start {name}")).because(&error)
        };
        let log = fs::File::create(self.folder.join(format!("{name}.log"))).map_err(failed)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        self.children.push(child);
        Ok(())
    }

    /// Ends every process: first it is asked to, then it must.
    pub(super) async fn stop(mut self) {
        for child in &self.children {
            signal(child, Signal::TERM);
        }
        for child in &mut self.children {
            if timeout(STOP_TIMEOUT, child.wait()).await.is_err() {
                signal(child, Signal::KILL);
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in &self.children {
            signal(child, Signal::KILL);
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(pid) = pid {
        // A group that is gone needs no signal.
        kill_process_group(pid, signal).unwrap_or_default();
    }
}

async fn call(
    exe: &Path,
    file: &Path,
    words: impl IntoIterator<Item = &std::ffi::OsStr>,
) -> Result<Output, CommandError> {
    let output = output(exe, file, words).await?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(CommandError::failed("a step of the demo failed").cause(said))
}

async fn output(
    exe: &Path,
    file: &Path,
    words: impl IntoIterator<Item = &std::ffi::OsStr>,
) -> Result<Output, CommandError> {
    let mut command = Command::new(exe);
    command
        .arg("-C")
        .arg(file)
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await;
    output.map_err(|error| CommandError::failed("cannot run this program again").because(&error))
}
