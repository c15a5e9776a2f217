//! ZooKeeper, by its own protocol: frames with a length in front, numbers in big endian. A read is
//! a sync and a get behind it, as its documentation advises for whoever must see the latest write;
//! it is weaker than linearizable, because the sync is no write and needs no majority.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use load::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pipe::{Answer, Ask, Codec, Pipe};
use crate::system::System;

/// A session of its own.
pub(crate) struct Zookeeper(Pipe<Jute>);

#[derive(Debug)]
struct Jute;

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const SYNC: i32 = 9;

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;

const PARENT: &str = "/bench";
const SESSION_TIMEOUT_MS: i32 = 40_000;

/// The size of the numbers in front of every answer, behind its length.
const HEAD_BYTES: usize = 16;

fn path(key: u64) -> String {
    format!("{PARENT}/{key:010}")
}

fn text(out: &mut BytesMut, bytes: &[u8]) {
    // Paths and values are short.
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

/// One request under a number that its answer repeats.
fn frame(out: &mut BytesMut, number: i32, kind: i32, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_i32(0);
    out.put_i32(number);
    out.put_i32(kind);
    body(out);
    let length = (out.len() - start - 4) as i32;
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

fn create(out: &mut BytesMut, number: i32, path: &str, value: &[u8]) {
    frame(out, number, CREATE, |out| {
        text(out, path.as_bytes());
        text(out, value);
        // Everybody may do everything, and it stays.
        out.put_i32(1);
        out.put_i32(31);
        text(out, b"world");
        text(out, b"anyone");
        out.put_i32(0);
    });
}

/// What an answer is to, in the lowest bits of its number.
const TO_SYNC: i32 = 0;
const TO_WRITE: i32 = 1;
const TO_READ: i32 = 2;

/// The number of a request that is told to the server. Negative ones have meanings of their own.
fn number(id: u64, to: i32) -> i32 {
    ((id << 2) as i32 & i32::MAX) | to
}

impl Codec for Jute {
    fn request(&mut self, out: &mut BytesMut, id: u64, ask: Ask<'_>) {
        match ask {
            Ask::Found => create(out, number(id, TO_WRITE), PARENT, b""),
            Ask::Create(key, value) => create(out, number(id, TO_WRITE), &path(key), value),
            Ask::Put(key, value) => frame(out, number(id, TO_WRITE), SET_DATA, |out| {
                text(out, path(key).as_bytes());
                text(out, value);
                // Whatever its version is.
                out.put_i32(-1);
            }),
            Ask::Get(key) => {
                let path = path(key);
                frame(out, number(id, TO_SYNC), SYNC, |out| text(out, path.as_bytes()));
                frame(out, number(id, TO_READ), GET_DATA, |out| {
                    text(out, path.as_bytes());
                    // Without a watch.
                    out.put_u8(0);
                });
            }
        }
    }

    fn answer(
        &mut self,
        input: &mut BytesMut,
        _out: &mut BytesMut,
    ) -> Result<Option<(u64, Answer)>> {
        loop {
            let Some(mut frame) = take_frame(input)? else { return Ok(None) };
            if frame.len() < HEAD_BYTES {
                return Err("an answer without its head".into());
            }
            let (number, _transaction, error) = (frame.get_i32(), frame.get_i64(), frame.get_i32());
            let to = number & 3;
            // Signs of life have negative numbers.
            if number < 0 || to == TO_SYNC {
                continue;
            }
            let answer = match (error, to) {
                (0, TO_READ) if frame.len() >= 4 => {
                    let length = frame.get_i32();
                    let value = usize::try_from(length).ok().and_then(|it| frame.get(..it));
                    Ok(value.map(Bytes::copy_from_slice))
                }
                (0 | NODE_EXISTS, TO_WRITE) | (NO_NODE, TO_READ) => Ok(None),
                (error, _) => Err(format!("error {error}")),
            };
            return Ok(Some((number as u64 >> 2, answer)));
        }
    }
}

fn take_frame(input: &mut BytesMut) -> Result<Option<BytesMut>> {
    let Some(length) = input.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*length))?;
    if input.len() < 4 + length {
        return Ok(None);
    }
    input.advance(4);
    Ok(Some(input.split_to(length)))
}

