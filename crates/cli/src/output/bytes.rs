//! Keys and values are bytes. This says how they look where text is expected: on a terminal, where
//! control characters must do no harm, and in JSON, where everything must be UTF-8.

use std::fmt::Write as _;

use base64::Engine as _;
use serde_json::{Map, Value};

/// The longest piece of a value that a table or a message shows.
const SHOWN_CHARS_MAX: usize = 60;

/// Bytes as text of one line: control characters and what is not UTF-8 are escaped.
pub(crate) fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The same, cut to what fits a line, with the size of the whole where it was cut.
pub(crate) fn visible_short(bytes: &[u8]) -> String {
    // Four bytes a character at most: so much is enough to know whether to cut.
    let head = bytes.get(..SHOWN_CHARS_MAX * 4).unwrap_or(bytes);
    let text = visible(head);
    if head.len() == bytes.len() && text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{cut}... ({} bytes)", bytes.len())
}

/// Puts a value into a JSON object: `value`, or `value_b64` if it is not UTF-8.
pub(crate) fn json_value(object: &mut Map<String, Value>, bytes: &[u8]) {
    let (name, text) = match std::str::from_utf8(bytes) {
        Ok(text) => ("value", text.to_owned()),
        Err(_) => ("value_b64", base64::engine::general_purpose::STANDARD.encode(bytes)),
    };
    object.insert(name.to_owned(), Value::String(text));
}

/// Puts a key into a JSON object: `key`, or `key_hex` if it is not UTF-8.
pub(crate) fn json_key(object: &mut Map<String, Value>, bytes: &[u8]) {
    let (name, text) = match std::str::from_utf8(bytes) {
        Ok(text) => ("key", text.to_owned()),
        Err(_) => {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            ("key_hex", hex)
        }
    };
    object.insert(name.to_owned(), Value::String(text));
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{json_key, json_value, visible, visible_short};

    #[test]
    fn no_byte_can_reach_the_terminal_as_a_control_character() {
        let all: Vec<u8> = (0..=255).collect();
        let text = visible(&all);
        assert!(!text.chars().any(char::is_control), "{text}");
        assert_eq!(visible(b"a\n\x1b[31m\xff\xc3\xa9"), "a\\n\\u{1b}[31m\\xffé");
    }

    #[test]
    fn a_long_value_is_cut_and_its_size_told() {
        assert_eq!(visible_short(&[b'x'; 60]), "x".repeat(60));
        assert_eq!(visible_short(&[b'x'; 61]), format!("{}... (61 bytes)", "x".repeat(60)));
        let long = "é".repeat(1_000_000);
        assert_eq!(
            visible_short(long.as_bytes()),
            format!("{}... (2000000 bytes)", "é".repeat(60))
        );
    }

    #[test]
    fn what_is_not_utf8_has_a_field_of_its_own_in_json() {
        let mut object = Map::new();
        json_key(&mut object, b"ana");
        json_value(&mut object, b"4");
        assert_eq!(Value::Object(object), json!({ "key": "ana", "value": "4" }));

        let mut object = Map::new();
        json_key(&mut object, &[0xff, 0x00]);
        json_value(&mut object, &[0xff, 0x00]);
        assert_eq!(Value::Object(object), json!({ "key_hex": "ff00", "value_b64": "/wA=" }));
    }
}
