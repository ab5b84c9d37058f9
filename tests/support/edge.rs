//! The program under test: started on free ports in a directory of its own, killed on drop, its
//! log shown when a test fails.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::Value;
use tempfile::TempDir;

use super::PATIENCE;
use super::client::{Client, Response};
use super::log::Log;
use super::metrics::Metrics;
use super::origin::Origin;

/// The program.
pub(crate) const LARDER: &str = env!("CARGO_BIN_EXE_larder");

/// How an edge is started. Ports are free ones, whatever the configuration says.
#[derive(Debug)]
pub(crate) struct Setup {
    dir: TempDir,
    config: Option<String>,
    origin: Option<String>,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    under: Vec<String>,
    keeps: bool,
    own_addresses: bool,
}

/// A run that ended instead of listening.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

impl Setup {
    /// An edge before nothing yet: give it a configuration with sites.
    pub(crate) fn new() -> Self {
        Self {
            dir: TempDir::with_prefix("larder-test-").expect("a directory"),
            config: None,
            origin: None,
            flags: Vec::new(),
            variables: Vec::new(),
            under: Vec::new(),
            keeps: false,
            own_addresses: false,
        }
    }

    /// An edge whose only site, `default`, answers for every host from `origin`.
    pub(crate) fn before(origin: &Origin) -> Self {
        Self {
            origin: Some(origin.url()),
            ..Self::new()
        }
    }

    /// An edge whose only site has these further lines in its `[[site]]`.
    pub(crate) fn site(origin: &Origin, lines: &str) -> Self {
        let origin = origin.url();
        Self::new().config(&format!(
            "[[site]]\nname = \"default\"\norigin = \"{origin}\"\n{lines}\n"
        ))
    }

    /// Adds text to the configuration file. Keys outside a section must come first.
    pub(crate) fn config(mut self, text: &str) -> Self {
        let config = self.config.get_or_insert_default();
        config.push_str(text);
        config.push('\n');
        self
    }

    /// Adds a flag and its value.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets a key by its variable: `limits.head` is `LARDER_LIMITS_HEAD`.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        let name = format!("LARDER_{}", key.replace('.', "_").to_ascii_uppercase());
        self.env(&name, value)
    }

    /// Keeps policies and activations in [`Edge::data_dir`].
    pub(crate) fn keeping(self) -> Self {
        Self {
            keeps: true,
            ..self
        }
    }

    /// Leaves the addresses to the configuration.
    pub(crate) fn with_own_addresses(self) -> Self {
        Self {
            own_addresses: true,
            ..self
        }
    }

    /// The directory of this edge, for files that flags name.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Edge {
        match self.try_start() {
            Ok(edge) => edge,
            Err(ended) => panic!("it ended with {:?}:\n{}", ended.code, ended.log),
        }
    }

    /// Starts it and waits until it listens or ends.
    pub(crate) fn try_start(self) -> Result<Edge, Ended> {
        let running = self.run()?;
        Ok(Edge {
            setup: self,
            running,
        })
    }

    fn config_path(&self) -> PathBuf {
        self.path("larder.toml")
    }

    fn command(&self) -> Command {
        let mut words = self
            .under
            .iter()
            .map(String::as_str)
            .chain([LARDER, "serve"]);
        let mut command = Command::new(words.next().unwrap_or(LARDER));
        command.args(words).current_dir(self.dir.path());
        if let Some(config) = &self.config {
            std::fs::write(self.config_path(), config).expect("a file");
            command.args(["--config", "larder.toml"]);
        }
        if let Some(origin) = &self.origin {
            command.args(["--origin", origin]);
        }
        let flags = &self.flags;
        if self.keeps {
            command.args(["--data-dir", "data"]);
            // Most tests want no disk tier, and none wants one of 10 GiB.
            if !flags.iter().any(|flag| flag == "--disk") {
                command.args(["--disk", "0"]);
            }
        }
        for (name, value) in [("--listen", "127.0.0.1:0"), ("--admin", "127.0.0.1:0")] {
            if !self.own_addresses && !flags.iter().any(|flag| flag == name) {
                command.args([name, value]);
            }
        }
        command.args(flags);
        // What the shell of the developer says must not change what is tested.
        for (name, _) in std::env::vars() {
            if name.starts_with("LARDER_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it with the same settings; addresses are new ones.
    fn run(&self) -> Result<Running, Ended> {
        let mut command = self.command();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let log = Log::default();
        let stderr = child.stderr.take().expect("it is piped");
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.push(&line);
            }
            writer.end();
        });
        let line = log.wait_for_line(0, |line| line.contains("listening on http://"));
        let Some((_, line)) = line else {
            let code = wait(&mut child).code();
            return Err(Ended {
                code,
                log: log.text(),
            });
        };
        let address_after = |start: &str| {
            let at = line
                .find(start)
                .unwrap_or_else(|| panic!("no {start:?} in {line:?}"));
            let rest = &line[at + start.len()..];
            let end = rest.find([',', ' ']).unwrap_or(rest.len());
            rest[..end]
                .parse()
                .unwrap_or_else(|_| panic!("no address in {line:?}"))
        };
        let address = address_after("listening on http://");
        let admin = address_after("admin on http://");
        let https = line.contains("https://").then(|| address_after("https://"));
        Ok(Running {
            child,
            address,
            https,
            admin,
            log,
        })
    }
}

