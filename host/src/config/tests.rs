//! The configuration as an operator meets it: files in, values or exact error lines out.

mod sites;

use std::fs;

use super::*;

const SITE: &str = "\n[[site]]\norigin = \"http://127.0.0.1:3000\"\n";

/// Loads `text` as `larder.toml`, with this environment; places show the bare name of the file.
fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("larder.toml");
    fs::write(&path, text).unwrap();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let inputs = Inputs {
        file: Some(path),
        variables: Variables(variables.iter().map(owned).collect()),
        ..Inputs::default()
    };
    let bare = format!("{}/", dir.path().display());
    load(&inputs).map_err(|error| error.to_string().replace(&bare, ""))
}

fn refused(text: &str, expected: &str) {
    assert_eq!(load_text(text, &[]).unwrap_err(), expected, "{text}");
}

#[test]
fn the_documented_file_is_read() {
    let text = r#"
        data_dir = "/var/lib/larder"
        trusted = ["127.0.0.1", "10.0.0.0/8"]
        [listen]
        http = ":80"
        [admin]
        listen = "10.0.0.1:9080"
        token_file = "/etc/larder/token"
        [purge]
        allow = ["10.1.0.0/16", "::1"]
        [memory]
        capacity = "1GiB"
        [limits]
        request_head = 32768
        connections = 10000
        first_byte = "2m"
        [log]
        level = "debug"
        access = "json"
        [[site]]
        name = "example"
        hosts = ["Example.com", "[2001:DB8::1]"]
        origin = "http://127.0.0.1:3000"
        host = "www.example.com:8080"
        forward = "declared"
        honour = "all"
        default_ttl = "1m"
        status_ttl = { 404 = "10s", 5xx = "1s" }
        stale_while_revalidate = "1m"
        stale_if_error = "1d"
        hit_for_miss = "0s"
        ttl_min = "1s"
        ttl_max = "1h"
        write_policy = "all"
        memory = "512MiB"
        [site.policy]
        keying = { name = "normalize-query", params = { drop = ["session"] } }
        freshness = "ttl-by-path@0123456789ab"
        eviction = "native:lru"
        [[site]]
        origin = "http://localhost:3001"
    "#;
    let config = load_text(text, &[]).unwrap().config;
    assert_eq!(config.listen.http.to_string(), "0.0.0.0:80");
    assert_eq!(config.trusted.len(), 2);
    assert_eq!(config.purge.allow.len(), 2);
    assert_eq!(config.memory.capacity, ByteSize::mib(1024));
    assert_eq!(config.limits.request_head, ByteSize::kib(32));
    assert_eq!(config.limits.connections, Some(Count::new(10_000)));
    assert_eq!(config.limits.first_byte, TimeSpan::seconds(120));
    assert_eq!(config.limits.connect, TimeSpan::seconds(5));
    assert_eq!(
        (config.log.level, config.log.access),
        (Level::Debug, Access::Json)
    );
    check_documented_sites(&config.sites);
}

fn check_documented_sites(sites: &[Site]) {
    let [site, other] = sites else {
        panic!("{sites:?}")
    };
    assert_eq!(site.name, "example");
    assert_eq!(site.hosts, ["example.com", "[2001:db8::1]"]);
    assert_eq!(site.forward, Forward::Declared);
    assert_eq!(site.honour, Honour::All);
    assert_eq!(site.write_policy, WritePolicy::All);
    assert_eq!(site.ttl_max, Some(TimeSpan::seconds(3600)));
    let by_status = site.status_ttl.iter();
    let by_status: Vec<_> = by_status
        .map(|(status, ttl)| format!("{status} {ttl}"))
        .collect();
    assert_eq!(by_status, ["404 10s", "5xx 1s"]);
    assert_eq!(site.stale_while_revalidate, Some(TimeSpan::seconds(60)));
    assert_eq!(site.stale_if_error, Some(TimeSpan::seconds(86_400)));
    assert_eq!(site.hit_for_miss, TimeSpan::millis(0));
    assert_eq!(other.hit_for_miss, TimeSpan::seconds(120));
    assert_eq!(site.memory, Some(ByteSize::mib(512)));
    assert_eq!(site.policy.keying.params["drop"][0], "session");
    assert_eq!(
        site.policy.freshness.version.as_deref(),
        Some("0123456789ab")
    );
    assert!(site.policy.eviction.is_native());
    assert_eq!((other.name.as_str(), other.hosts.len()), ("default", 0));
    assert_eq!(other.policy, Policies::default());
}

