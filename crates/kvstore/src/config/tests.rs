//! The configuration file: what is accepted, and how each mistake is answered.

use super::*;

const DEMO: &str = r#"
cluster = "demo"
[[server]]
id = "s1"
addr = "127.0.0.1:10000"
[[server]]
id = "s2"
addr = "127.0.0.1:10001"
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("kv.toml"), text).map_err(|error| error.to_string())
}

/// The demo's file with more lines at its end, the first of which is line 9.
fn with(more: &str) -> Result<Config, String> {
    parse(&format!("{DEMO}{more}\n"))
}

#[test]
fn two_servers_and_a_name_are_enough() {
    let config = parse(DEMO).unwrap();
    assert_eq!(config.cluster, "demo");
    assert_eq!(
        config.servers,
        [("s1", "127.0.0.1:10000"), ("s2", "127.0.0.1:10001")]
            .map(|(id, address)| ServerEntry { id: id.into(), address: address.into() })
    );
    assert_eq!(config.source, Source::File("kv.toml".into()));
    assert_eq!(config.data.directory("s2"), Path::new("./data/s2"));
    assert_eq!(config.raft, RaftConfig::default());
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn every_setting_is_taken() {
    let config = with(
        r#"
[node]
data = "/var/lib/kv-{id}"
[raft]
heartbeat = "100ms"
election = "1s..2s"
snapshot_every = "8MiB"
snapshot_rate = "100MiB"
fsync = "unsafe-never"
[wal]
segment = 1048576
disk = "thread"
[limits]
key = "1KiB"
value = "64 KiB"
request = "100000B"
connections = 10_000
"#,
    )
    .unwrap();
    assert_eq!(config.data.directory("s1"), Path::new("/var/lib/kv-s1"));
    assert_eq!(config.raft.heartbeat, Duration::from_millis(100));
    assert_eq!(config.raft.election, Duration::from_secs(1)..=Duration::from_secs(2));
    assert_eq!(config.raft.snapshot_every_bytes, 8 << 20);
    assert_eq!(config.raft.snapshot_rate_bytes, 100 << 20);
    assert_eq!(config.raft.fsync, Fsync::UnsafeNever);
    assert_eq!(config.wal, WalConfig { segment_bytes: 1 << 20, disk: Disk::Thread });
    let command =
        CommandLimits { key_bytes_max: 1024, value_bytes_max: 65536, command_bytes_max: 100_000 };
    assert_eq!(config.limits, Limits { command, connections_max: 10_000 });
}

/// Each mistake, added to the demo's file, is answered with its line and the remedy.
fn check_mistakes(mistakes: &[(&str, &str)]) {
    for (mistake, answer) in mistakes {
        assert_eq!(with(mistake), Err((*answer).to_owned()), "{mistake}");
    }
}

#[test]
fn a_misspelt_key_is_answered_with_the_closest() {
    check_mistakes(&[
        (
            "[raft]\nhartbeat = \"50ms\"",
            "kv.toml:10: unknown key \"hartbeat\" in raft; did you mean \"heartbeat\"?",
        ),
        (
            "[rafft]\nheartbeat = \"50ms\"",
            "kv.toml:9: unknown key \"rafft\" in the file; did you mean \"raft\"?",
        ),
        (
            "[history]\nkeep = \"1h\"",
            "kv.toml:9: unknown key \"history\" in the file; \
             there are: cluster, server, node, raft, wal, limits",
        ),
        ("raft = 1", "kv.toml:9: unknown key \"raft\" in [[server]]; there are: id, addr"),
    ]);
}

#[test]
fn timing_that_cannot_work_is_refused() {
    check_mistakes(&[
        (
            "[raft]\nheartbeat = \"50\"",
            "kv.toml:10: \"heartbeat\" in raft cannot be \"50\"; \
             write a whole number with ms, s, m or h, such as \"50ms\"",
        ),
        (
            "[raft]\nheartbeat = 50",
            "kv.toml:10: \"heartbeat\" in raft cannot be 50; \
             write a whole number with ms, s, m or h, such as \"50ms\"",
        ),
        (
            "[raft]\nheartbeat = \"1ms\"",
            "kv.toml:10: a heartbeat of 1ms makes no sense; use 10ms to 10s",
        ),
        (
            "[raft]\nheartbeat = \"200ms\"",
            "kv.toml:10: an election timeout of 500ms is too short for a heartbeat of 200ms; \
             begin the range of `election` at 1s or above",
        ),
        (
            "[raft]\n\nelection = \"200ms..1s\"",
            "kv.toml:11: an election timeout of 200ms is too short for a heartbeat of 50ms; \
             begin the range of `election` at 250ms or above",
        ),
        (
            "[raft]\nelection = \"1s..1s\"",
            "kv.toml:10: the range of election timeouts is too narrow, votes would split; \
             end it at 1.25s or above, twice its beginning is usual",
        ),
        (
            "[raft]\nelection = \"1s..9999999999h\"",
            "kv.toml:10: an election timeout of 35999999996400s makes no sense; \
             end the range at 3600s or below",
        ),
        (
            "[raft]\nelection = \"1s\"",
            "kv.toml:10: \"election\" in raft cannot be \"1s\"; \
             write the shortest and the longest, such as \"500ms..1s\"",
        ),
        (
            "[raft]\nsnapshot_every = \"1KiB\"",
            "kv.toml:10: \"snapshot_every\" in raft cannot be 1KiB; \
             it must be from 64KiB to 1024GiB",
        ),
        (
            "[raft]\nsnapshots_every = \"1MiB\"",
            "kv.toml:10: unknown key \"snapshots_every\" in raft; did you mean \"snapshot_every\"?",
        ),
        (
            "[raft]\nfsync = \"never\"",
            "kv.toml:10: fsync cannot be \"never\"; \
             write \"always\", or \"unsafe-never\" where losing data is no loss",
        ),
        (
            "[wal]\ndisk = \"beside\"",
            "kv.toml:10: disk cannot be \"beside\"; \
             write \"inline\", or \"thread\" where the disk is sometimes slow",
        ),
    ]);
}

#[test]
fn a_size_or_number_is_answered_with_how_to_write_it() {
    check_mistakes(&[
        (
            "[wal]\nsegment = \"64MB\"",
            "kv.toml:10: \"segment\" in wal cannot be \"64MB\"; \
             write a whole number with B, KiB, MiB or GiB, such as \"64MiB\"",
        ),
        (
            "[wal]\nsegment = \"2GiB\"",
            "kv.toml:10: \"segment\" in wal cannot be 2GiB; it must be from 64KiB to 1GiB",
        ),
        (
            "[limits]\nvalue = \"2MiB\"",
            "kv.toml:10: \"value\" in limits cannot be 2MiB; it must be from 1B to 1MiB",
        ),
        (
            "[limits]\nconnections = \"many\"",
            "kv.toml:10: \"connections\" in limits is not a whole number; \
             write digits, without quotation marks",
        ),
        (
            "[limits]\nconnections = -1",
            "kv.toml:10: \"connections\" in limits is not a whole number; \
             write digits, without quotation marks",
        ),
    ]);
}

#[test]
fn servers_that_would_take_each_others_place_are_refused() {
    check_mistakes(&[
        (
            "[[server]]\nid = \"s1\"\naddr = \"127.0.0.1:10003\"",
            "kv.toml:10: the id s1 is given to two servers; give every server an id of its own",
        ),
        (
            "[[server]]\nid = \"s3\"\naddr = \"127.0.0.1:10000\"",
            "kv.toml:11: s3 and s1 have the same address 127.0.0.1:10000; \
             give every server an address of its own",
        ),
        (
            "[[server]]\nid = \"s 3\"\naddr = \"127.0.0.1:10003\"",
            "kv.toml:10: \"s 3\" cannot be the id of anything; use 1 to 32 letters, digits, \
             \'-\', \'_\' and \'.\', and begin with a letter or digit",
        ),
        (
            "[[server]]\nid = \"../../etc\"\naddr = \"127.0.0.1:10003\"",
            "kv.toml:10: \"../../etc\" cannot be the id of anything; use 1 to 32 letters, digits, \
             \'-\', \'_\' and \'.\', and begin with a letter or digit",
        ),
        (
            "[[server]]\nid = \"s3\"\naddr = \"127.0.0.1\"",
            "kv.toml:11: \"127.0.0.1\" is not an address; \
             write host:port, such as \"127.0.0.1:10000\" or \"[::1]:10000\"",
        ),
        (
            "[[server]]\nid = \"s3\"\naddr = \"127.0.0.1:0\"",
            "kv.toml:11: \"127.0.0.1:0\" is not an address; \
             name the port; 0 would be another each time",
        ),
        (
            "[[server]]\nid = \"s3\"",
            "kv.toml:9: server s3 has no address; add for example: addr = \"127.0.0.1:10000\"",
        ),
    ]);
}

#[test]
fn a_file_without_the_essentials_says_what_to_write() {
    assert_eq!(
        parse(""),
        Err("kv.toml: the cluster has no name; begin the file with: cluster = \"demo\"".into())
    );
    assert_eq!(
        parse("cluster = \"demo\"\nraft = 1\n"),
        Err("kv.toml: no servers are listed; add for each server:\n\
             [[server]]\nid = \"s1\"\naddr = \"127.0.0.1:10000\""
            .into())
    );
    let broken = parse("cluster = \"demo\n").unwrap_err();
    assert!(broken.starts_with("kv.toml:1: "), "{broken}");
    assert!(broken.ends_with("; the file is in the TOML format, see https://toml.io"), "{broken}");
    let crowd: String = (0..16)
        .map(|number| format!("[[server]]\nid = \"s{number}\"\naddr = \"h:{}\"\n", 1000 + number))
        .collect();
    assert_eq!(
        parse(&format!("cluster = \"demo\"\n{crowd}")),
        Err("kv.toml:2: 16 servers are listed; \
             a cluster has at most 15, and three or five serve best"
            .into())
    );
}

#[test]
fn an_unknown_server_is_answered_with_those_there_are() {
    let config = parse(DEMO).unwrap();
    assert_eq!(config.server("s2").unwrap().address, "127.0.0.1:10001");
    assert_eq!(
        config.server("s9").unwrap_err().to_string(),
        "no server has the id \"s9\" in kv.toml; did you mean s2? it lists s1, s2"
    );
    assert_eq!(
        Config::default().server("s2").unwrap_err().to_string(),
        "no server has the id \"s2\" in the cluster of one that runs without a configuration; \
         use s1, or write the servers into kv.toml"
    );
}

#[test]
fn the_file_that_is_named_wins_over_the_variable_and_that_over_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let write = |file: &str, cluster: &str| {
        let path = directory.path().join(file);
        std::fs::write(&path, DEMO.replace("demo", cluster)).unwrap();
        path
    };
    let find = |named: Option<&Path>, variable: Option<&Path>| {
        let variable = variable.map(|path| path.as_os_str().to_owned());
        Config::discover_from(named, variable, directory.path()).map(|config| config.cluster)
    };
    assert_eq!(find(None, None).unwrap(), "default", "nothing anywhere");
    write(CONFIG_FILE, "beside");
    assert_eq!(find(None, None).unwrap(), "beside");
    let variable = write("variable.toml", "variable");
    assert_eq!(find(None, Some(&variable)).unwrap(), "variable");
    let named = write("named.toml", "named");
    assert_eq!(find(Some(&named), Some(&variable)).unwrap(), "named");

    let missing = directory.path().join("missing.toml");
    let error = find(Some(&missing), Some(&variable)).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }), "a named file is never passed over");
    assert!(error.to_string().contains("missing.toml"), "{error}");
}
