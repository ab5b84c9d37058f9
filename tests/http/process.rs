//! The process: how it starts, reloads, drains and ends.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::client::request;
use crate::support::edge::{Edge, Ended, Setup};
use crate::support::eventually;
use crate::support::origin::Origin;
use crate::support::pattern;
use crate::support::reply::{Gate, Reply};

#[test]
fn sigterm_lets_a_request_in_flight_end() {
    let origin = Origin::start();
    let (head, body) = (Gate::default(), Gate::default());
    let reply = Reply::pattern(500_000).field("Cache-Control", "max-age=60");
    origin.on("/a", reply.clone().behind(&head));
    origin.on("/b", reply.pausing(1_000, &body));
    let mut edge = Edge::before(&origin);
    let mut waiting = edge.client();
    waiting.send(request("GET", "/a", &[], b""));
    origin.wait_for("/a", 1);
    let mut reading = edge.client();
    reading.send(request("GET", "/b", &[], b""));
    let answer = reading.head();
    let mut idle = edge.client();
    assert_eq!(idle.get("/none").status(), 404);
    edge.signal(Signal::TERM);
    edge.wait_for_log(0, "draining");
    idle.assert_closed();
    eventually("new connections to be refused", || {
        TcpStream::connect(edge.address()).is_err()
    });
    assert_eq!(edge.admin_get("/readyz").0, 503);
    head.open();
    body.open();
    let response = waiting.response("GET");
    pattern::check(0, &response.body);
    assert_eq!(response.body.len(), 500_000);
    let mut taken = 0;
    reading
        .read_body(&answer, "GET", |piece| taken += piece.len())
        .expect("whole");
    assert_eq!(taken, 500_000);
    assert_eq!(edge.wait().code(), Some(0));
}

#[test]
fn draining_ends_at_its_deadline() {
    let origin = Origin::start();
    origin.on("/a", Reply::silence());
    let mut edge = Setup::before(&origin).set("limits.drain", "300ms").start();
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    origin.wait_for("/a", 1);
    assert_eq!(edge.stop().code(), Some(0));
    assert!(client.try_response("GET").is_err());
}

#[test]
fn a_second_signal_ends_at_once() {
    let origin = Origin::start();
    origin.on("/a", Reply::silence());
    let mut edge = Edge::before(&origin);
    let mut client = edge.client();
    client.send(request("GET", "/a", &[], b""));
    origin.wait_for("/a", 1);
    edge.signal(Signal::TERM);
    edge.wait_for_log(0, "draining");
    edge.signal(Signal::TERM);
    edge.wait_for_log(0, "stopped at once");
    edge.wait();
}

#[test]
fn signals_are_heeded_as_soon_as_it_listens() {
    let origin = Origin::start();
    let config = format!("[[site]]\norigin = \"{}\"\n", origin.url());
    for _ in 0..12 {
        let mut edge = Setup::new().config(&config).start();
        let said = edge.reload(&config);
        assert!(!said.contains("not reloaded"), "{said}");
        assert_eq!(edge.stop().code(), Some(0));
        edge.restart();
        assert_eq!(edge.stop().code(), Some(0));
    }
}

#[test]
fn health_and_readiness_are_told() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let response = edge.admin_response("GET", path, &[], b"");
        assert_eq!((response.status(), response.text().as_str()), (200, text));
    }
}

fn refused(setup: Setup) -> Ended {
    setup.try_start().map(drop).expect_err("it must not start")
}

#[test]
fn a_port_in_use_is_named_with_its_key_and_exits_2() {
    let origin = Origin::start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for (flag, key) in [("--listen", "listen.http"), ("--admin", "admin.listen")] {
        let ended = refused(Setup::before(&origin).flag(flag, &address));
        assert_eq!(ended.code, Some(2), "{}", ended.log);
        for part in [flag, key, &address, "in use"] {
            assert!(ended.log.contains(part), "{part} is not in: {}", ended.log);
        }
    }
    let config = format!(
        "[listen]\nhttp = \"{address}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [[site]]\norigin = \"{}\"\n",
        origin.url()
    );
    let ended = refused(Setup::new().config(&config).with_own_addresses());
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(
        ended.log.contains("larder.toml:2: listen.http"),
        "{}",
        ended.log
    );
}

#[test]
fn a_second_edge_on_the_same_port_is_refused() {
    let origin = Origin::start();
    let edge = Edge::before(&origin);
    let address = edge.address().to_string();
    let ended = refused(Setup::before(&origin).flag("--listen", &address));
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("in use"), "{}", ended.log);
}

