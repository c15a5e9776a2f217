//! The encoding of commands and replies, byte by byte, and what is checked at the door.

use super::*;
use crate::store::command::{CommandLimits, Invalid, describe, validate};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const TAG: SessionTag = SessionTag {
    session: SessionId { start: 9, nonce: 0x5f2c },
    sequence: 17,
    lowest_unanswered: 15,
};

#[test]
fn the_bytes_of_commands_do_not_change() {
    let delete_if = Operation::Delete { key: b"d", condition: Condition::ModRevision(300) };
    let golden = [
        (None, set("ana", "4"), "01 00 00 03616e61 0134 00"),
        (Some(TAG), set("ana", "4"), "01 01 09 acbe01 11 0f 00 03616e61 0134 00"),
        (None, set_if("d", "", Condition::Absent), "01 00 00 0164 00 01"),
        (None, set_if("d", "8", Condition::Value(b"7")), "01 00 00 0164 0138 03 0137"),
        (None, delete_if, "01 00 01 0164 02 ac02"),
        (None, delete_prefix("a/"), "01 00 02 02612f"),
    ];
    for (session, operation, expected) in golden {
        let command = Command { session, operation };
        assert_eq!(hex(&command.to_bytes()), expected.replace(' ', ""), "{operation}");
        assert_eq!(Command::decode(&command.to_bytes()), Ok(command));
    }
}

#[test]
fn a_command_that_is_not_understood_changes_nothing() {
    let mut log = Log::new(StoreLimits::default());
    log.set("a", "1");
    let hash = log.store.hash();
    for (bytes, why) in [
        (&b""[..], "the command is empty"),
        (b"\x02\x00", "the command has version 2; this build knows version 1"),
        (b"\x01\x00\x07", "the body of a command is malformed"),
        (b"\x01\x00\x02\x01a!", "1 bytes are left over after a command"),
        (b"\x01\x00\x02\xff\xff\xff\xff\x0fa", "the body of a command is malformed"),
    ] {
        let error = log.store.apply(2, &Bytes::from_static(bytes)).unwrap_err();
        assert!(error.to_string().starts_with(why), "{error}");
    }
    assert_eq!(log.store.hash(), hash);
    assert_eq!(log.store.applied(), 1);
}

#[test]
fn the_door_names_the_limit() {
    let limits = CommandLimits { key_bytes_max: 4, value_bytes_max: 6, command_bytes_max: 20 };
    let check = |session, operation| {
        let bytes = Command { session, operation }.to_bytes();
        validate(&bytes, &limits).map_err(|error| error.to_string())
    };
    let refused = |text: &str| Err(text.to_owned());

    assert_eq!(check(None, set("four", "sixsix")), Ok(()));
    assert_eq!(check(None, set("", "x")), refused("the key is empty; a key has at least one byte"));
    assert_eq!(check(None, set("fives", "")), refused("the key is too large: 5 bytes, limit 4"));
    assert_eq!(
        check(None, set("k", "7 bytes")),
        refused("the value is too large: 7 bytes, limit 6")
    );
    assert_eq!(
        check(None, delete_prefix("fives")),
        refused("the prefix is too large: 5 bytes, limit 4")
    );
    assert_eq!(check(None, delete_prefix("")), Ok(()));
    let compare = Condition::Value(b"7 bytes");
    assert_eq!(
        check(None, set_if("k", "v", compare)),
        refused("the value to compare with is too large: 7 bytes, limit 6")
    );
    let compare = Condition::Value(b"sixsix");
    assert_eq!(
        check(None, set_if("four", "sixsix", compare)),
        refused("the request is too large: 23 bytes, limit 20")
    );
    let tag = SessionTag { sequence: 3, lowest_unanswered: 4, ..TAG };
    assert_eq!(
        check(Some(tag), delete("k")),
        refused("sequence 3 is below 4, the lowest still unanswered")
    );
    assert!(matches!(validate(b"GET / HTTP/1.1", &limits), Err(Invalid::Undecodable(_))));
}

#[test]
fn a_command_reads_like_the_line_that_made_it() {
    let words = |operation| describe(&Command { session: Some(TAG), operation }.to_bytes());
    assert_eq!(words(set("ana", "4")), "set ana 4");
    assert_eq!(words(set_if("ana", "4", Condition::Absent)), "set ana 4 --if-absent");
    assert_eq!(words(set_if("ana", "5", Condition::Value(b"4"))), "set ana 5 --if-value 4");
    assert_eq!(words(delete("d")), "del d");
    assert_eq!(words(delete_prefix("a/")), "del --prefix a/");
    assert_eq!(words(set("año", "one\ntwo")), "set año one\\ntwo");
    let key = Operation::Delete { key: b"\xff\x00k", condition: Condition::None };
    assert_eq!(words(key), "del \\xff\\u{0}k");
    let long = words(set("k", &"x".repeat(1000)));
    assert_eq!(long, format!("set k {}... (800 more bytes)", "x".repeat(200)));
    assert_eq!(describe(b""), "undecodable: the command is empty");
}

proptest! {
    #[test]
    fn any_bytes_are_a_command_or_a_typed_error(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let limits = CommandLimits::default();
        if validate(&bytes, &limits).is_ok() {
            let mut store = Store::new(StoreLimits::default());
            prop_assert!(store.apply(1, &Bytes::from(bytes)).is_ok(), "what passes can be applied");
        }
    }

    #[test]
    fn a_damaged_command_is_a_command_or_a_typed_error(at in 0usize..20, byte in any::<u8>()) {
        let command = Command { session: Some(TAG), operation: set("ana", "4") };
        let mut bytes = command.to_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = describe(&bytes);
        let _ = Store::new(StoreLimits::default()).apply(20, &Bytes::from(bytes));
    }
}