impl Zookeeper {
    /// Opens a session.
    async fn open(endpoint: &str) -> Result<(TcpStream, BytesMut)> {
        let mut stream = TcpStream::connect(endpoint).await?;
        let mut hello = BytesMut::new();
        // Protocol 0, nothing seen, no earlier session, an empty password.
        hello.put_i32(4 + 8 + 4 + 8 + 4 + 16);
        hello.put_i32(0);
        hello.put_i64(0);
        hello.put_i32(SESSION_TIMEOUT_MS);
        hello.put_i64(0);
        text(&mut hello, &[0; 16]);
        stream.write_all(&hello).await?;
        let mut input = BytesMut::new();
        loop {
            if let Some(mut welcome) = take_frame(&mut input)? {
                let _version = welcome.try_get_i32()?;
                if welcome.try_get_i32()? == 0 {
                    return Err("no session was granted".into());
                }
                return Ok((stream, input));
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err("the server serves nobody yet".into());
            }
        }
    }
}

impl System for Zookeeper {
    async fn leader(endpoints: &[String]) -> Result<Option<usize>> {
        for (at, endpoint) in endpoints.iter().enumerate() {
            let mut stream = TcpStream::connect(endpoint).await?;
            stream.write_all(b"srvr").await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            if text.contains("Mode: leader") {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    async fn connect(endpoint: &str) -> Result<Zookeeper> {
        let (stream, input) = Zookeeper::open(endpoint).await?;
        Ok(Zookeeper(Pipe::start(stream, input, Jute)?))
    }

    async fn found(&self) -> Result<()> {
        self.0.ask(Ask::Found).await.map(drop)
    }

    async fn create(&self, key: u64, value: &[u8]) -> Result<()> {
        self.0.ask(Ask::Create(key, value)).await.map(drop)
    }

    async fn put(&self, key: u64, value: &[u8]) -> Result<()> {
        self.0.ask(Ask::Put(key, value)).await.map(drop)
    }

    async fn get(&self, key: u64) -> Result<Option<Bytes>> {
        self.0.ask(Ask::Get(key)).await
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};

    use super::{Jute, NO_NODE, TO_READ, TO_SYNC, TO_WRITE, number};
    use crate::pipe::Codec;

    fn answered(number: i32, error: i32, body: &[u8]) -> BytesMut {
        let mut frame = BytesMut::new();
        frame.put_i32((16 + body.len()) as i32);
        frame.put_i32(number);
        frame.put_i64(9);
        frame.put_i32(error);
        frame.put_slice(body);
        frame
    }

    #[test]
    fn a_read_ends_with_the_answer_behind_the_sync() {
        let mut input = answered(number(5, TO_SYNC), 0, b"\0\0\0\x01/");
        input.extend_from_slice(&answered(number(5, TO_READ), 0, b"\0\0\0\x04four"));
        let mut out = BytesMut::new();
        let answer = Jute.answer(&mut input, &mut out).unwrap();
        assert_eq!(answer, Some((5, Ok(Some("four".into())))));
    }

    #[test]
    fn a_write_to_a_key_that_is_not_there_has_failed() {
        let mut out = BytesMut::new();
        let answer = |to| {
            let mut input = answered(number(6, to), NO_NODE, b"");
            Jute.answer(&mut input, &mut BytesMut::new()).unwrap().unwrap().1
        };
        assert!(answer(TO_WRITE).is_err());
        assert_eq!(answer(TO_READ), Ok(None));
        assert_eq!(Jute.answer(&mut BytesMut::new(), &mut out).unwrap(), None);
    }
}
