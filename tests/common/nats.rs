//! NATS servers on loopback, each with a store of its own: started, stopped for a while, killed, started again.
//!
//! A server is Debian 13's (`PODIUM_TEST_NATS`, which `./test` prepares), not installed anywhere.

#![expect(clippy::print_stderr, reason = "that is how a test says that it is skipped, and why it failed")]

#[path = "ports.rs"]
mod ports;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use podium::queue::nats::Address;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use ports::free_port;

/// Looks at a server that is coming up, 20 ms apart.
const LOOKS: usize = 1_000;

/// A server's program, or the reason to skip.
fn program(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} must name a nats-server in CI");
        eprintln!("SKIPPED: there is no nats-server; run ./test, or set {variable}");
    }
    found
}

/// Debian 13's server.
pub(crate) fn server() -> Option<PathBuf> {
    program("PODIUM_TEST_NATS")
}

/// Debian 12's, which is refused.
pub(crate) fn old_server() -> Option<PathBuf> {
    program("PODIUM_TEST_NATS_OLD")
}

#[expect(clippy::disallowed_methods, reason = "a start cannot wait in any other way")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// How a server is started.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Where it listens; its monitoring is on loopback.
    pub(crate) host: String,
    /// Syncs each write.
    pub(crate) sync: bool,
    /// Lines for the configuration.
    pub(crate) more: String,
    /// Lines for its `jetstream` block.
    pub(crate) jetstream: String,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), sync: true, more: String::new(), jetstream: String::new() }
    }
}

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct Nats {
    program: PathBuf,
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    host: String,
    pub(crate) port: u16,
    pub(crate) monitor: u16,
    child: Option<Child>,
}

impl Nats {
    /// A single server that keeps what it acknowledges.
    pub(crate) fn start(program: &Path) -> Self {
        Self::with(program, &Wanted::default())
    }

    pub(crate) fn with(program: &Path, wanted: &Wanted) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().to_owned();
        Self::made(program, folder, Some(temporary), wanted)
    }

    fn made(program: &Path, folder: PathBuf, temporary: Option<tempfile::TempDir>, wanted: &Wanted) -> Self {
        let (port, monitor) = (free_port(), free_port());
        let host = wanted.host.clone();
        let sync = if wanted.sync { "sync_interval: always" } else { "" };
        let config = format!(
            "listen: {host}:{port}\nhttp: 127.0.0.1:{monitor}\n\
             jetstream {{ store_dir: \"{}\"\n {sync}\n {} }}\n{}\n",
            folder.join("store").display(),
            wanted.jetstream,
            wanted.more,
        );
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("server.conf"), config).unwrap();
        let program = program.to_owned();
        let mut nats = Self { program, folder, _temporary: temporary, host, port, monitor, child: None };
        nats.up();
        nats
    }

    /// Starts it, on the same port and store as before.
    pub(crate) fn up(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.folder.join("server.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        for _ in 0..LOOKS {
            if std::net::TcpStream::connect((self.host.as_str(), self.port)).is_ok() {
                return;
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the server does not come up: {}", self.log());
            pause();
        }
        panic!("the server does not come up: {}", self.log());
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.as_ref().unwrap().id()).unwrap()).unwrap()
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it: nothing is answered until it may go on.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}:{}", self.host, self.port)
    }

    pub(crate) fn monitor(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// How a queue reaches it.
    pub(crate) fn address(&self) -> Address {
        Address { url: self.url(), monitor: vec![self.monitor()], ..Address::default() }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(4_000);
            eprintln!("=== the NATS server's last words\n{}", log.get(from..).unwrap_or(&log));
        }
        self.kill();
    }
}

/// Three servers that share everything.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Nats>,
    _temporary: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn start(program: &Path) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let ports = [free_port(), free_port(), free_port()];
        let mut routes = String::new();
        for port in ports {
            write!(routes, "nats://127.0.0.1:{port} ").unwrap();
        }
        let one = |(at, port): (usize, &u16)| {
            let more = format!(
                "server_name: n{at}\ncluster {{ name: podium, listen: 127.0.0.1:{port}, routes: [{}] }}",
                routes.trim().replace(' ', ", ")
            );
            let wanted = Wanted { more, ..Wanted::default() };
            Nats::made(program, temporary.path().join(format!("n{at}")), None, &wanted)
        };
        let servers = ports.iter().enumerate().map(one).collect();
        Self { servers, _temporary: temporary }
    }

    /// How a queue reaches all of them.
    pub(crate) fn address(&self) -> Address {
        let urls: Vec<String> = self.servers.iter().map(Nats::url).collect();
        let monitor = self.servers.iter().map(Nats::monitor).collect();
        Address { url: urls.join(","), monitor, replicas: Some(3), ..Address::default() }
    }
}