#[test]
fn an_origin_is_enough() {
    let origin = "http://127.0.0.1:3000".parse::<Origin>().unwrap();
    let inputs = Inputs {
        origin: Some(origin.clone()),
        ..Inputs::default()
    };
    let config = load(&inputs).unwrap().config;
    assert_eq!(
        config,
        Config {
            sites: vec![Site::catch_all(origin)],
            ..Config::default()
        }
    );
    assert_eq!(config.listen.http.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9080");
    assert_eq!(config.memory.capacity, ByteSize::mib(256));
}

#[test]
fn flags_beat_the_environment_and_the_environment_beats_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("larder.toml");
    fs::write(&path, format!("[memory]\ncapacity = \"1MiB\"\n{SITE}")).unwrap();
    let loaded = |short: &str, long: &str, flag: Option<&str>| {
        let variables = [("LARDER_MEMORY", short), ("LARDER_MEMORY_CAPACITY", long)];
        let inputs = Inputs {
            file: Some(path.clone()),
            variables: Variables(variables.map(|(n, v)| (n.to_owned(), v.to_owned())).into()),
            flags: flag
                .map(|f| ("--memory", "memory.capacity", f.to_owned()))
                .into_iter()
                .collect(),
            origin: None,
        };
        let Loaded { config, sources } = load(&inputs).unwrap();
        let place = sources.place("memory.capacity").to_string();
        let place = place.replace(&format!("{}/", dir.path().display()), "");
        (config.memory.capacity.to_string(), place)
    };
    let check = |found: (String, String), value: &str, place: &str| {
        assert_eq!((found.0.as_str(), found.1.as_str()), (value, place));
    };
    check(loaded("", "", None), "1MiB", "larder.toml:2");
    check(loaded("", "2MiB", None), "2MiB", "LARDER_MEMORY_CAPACITY");
    check(loaded("3MiB", "2MiB", None), "3MiB", "LARDER_MEMORY");
    check(loaded("3MiB", "2MiB", Some("4MiB")), "4MiB", "--memory");
}

#[test]
fn every_key_outside_the_sites_has_a_variable() {
    let set = [
        ("LARDER_LIMITS_FIRST_BYTE", "7s"),
        ("LARDER_LOG_ACCESS", "json"),
        ("LARDER_TRUSTED", "10.0.0.0/8, ::1"),
        ("LARDER_DATA_DIR", "/x"),
        ("LARDER_LIMITS_CONNECTIONS", "5"),
        ("LARDER_ORIGIN", "http://127.0.0.2"),
    ];
    let config = load_text(SITE, &set).unwrap().config;
    assert_eq!(config.limits.first_byte, TimeSpan::seconds(7));
    assert_eq!(config.log.access, Access::Json);
    assert_eq!(config.trusted.len(), 2);
    assert_eq!(config.data_dir, Some("/x".into()));
    assert_eq!(config.limits.connections, Some(Count::new(5)));
    assert_eq!(config.sites[0].origin.to_string(), "http://127.0.0.2");
}