#[derive(Debug)]
struct Running {
    child: Child,
    address: SocketAddr,
    https: Option<SocketAddr>,
    admin: SocketAddr,
    log: Log,
}

/// A running edge.
#[derive(Debug)]
pub(crate) struct Edge {
    setup: Setup,
    running: Running,
}

impl Edge {
    /// One before `origin`, with everything else at its default.
    #[track_caller]
    pub(crate) fn before(origin: &Origin) -> Self {
        Setup::before(origin).start()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Where it speaks TLS.
    #[track_caller]
    pub(crate) fn https_address(&self) -> SocketAddr {
        self.running.https.expect("it was told to listen for TLS")
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.running.admin
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Where it keeps policies, if it was set up to.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.setup.path("data")
    }

    /// The directory it runs in.
    pub(crate) fn dir(&self) -> &Path {
        self.setup.dir.path()
    }

    /// A new connection of a client.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// One GET with `fields` on a connection of its own.
    #[track_caller]
    pub(crate) fn get_with(&self, target: &str, fields: &[(&str, &str)]) -> Response {
        self.client().get_with(target, fields)
    }

    /// Everything it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.running.log.text()
    }

    /// Waits until a line after the first `from` lines contains `text`; the number of lines
    /// until after it.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, from: usize, text: &str) -> usize {
        let found = self
            .running
            .log
            .wait_for_line(from, |line| line.contains(text));
        found
            .unwrap_or_else(|| panic!("{text:?} is not in the log:\n{}", self.log()))
            .0
            + 1
    }

    /// Number of lines logged so far.
    pub(crate) fn log_lines(&self) -> usize {
        self.running.log.lines()
    }

    /// A call of the admin API: status and answer. `fields` come with `Host` added.
    #[track_caller]
    pub(crate) fn admin(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> (u16, Value) {
        let response = self.admin_response(method, path, fields, body);
        let json = serde_json::from_slice(&response.body).unwrap_or(Value::Null);
        (response.status(), json)
    }

    /// A call of the admin API and its whole answer.
    #[track_caller]
    pub(crate) fn admin_response(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let host = self.admin_address().to_string();
        let mut all = fields.to_vec();
        if !fields
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            all.push(("Host", &host));
        }
        all.push(("Connection", "close"));
        Client::connect(self.admin_address()).request(method, path, &all, body)
    }

    /// `GET path` of the admin API.
    #[track_caller]
    pub(crate) fn admin_get(&self, path: &str) -> (u16, Value) {
        self.admin("GET", path, &[], b"")
    }

    /// `POST path` of the admin API with a JSON body.
    #[track_caller]
    pub(crate) fn admin_post(&self, path: &str, body: &Value) -> (u16, Value) {
        let fields = [("Content-Type", "application/json")];
        self.admin("POST", path, &fields, body.to_string().as_bytes())
    }

    /// `PUT path` of the admin API with these bytes.
    #[track_caller]
    pub(crate) fn admin_put(&self, path: &str, body: &[u8]) -> (u16, Value) {
        self.admin("PUT", path, &[], body)
    }

    /// `DELETE path` of the admin API.
    #[track_caller]
    pub(crate) fn admin_delete(&self, path: &str) -> (u16, Value) {
        self.admin("DELETE", path, &[], b"")
    }

    /// Waits until queued writes and evictions have settled.
    #[track_caller]
    pub(crate) fn flush(&self) {
        let (status, answer) = self.admin("POST", "/v1/flush", &[], b"");
        assert_eq!(status, 200, "{answer}");
    }

    /// `/v1/stats`.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        let (status, answer) = self.admin_get("/v1/stats");
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Waits until no fetch is under way any more.
    #[track_caller]
    pub(crate) fn wait_for_landing(&self) {
        super::eventually("every fetch to end", || self.stats()["flights"] == 0);
    }

    /// Number of open connections of clients.
    #[track_caller]
    pub(crate) fn open_connections(&self) -> u64 {
        let count = self.stats()["connections"]["open"].as_u64();
        count.expect("a count")
    }

    /// `/metrics`.
    #[track_caller]
    pub(crate) fn metrics(&self) -> Metrics {
        let response = self.admin_response("GET", "/metrics", &[], b"");
        assert_eq!(response.status(), 200);
        Metrics::parse(&response.text())
    }

    /// Bytes of memory that the process has resident.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .expect("a size");
        kib.parse::<u64>().expect("a number") * 1024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.running.child);
        kill_process(pid, signal).expect("it runs");
    }

    /// Replaces the configuration file and has it read again. What it said to that.
    #[track_caller]
    pub(crate) fn reload(&mut self, config: &str) -> String {
        self.setup.config = Some(config.to_owned());
        std::fs::write(self.setup.config_path(), config).expect("a file");
        let before = self.log_lines();
        self.signal(Signal::HUP);
        let said = self
            .running
            .log
            .wait_for_line(before, |line| line.contains("reloaded"));
        said.expect("it says what came of it").1
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.running.child)
    }

    /// Ends it with SIGTERM and waits.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Ends it with SIGKILL and waits.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Stops it if it still runs, and starts it again with the same directory and settings. The
    /// addresses change.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        if matches!(self.running.child.try_wait(), Ok(None)) {
            self.stop();
        }
        if let Err(ended) = self.try_restart() {
            panic!("it ended with {:?}:\n{}", ended.code, ended.log);
        }
    }

    /// The same of one that has ended; it may end instead of listening.
    pub(crate) fn try_restart(&mut self) -> Result<(), Ended> {
        self.running = self.setup.run()?;
        Ok(())
    }

    /// Has the next start be one of this program, whose last words are the edge and its arguments,
    /// and which becomes the edge. None: of the edge itself.
    pub(crate) fn set_under(&mut self, words: &[String]) {
        words.clone_into(&mut self.setup.under);
    }

    /// Whether the process has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        !matches!(self.running.child.try_wait(), Ok(None))
    }

    /// Changes the configuration file for the next start.
    pub(crate) fn set_config(&mut self, config: &str) {
        self.setup.config = Some(config.to_owned());
    }
}

