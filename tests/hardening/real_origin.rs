//! Origins that are not ours: nginx and Python's `http.server`, where they are installed. Each
//! answers every request with its method and target in brackets, and writes the same to a file.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::eventually;

/// A running origin; ends with the test.
pub(crate) struct RealOrigin {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    process: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Drop for RealOrigin {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

const PYTHON: &str = r#"
import http.server, sys
class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        said = "[%s %s]" % (self.command, self.path)
        print(said, file=open(sys.argv[2], "a"), flush=True)
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                self.rfile.read(size + 2)
                if not size:
                    break
        else:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = said.encode()
        self.send_response(200)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = answer
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Origin).serve_forever()
"#;

impl RealOrigin {
    /// Every one that is installed.
    pub(crate) fn all() -> Vec<Self> {
        [Self::nginx(), Self::python()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn nginx() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().display();
        let (port, log) = (free_port(), folder.path().join("log"));
        let own = fs::metadata("/proc/self")
            .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
        let user = if own { "user root;" } else { "" };
        let config = format!(
            r#"{user} daemon off; worker_processes 1; pid {at}/pid; error_log {at}/errors;
            events {{ }}
            http {{
              log_format said escape=none "[$request_method $request_uri]";
              access_log {at}/log said;
              client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
              fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
              server {{
                listen 127.0.0.1:{port};
                add_header Cache-Control no-store;
                location / {{ return 200 "[$request_method $request_uri]"; }}
              }}
            }}"#
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(folder.path().join("nginx.conf"));
        command.arg("-p").arg(folder.path());
        Self::start("nginx", command, port, log, folder)
    }

    fn python() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (port, log) = (free_port(), folder.path().join("log"));
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON, &port.to_string()]).arg(&log);
        Self::start("python", command, port, log, folder)
    }

    fn start(
        name: &'static str,
        mut command: Command,
        port: u16,
        log: PathBuf,
        folder: tempfile::TempDir,
    ) -> Option<Self> {
        let process = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let process = process.ok()?;
        let origin = Self {
            name,
            port,
            process,
            log,
            _folder: folder,
        };
        eventually("a real origin to listen", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(origin)
    }

    /// What it was asked for whose target contains `part`, in order.
    pub(crate) fn asked(&self, part: &str) -> Vec<String> {
        let Ok(file) = fs::File::open(&self.log) else {
            return Vec::new();
        };
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        lines.filter(|line| line.contains(part)).collect()
    }

    /// Waits until everything it was asked before is in its log.
    pub(crate) fn settle(&self) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let ask = "GET /settle HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).expect("it reads");
        eventually("the log of a real origin", || {
            !self.asked("/settle").is_empty()
        });
    }
}

fn free_port() -> u16 {
    let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("bound").port()
}