#[test]
fn a_wrong_variable_is_told_by_its_name() {
    let check = |name: &str, value: &str, expected: &str| {
        assert_eq!(load_text(SITE, &[(name, value)]).unwrap_err(), expected);
    };
    check(
        "LARDER_LIMITS_HEAD",
        "10",
        "LARDER_LIMITS_HEAD: limits.head: \"10\" is not a time; write a number with a unit ms, s, \
         m, h, d",
    );
    check(
        "LARDER_LIMITS_HEAD",
        "0s",
        "LARDER_LIMITS_HEAD: limits.head: \"0s\" is out of range; write 1ms to 1d",
    );
    check(
        "LARDER_ORIGIN",
        "127.0.0.1",
        "LARDER_ORIGIN: site.origin: \"127.0.0.1\" is not an origin; write \
         http://HOST[:PORT] or https://HOST[:PORT]",
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    refused(
        "[memory]\ncapacity = 256MiB\n",
        "larder.toml:2: not TOML: string values must be quoted, expected literal string, \
         in `capacity = 256MiB`",
    );
    refused(
        "[log]\nlevel = \"info\"\nlevel = \"warn\"",
        "larder.toml:3: not TOML: duplicate key, in `level = \"warn\"`",
    );
    refused(
        "[log\n",
        "larder.toml:1: not TOML: unclosed table, expected `]`, in `[log`",
    );
}

#[test]
fn unknown_keys_are_told_with_the_known_ones() {
    refused(
        "\nmemory_size = 1\n",
        "larder.toml:2: memory_size: unknown key; the keys here are data_dir, listen, admin, \
         purge, memory, disk, object_store, tiers, limits, log, record, trusted, site",
    );
    refused(
        "[memory]\ncapacity = \"1MiB\"\nsize = 1\n",
        "larder.toml:3: memory.size: unknown key; the keys here are capacity",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\n[site.policy]\nkey = \"x\"\n",
        "larder.toml:4: site[0].policy.key: unknown key; the keys here are keying, freshness, \
         eviction",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\npolicy.keying = { name = \"x\", parms = {} }\n",
        "larder.toml:3: site[0].policy.keying.parms: unknown key; the keys here are name, \
         version, params",
    );
    refused(
        "[disk]\ncapacity = \"1GiB\"\nsize = 1\n",
        "larder.toml:3: disk.size: unknown key; the keys here are dir, capacity, timeout",
    );
}

#[test]
fn wrong_values_are_told_with_the_accepted_ones() {
    refused(
        "[listen]\n\n[memory]\ncapacity = \"12XB\"\n",
        "larder.toml:4: memory.capacity: \"12XB\" is not a size; write a number with an optional \
         unit B, KB, MB, GB, TB, KiB, MiB, GiB, TiB",
    );
    refused(
        "[memory]\ncapacity = 4.5\n",
        "larder.toml:2: memory.capacity: \"4.5\" is not a size; write a number with an optional \
         unit B, KB, MB, GB, TB, KiB, MiB, GiB, TiB",
    );
    refused(
        "[memory]\ncapacity = [1]\n",
        "larder.toml:2: memory.capacity: found an array; write a size such as \"256MiB\"",
    );
    refused(
        "[limits]\nhead = 10\n",
        "larder.toml:2: limits.head: \"10\" is not a time; write a number with a unit ms, s, m, h, d",
    );
    refused(
        "[limits]\nrequest_fields = \"many\"\n",
        "larder.toml:2: limits.request_fields: \"many\" is not a count; write a whole number from \
         0 to 4294967295",
    );
    refused(
        "[log]\nlevel = \"loud\"\n",
        "larder.toml:2: log.level: \"loud\" is not a log level; write one of error, warn, info, \
         debug, trace",
    );
    refused(
        "[record]\ndir = \"/x\"\nsize = \"1KiB\"\n[[site]]\norigin = \"http://a\"\n",
        "larder.toml:3: record.size: \"1KiB\" is too little; write 1MiB or more",
    );
    refused(
        "memory = 3\n",
        "larder.toml:1: memory: found integer 3; write a table",
    );
    refused(
        "data_dir = 3\n",
        "larder.toml:1: data_dir: found integer 3; write a path",
    );
    refused(
        "trusted = \"127.0.0.1\"\n",
        "larder.toml:1: trusted: found string \"127.0.0.1\"; write an array",
    );
    refused(
        "trusted = [\n  \"127.0.0.1\",\n  \"10.0.0.0/40\"]\n",
        "larder.toml:3: trusted[1]: \"10.0.0.0/40\" is not an IP address or network; write an IP \
         address or a network such as 10.0.0.0/8 or 2001:db8::/32",
    );
    refused(
        "[listen]\nhttp = \"8080\"\n",
        "larder.toml:2: listen.http: \"8080\" is not an address to listen on; write an IP address \
         and a port such as 127.0.0.1:8080, [::1]:8080, localhost:8080 or :8080",
    );
}

#[test]
fn wrong_values_of_sites_are_told_with_the_accepted_ones() {
    refused(
        "[[site]]\nname = \"a\"\n",
        "larder.toml:1: site[0].origin: missing; this key is required",
    );
    refused(
        "[[site]]\norigin = \"ftp://a\"\n",
        "larder.toml:2: site[0].origin: \"ftp://a\" is not an origin; write http://HOST[:PORT] or \
         https://HOST[:PORT]",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\nforward = \"some\"\n",
        "larder.toml:3: site[0].forward: \"some\" is not a way to forward; write one of all, declared",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\nhonour = \"none\"\n",
        "larder.toml:3: site[0].honour: \"none\" is not a way to honour requests; write one of safe, \
         all",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\nwrite_policy = \"most\"\n",
        "larder.toml:3: site[0].write_policy: \"most\" is not a write policy; write one of ignore, \
         l0, all",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\n[site.policy]\nkeying = { name = \"X\" }\n",
        "larder.toml:4: site[0].policy.keying: \"X\" is not a policy name; write 1 to 64 of the \
         characters a-z, 0-9, \".\", \"_\" and \"-\", a letter or digit first",
    );
}

#[test]
fn origins_of_a_site_are_one_text_or_a_list() {
    let servers = |text: &str| {
        let loaded = load_text(text, &[]).map(|loaded| loaded.config);
        loaded.map(|config| config.sites[0].origin.to_string())
    };
    for key in ["origin", "origins"] {
        let text = format!("[[site]]\n{key} = \"http://a\"\n");
        assert_eq!(servers(&text).as_deref(), Ok("http://a"));
        let text = format!("[[site]]\n{key} = [\"https://a\", \"https://b:1\"]\n");
        assert_eq!(servers(&text).as_deref(), Ok("https://a, https://b:1"));
    }
    refused(
        "[[site]]\norigins = []\n",
        "larder.toml:2: site[0].origins: the list is empty; write http://HOST[:PORT] or \
         https://HOST[:PORT] in it",
    );
    refused(
        "[[site]]\norigins = [\"http://a\", \"https://b\"]\n",
        "larder.toml:2: site[0].origins: \"http://a\" and \"https://b\" mix http and https; write \
         one scheme for all origins of a site",
    );
    refused(
        "[[site]]\norigins = [\n\"http://a\",\n\"b\"]\n",
        "larder.toml:4: site[0].origins[1]: \"b\" is not an origin; write http://HOST[:PORT] or \
         https://HOST[:PORT]",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\norigins = [\"http://b\"]\n",
        "larder.toml:1: site[0].origin: origin and origins are one key; write one of them",
    );
    refused(
        "[[site]]\norigin = 5\n",
        "larder.toml:2: site[0].origin: found integer 5; write an origin such as \
         \"http://127.0.0.1:3000\", or a list of them",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\norigin_ca = \"x.pem\"\n",
        "larder.toml:3: site[0].origin_ca: \"http://a\" is asked in clear text, without \
         certificates; remove this, or write https",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\norigin_protocol = \"h3\"\nretries = 11\n",
        "larder.toml:3: site[0].origin_protocol: \"h3\" is not a protocol towards origins; write \
         one of auto, http1, h2",
    );
    refused(
        "[[site]]\norigin = \"http://a\"\nretries = 11\n",
        "larder.toml:3: site[0].retries: \"11\" is out of range; write 0 to 10",
    );
}

#[test]
fn contradictions_are_told() {
    refused(
        "",
        "larder.toml:1: site: there is none; write [[site]] with an origin, or give --origin URL",
    );
    refused(
        &format!("[limits]\nconnect = \"0s\"\nfirst_byte = \"2d\"\n{SITE}"),
        "larder.toml:2: limits.connect: \"0s\" is out of range; write 1ms to 1d\n\
         larder.toml:3: limits.first_byte: \"2d\" is out of range; write 1ms to 1d",
    );
    refused(
        &format!("[limits]\nrequest_head = \"8KiB\"\ntarget = \"9KiB\"\n{SITE}"),
        "larder.toml:3: limits.target: \"9KiB\" is out of range; write 64B to 8KiB",
    );
    refused(
        &format!("[limits]\nwaiters = 0\n{SITE}"),
        "larder.toml:2: limits.waiters: \"0\" is out of range; write 1 to 4294967295",
    );
    refused(
        &format!("[limits]\nconnections = 0\n{SITE}"),
        "larder.toml:2: limits.connections: \"0\" is out of range; write 1 to 4294967295",
    );
    refused(
        &format!("[admin]\nlisten = \":9080\"\n{SITE}"),
        "larder.toml:2: admin.listen: \"0.0.0.0:9080\" can be reached from other machines; set \
         admin.token_file, or listen on 127.0.0.1",
    );
    refused(
        &format!("[admin]\nlisten = \"127.0.0.1:80\"\n[listen]\nhttp = \":80\"\n{SITE}"),
        "larder.toml:2: admin.listen: \"127.0.0.1:80\" is taken by listen.http; write another port",
    );
    assert!(load_text(&format!("[limits]\ndrain = \"0s\"\n{SITE}"), &[]).is_ok());
}

#[test]
fn memory_that_is_not_there_cannot_be_shared_out() {
    let site = |host: &str, more: &str| {
        format!("[[site]]\norigin = \"http://a\"\nhosts = [\"{host}\"]\n{more}\n")
    };
    refused(
        &(site("a", "memory = \"200MiB\"") + &site("b", "memory = \"100MiB\"")),
        "larder.toml:8: site[1].memory: the sites ask for 300MiB together, which is more than \
         memory.capacity, 256MiB",
    );
    refused(
        &(site("a", "memory = \"256MiB\"") + &site("b", "policy.eviction = \"native:lru\"")),
        "larder.toml:5: site[1].memory: the other sites ask for all of memory.capacity, 256MiB, \
         and nothing is left for this one; write a size here and smaller ones there",
    );
    // In one domain nobody is left without.
    assert!(load_text(&(site("a", "memory = \"256MiB\"") + &site("b", "")), &[]).is_ok());
    assert!(load_text(&format!("[memory]\ncapacity = 0\n{SITE}"), &[]).is_ok());
}

#[test]
fn an_origin_for_several_sites_is_refused() {
    let text =
        "[[site]]\norigin = \"http://a\"\nhosts = [\"a\"]\n[[site]]\norigin = \"http://b\"\n";
    assert_eq!(
        load_text(text, &[("LARDER_ORIGIN", "http://c")]).unwrap_err(),
        "LARDER_ORIGIN: site.origin: it replaces the origin of a single site, and the file has 2; \
         remove it"
    );
}

#[test]
fn what_cannot_be_read_is_told() {
    let inputs = Inputs {
        file: Some("/no/such/larder.toml".into()),
        ..Inputs::default()
    };
    let error = load(&inputs).unwrap_err().to_string();
    assert!(
        error.starts_with("/no/such/larder.toml: cannot be read: "),
        "{error}"
    );
    assert_eq!(
        load(&Inputs::default()).unwrap_err().to_string(),
        "site: there is none; give --origin URL or --config FILE"
    );
}

#[test]
fn what_start_up_finds_is_told_with_its_place() {
    let loaded = load_text(&format!("[listen]\nhttp = \"127.0.0.1:80\"\n{SITE}"), &[]).unwrap();
    let unusable = Unusable {
        key: "listen.http".to_owned(),
        clause: "in use".to_owned(),
    };
    assert!(
        loaded
            .sources
            .locate(&unusable)
            .to_string()
            .ends_with("larder.toml:2: listen.http: in use")
    );
}

#[test]
fn tls_needs_an_address_and_a_certificate() {
    let certificate = "[[listen.tls.certificate]]\nchain = \"a\"\nkey = \"b\"\n";
    let text = format!("[listen.tls]\nhttps = \":8443\"\n{certificate}{certificate}{SITE}");
    let tls = load_text(&text, &[]).unwrap().config.listen.tls;
    assert_eq!(tls.https.unwrap().to_string(), "0.0.0.0:8443");
    let files = CertificateFiles {
        chain: "a".into(),
        key: "b".into(),
    };
    assert_eq!(tls.certificates, [files.clone(), files]);
    refused(
        &format!("[listen.tls]\nhttps = \":8443\"\n{SITE}"),
        "larder.toml:2: listen.tls.https: \"0.0.0.0:8443\" needs a certificate; write \
         [[listen.tls.certificate]] with chain and key",
    );
    refused(
        &format!("{certificate}{SITE}"),
        "larder.toml:1: listen.tls.certificate: there is no listen.tls.https; write the address, \
         such as \"0.0.0.0:443\"",
    );
    refused(
        &format!("[listen.tls]\nhttps = \":9080\"\n{certificate}{SITE}"),
        "larder.toml:2: listen.tls.https: \"0.0.0.0:9080\" is taken by admin.listen; write \
         another port",
    );
    refused(
        &format!("[[listen.tls.certificate]]\nchain = \"a\"\n{SITE}"),
        "larder.toml:1: listen.tls.certificate[0].key: missing; this key is required",
    );
}

#[test]
fn the_machine_is_asked_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "two words\n").unwrap();
    let shown = file.display();
    let text = format!("data_dir = \"{shown}\"\n[admin]\ntoken_file = \"{shown}\"\n{SITE}");
    let error = load_text(&text, &[])
        .unwrap()
        .verify()
        .unwrap_err()
        .to_string();
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(lines[0].ends_with(&format!(
        "larder.toml:3: admin.token_file: \"{shown}\" holds no token; write one line of visible \
         ASCII characters without spaces"
    )));
    assert!(lines[1].ends_with(&format!(
        "larder.toml:1: data_dir: \"{shown}\" is not a directory"
    )));
    fs::write(&file, "s3cret\n").unwrap();
    assert_eq!(read_token(&file).as_deref(), Ok("s3cret"));
}