impl Drop for Edge {
    #[expect(clippy::print_stderr, reason = "shown beside the failure")]
    fn drop(&mut self) {
        if matches!(self.running.child.try_wait(), Ok(None)) {
            let killed = self
                .running
                .child
                .kill()
                .and_then(|()| self.running.child.wait());
            // It may have ended by itself just now.
            drop(killed);
        }
        if std::thread::panicking() {
            eprintln!("--- log of the edge\n{}---", self.running.log.text());
        }
    }
}

/// Runs the program with `arguments` to its end, for commands that are no servers.
pub(crate) fn run(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(LARDER);
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command.output().expect("the program can be run")
}

/// Waits for the end of `child`, and ends it itself if that does not come.
#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let pid = Pid::from_child(child);
    let (ended, has_ended) = mpsc::sync_channel::<()>(0);
    let late = std::thread::scope(|scope| {
        let watch = scope.spawn(move || {
            let late = has_ended.recv_timeout(PATIENCE * 2) == Err(RecvTimeoutError::Timeout);
            late && kill_process(pid, Signal::KILL).is_ok()
        });
        // It keeps its number until it is asked how it ended, so that no other can be hit.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let found = retry_on_intr(|| waitid(WaitId::Pid(pid), options));
        drop(ended);
        let late = watch.join().expect("it does not panic");
        found.expect("it was started");
        late
    });
    let status = child.wait().expect("it was started");
    assert!(!late, "it does not end");
    status
}
