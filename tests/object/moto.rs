//! A real S3 service: moto, started once for all tests.
//!
//! `LARDER_MOTO` is the path of its `moto_server`; without it one on the `PATH` is used, and
//! without that the tests that need it say that they are skipped.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};

use larder::tier::object::{Deadlines, Environment, Settings};

use crate::support::PATIENCE;
use crate::support::edge::Setup;
use crate::support::origin::Origin;

/// A service, which ends with the process that started it.
pub(crate) struct Moto {
    pub(crate) address: SocketAddr,
}

/// The service, if there is one.
pub(crate) fn start() -> Option<&'static Moto> {
    static MOTO: OnceLock<Option<Moto>> = OnceLock::new();
    let moto = MOTO.get_or_init(|| run(&[]));
    if moto.is_none() {
        say_skipped(NONE);
    }
    moto.as_ref()
}

/// A service of its own.
pub(crate) fn start_alone() -> Option<Moto> {
    let moto = run(&[]);
    if moto.is_none() {
        say_skipped(NONE);
    }
    moto
}

/// A service of its own that speaks TLS, with the certificate in `NAME.pem` and `NAME.key` of
/// `directory`.
pub(crate) fn start_secure(directory: &Path, name: &str) -> Option<Moto> {
    let file = |ending| {
        directory
            .join(format!("{name}.{ending}"))
            .display()
            .to_string()
    };
    let moto = run(&["-s", "-c", &file("pem"), "-k", &file("key")]);
    if moto.is_none() {
        say_skipped(NONE);
    }
    moto
}

fn run(arguments: &[&str]) -> Option<Moto> {
    let program = std::env::var("LARDER_MOTO").unwrap_or_else(|_| "moto_server".to_owned());
    // The system picks the port, and gives it back before the service takes it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let child = Command::new(&program)
        .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    end_with_us(&child);
    let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
    let (listening, listens) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        while !line.contains("Running on") {
            line.clear();
            if said.read_line(&mut line).unwrap_or_default() == 0 {
                return;
            }
        }
        listening.send(()).ok();
        // Of every request it says something.
        std::io::copy(&mut said, &mut std::io::sink()).ok();
    });
    // It is much that it loads first.
    let listens = listens.recv_timeout(PATIENCE * 3);
    listens.expect("moto_server says that it listens");
    Some(Moto { address })
}

const NONE: &str = "there is no moto_server (set LARDER_MOTO)";

/// Says that this test is skipped.
pub(crate) fn say_skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let text = format!("{name}: skipped, for {why}\n");
    // Past the capture of the test's output, so that it is seen.
    std::io::stderr()
        .write_all(text.as_bytes())
        .expect("a terminal");
}

/// Tests end without a word to what they started; a watcher ends the service after them.
fn end_with_us(child: &Child) {
    let script = "while kill -0 $0 2>/dev/null; do sleep 1; done; kill $1";
    let watcher = Command::new("sh")
        .args(["-c", script])
        .args([std::process::id().to_string(), child.id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    drop(watcher.expect("a shell"));
}

/// Makes the bucket `name`.
pub(crate) fn bucket(moto: &Moto, name: &str) {
    call(moto, &format!("PUT /{name}"), "", "");
}

/// One request to the service, with further field lines. The content of its answer.
#[track_caller]
fn call(moto: &Moto, line: &str, fields: &str, content: &str) -> String {
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{fields}Connection: close\r\n\r\n\
         {content}",
        moto.address,
        content.len()
    );
    let mut stream = TcpStream::connect(moto.address).expect("moto");
    stream.write_all(request.as_bytes()).expect("sent");
    let answer = std::io::read_to_string(stream).expect("an answer");
    assert!(answer.contains(" 200 "), "{answer}");
    answer
}

/// Credentials that may do, as `policy` says, and from now on nobody may do anything without any.
pub(crate) fn user(moto: &Moto, policy: &serde_json::Value) -> (String, String) {
    // Who does this is not looked at, but to tell which service is meant.
    let fields = "Content-Type: application/x-www-form-urlencoded\r\n\
        Authorization: AWS4-HMAC-SHA256 Credential=root/20260101/us-east-1/iam/aws4_request, \
        SignedHeaders=host, Signature=none\r\n";
    let act = |action: &str| {
        let content = format!("Version=2010-05-08&UserName=edge&Action={action}");
        call(moto, "POST /", fields, &content)
    };
    act("CreateUser");
    let escaped = |text: String, byte| text + &format!("%{byte:02X}");
    let policy = policy.to_string().bytes().fold(String::new(), escaped);
    act(&format!(
        "PutUserPolicy&PolicyName=edge&PolicyDocument={policy}"
    ));
    let keys = act("CreateAccessKey");
    let value = |name: &str| {
        let (_, rest) = keys.split_once(&format!("<{name}>")).expect("a key");
        rest.split('<').next().unwrap_or_default().to_owned()
    };
    call(moto, "POST /moto-api/reset-auth", "", "0");
    (value("AccessKeyId"), value("SecretAccessKey"))
}

/// What opens `bucket` by way of `address`. How fast the service is, which shares this machine with
/// others, is not what is tested: whoever tests a deadline sets it.
pub(crate) fn settings(address: SocketAddr, bucket: &str) -> Settings {
    Settings {
        deadlines: Deadlines {
            connect: PATIENCE,
            small: PATIENCE,
            chunk: PATIENCE,
            ..Deadlines::default()
        },
        environment: environment(address, ("key", "secret")),
        ..Settings::new(format!("s3://{bucket}/edge/one"))
    }
}

/// What tells a tier how to reach `address`, and with which credentials.
pub(crate) fn environment(address: SocketAddr, credentials: (&str, &str)) -> Environment {
    let variables = variables(address, credentials);
    Environment::of(
        variables
            .each_ref()
            .map(|(name, value)| (*name, value.as_str())),
    )
}

fn variables(address: SocketAddr, (key, secret): (&str, &str)) -> [(&'static str, String); 5] {
    [
        ("AWS_ACCESS_KEY_ID", key.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
    ]
}

/// What starts an edge before `origin` that keeps entries at `url`, by way of `address`.
pub(crate) fn edge(
    origin: &Origin,
    url: &str,
    address: SocketAddr,
    credentials: (&str, &str),
) -> Setup {
    let setup = Setup::before(origin).flag("--object-store", url);
    variables(address, credentials)
        .iter()
        .fold(setup, |setup, (name, value)| setup.env(name, value))
}
