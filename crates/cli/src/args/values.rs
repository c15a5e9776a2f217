//! Values of arguments that need more than a string: bytes, durations, endpoints, and where the
//! value of a `set` comes from.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};

/// Keys are bytes: whatever the shell hands over is taken as it is.
pub(super) fn raw() -> impl TypedValueParser<Value = Bytes> {
    OsStringValueParser::new().map(|text: OsString| Bytes::from(text.into_vec()))
}

/// Where the value of a write comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueSource {
    /// The argument itself.
    Inline(Bytes),
    /// `-`: standard input, to its end.
    Stdin,
    /// `@FILE`: the content of a file.
    File(PathBuf),
}

/// Tells a value from `-` and `@FILE`.
pub(super) fn value_source() -> impl TypedValueParser<Value = ValueSource> {
    OsStringValueParser::new().map(|text: OsString| {
        let bytes = text.into_vec();
        match bytes.as_slice() {
            b"-" => ValueSource::Stdin,
            [b'@', path @ ..] if !path.is_empty() => {
                ValueSource::File(PathBuf::from(OsString::from_vec(path.to_vec())))
            }
            _ => ValueSource::Inline(Bytes::from(bytes)),
        }
    })
}

/// A duration such as `500ms`, `5s`, `2m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" => return Err("a duration needs a unit: 500ms, 5s, 2m".to_owned()),
        _ => return Err(format!("`{unit}` is no unit of time: use ms, s, m or h")),
    };
    let number: u64 = number.parse().map_err(|_| "write it like 500ms, 5s or 2m".to_owned())?;
    match number.checked_mul(scale_ms) {
        Some(0) => Err("a duration must be longer than nothing".to_owned()),
        Some(ms) if ms <= u64::from(u32::MAX) => Ok(Duration::from_millis(ms)),
        _ => Err("that is longer than 49 days".to_owned()),
    }
}

/// `HOST:PORT`, checked for its shape only: names are resolved when they are needed.
pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let text = text.trim();
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("it needs a port: HOST:PORT, such as 127.0.0.1:10000".to_owned());
    };
    if host.is_empty() {
        return Err("it needs a host: HOST:PORT, such as 127.0.0.1:10000".to_owned());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(format!("`{port}` is no port: use a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{duration, endpoint};

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "5", "s", "5 s", "0s", "-1s", "5d", "99999999999999999999s", "999999h"] {
            assert!(duration(wrong).is_err(), "{wrong:?} must not be a duration");
        }
    }

    #[test]
    fn an_endpoint_has_a_host_and_a_port() {
        assert_eq!(endpoint(" 127.0.0.1:10000"), Ok("127.0.0.1:10000".to_owned()));
        assert_eq!(endpoint("[::1]:10000"), Ok("[::1]:10000".to_owned()));
        for wrong in ["", "localhost", ":10000", "a:0", "a:65536", "a:b"] {
            assert!(endpoint(wrong).is_err(), "{wrong:?} must not be an endpoint");
        }
    }
}