#[test]
fn errors_in_the_configuration_name_file_line_and_key_and_exit_2() {
    let site = "[[site]]\norigin = \"http://127.0.0.1:1\"\n";
    for (config, parts) in [
        (
            "[memory]\ncapacity = \"12XB\"\n",
            &["larder.toml:2", "memory.capacity", "MiB"][..],
        ),
        (
            "[memory]\ncapacit = \"1MiB\"\n",
            &["larder.toml:2", "capacit", "capacity"],
        ),
        (
            "[limits]\n\nhead = \"soon\"\n",
            &["larder.toml:3", "limits.head"],
        ),
        (
            "[log]\nlevel = \"loud\"\n",
            &["larder.toml:2", "log.level", "warn"],
        ),
        (
            "[disk]\ncapacity = \"1GiB\"\n",
            &["larder.toml:2", "disk.capacity", "data_dir"],
        ),
        ("[memory\n", &["larder.toml:1"]),
    ] {
        let ended = refused(Setup::new().config(&format!("{config}{site}")));
        assert_eq!(ended.code, Some(2), "{config:?}: {}", ended.log);
        for part in parts {
            assert!(ended.log.contains(part), "{part} is not in: {}", ended.log);
        }
    }
    let ended = refused(Setup::new().config("[[site]]\norigin = \"ftp://127.0.0.1\"\n"));
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("larder.toml:2"), "{}", ended.log);
    let policy = format!("{site}[site.policy]\nkeying = \"no-such-policy\"\n");
    let ended = refused(Setup::new().config(&policy));
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(
        ended.log.contains("larder.toml:4: site[0].policy.keying"),
        "{}",
        ended.log
    );
    assert!(ended.log.contains("no-such-policy"), "{}", ended.log);
    let ended = refused(Setup::new());
    assert_eq!(ended.code, Some(2), "no origin: {}", ended.log);
}

#[test]
fn an_origin_that_has_no_address_exits_2() {
    let ended = refused(Setup::new().flag("--origin", "http://no-such-name.invalid:80"));
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    assert!(ended.log.contains("no-such-name.invalid"), "{}", ended.log);
}

#[test]
fn sighup_takes_over_a_good_file_and_keeps_the_old_one_beside_a_bad_one() {
    let (one, two) = (
        Origin::answering(|asked| Reply::cached(format!("one {}", asked.target))),
        Origin::answering(|asked| Reply::cached(format!("two {}", asked.target))),
    );
    let config = |origin: &Origin, host: &str| {
        format!(
            "[[site]]\nname = \"s\"\nhosts = [\"{host}\"]\norigin = \"{}\"\n",
            origin.url()
        )
    };
    let mut edge = Setup::new().config(&config(&one, "edge.test")).start();
    let mut client = edge.client();
    assert_eq!(client.get("/a").text(), "one /a");
    let said = edge.reload(&config(&two, "edge.test"));
    assert!(!said.contains("not reloaded"), "{said}");
    assert_eq!(
        client.get("/b").text(),
        "two /b",
        "on the connection that was there"
    );
    assert!(edge.get("/a").is_hit(), "what is stored stays");
    for bad in ["[[site]]\norigin = 1\n", "", "[memory]\ncapacity = \"1\"\n"] {
        let said = edge.reload(bad);
        assert!(said.contains("not reloaded"), "{bad:?}: {said}");
        assert_eq!(client.get("/c").text(), "two /c");
    }
    let said = edge.reload(&config(&two, "other.test"));
    assert!(!said.contains("not reloaded"), "{said}");
    assert_eq!(client.get("/b").status(), 421);
    assert_eq!(
        client.get_with("/b", &[("Host", "other.test")]).text(),
        "two /b"
    );
}

#[test]
fn a_reload_under_load_fails_no_request() {
    let origin = Origin::answering(|asked| Reply::cached(asked.target.clone()));
    let config = |ttl| {
        format!(
            "[[site]]\norigin = \"{}\"\ndefault_ttl = \"{ttl}s\"\n",
            origin.url()
        )
    };
    let mut edge = Setup::new().config(&config(1)).start();
    let address = edge.address();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let over = &over;
            scope.spawn(move || {
                let mut client = crate::support::client::Client::connect(address);
                let mut number = 0;
                while !over.load(std::sync::atomic::Ordering::SeqCst) {
                    let target = format!("/{thread}/{}", number % 50);
                    assert_eq!(client.get(&target).text(), target);
                    number += 1;
                }
            });
        }
        for ttl in 2..12 {
            let said = edge.reload(&config(ttl));
            assert!(!said.contains("not reloaded"), "{said}");
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}

#[test]
fn draining_does_not_wait_for_a_head_that_is_half_sent() {
    let origin = Origin::always(Reply::cached("x"));
    let mut edge = Setup::before(&origin)
        .set("limits.head", "60s")
        .set("limits.client_idle", "60s")
        .set("limits.drain", "30s")
        .start();
    let mut fresh = edge.client();
    fresh.send("GET / HT");
    let mut used = edge.client();
    used.get("/");
    used.send("GET / HT");
    // The edge has had time to read both.
    for client in [&mut fresh, &mut used] {
        assert!(client.is_silent_for(Duration::from_millis(200)));
    }
    let start = Instant::now();
    assert_eq!(edge.stop().code(), Some(0));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(fresh.try_head().is_err() && used.try_head().is_err());
}

#[test]
fn a_second_process_on_the_same_data_directory_is_refused() {
    let origin = Origin::start();
    let mut edge = Setup::before(&origin).keeping().start();
    let directory = edge.data_dir().to_string_lossy().into_owned();
    let second = || Setup::before(&origin).flag("--data-dir", &directory);
    let ended = refused(second());
    assert_eq!(ended.code, Some(2), "{}", ended.log);
    for part in ["data_dir", &directory, "another larder"] {
        assert!(ended.log.contains(part), "{part} is not in: {}", ended.log);
    }
    assert_eq!(
        edge.admin_get("/readyz").0,
        200,
        "the first is not disturbed"
    );
    // However the first one ends, it leaves no lock behind.
    edge.kill();
    second().start();
}
