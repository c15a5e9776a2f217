//! redis, by RESP2: <https://redis.io/docs/latest/develop/reference/protocol-spec/>. Answers come
//! in the order of the requests.

use std::collections::VecDeque;
use std::io::Write;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use load::Result;
use tokio::net::TcpStream;

use crate::pipe::{Answer, Ask, Codec, Pipe};
use crate::system::System;

/// A connection of its own.
pub(crate) struct Redis(Pipe<Resp>);

/// The requests that wait for their answers.
#[derive(Debug, Default)]
struct Resp {
    waiting: VecDeque<u64>,
}

fn word(out: &mut BytesMut, word: &[u8]) {
    // Writing into memory cannot fail.
    let _ = write!(out.writer(), "${}\r\n", word.len());
    out.put_slice(word);
    out.put_slice(b"\r\n");
}

fn name(key: u64) -> String {
    format!("bench/{key:010}")
}

/// The first line of what was received, without its end.
fn line(input: &[u8]) -> Option<&[u8]> {
    let end = input.windows(2).position(|pair| pair == b"\r\n")?;
    input.get(..end)
}

impl Codec for Resp {
    fn request(&mut self, out: &mut BytesMut, id: u64, ask: Ask<'_>) {
        self.waiting.push_back(id);
        match ask {
            Ask::Found => out.put_slice(b"*1\r\n$4\r\nPING\r\n"),
            Ask::Create(key, value) | Ask::Put(key, value) => {
                out.put_slice(b"*3\r\n");
                word(out, b"SET");
                word(out, name(key).as_bytes());
                word(out, value);
            }
            Ask::Get(key) => {
                out.put_slice(b"*2\r\n");
                word(out, b"GET");
                word(out, name(key).as_bytes());
            }
        }
    }

    fn answer(
        &mut self,
        input: &mut BytesMut,
        _out: &mut BytesMut,
    ) -> Result<Option<(u64, Answer)>> {
        let Some(first) = line(input) else { return Ok(None) };
        let (kind, text) = first.split_first().ok_or("an empty line")?;
        let text = std::str::from_utf8(text)?;
        let mut bytes = first.len() + 2;
        let answer = match kind {
            b'+' => Ok(None),
            b'-' => Err(text.to_owned()),
            b'$' if text == "-1" => Ok(None),
            b'$' => {
                let length: usize = text.parse()?;
                let Some(value) = input.get(bytes..bytes + length) else { return Ok(None) };
                let value = Bytes::copy_from_slice(value);
                bytes += length + 2;
                if input.len() < bytes {
                    return Ok(None);
                }
                Ok(Some(value))
            }
            _ => return Err(format!("an answer that was not asked for: {text}").into()),
        };
        input.advance(bytes);
        let id = self.waiting.pop_front().ok_or("an answer to no request")?;
        Ok(Some((id, answer)))
    }
}

impl System for Redis {
    async fn leader(_endpoints: &[String]) -> Result<Option<usize>> {
        Ok(Some(0))
    }

    async fn connect(endpoint: &str) -> Result<Redis> {
        let stream = TcpStream::connect(endpoint).await?;
        Ok(Redis(Pipe::start(stream, BytesMut::new(), Resp::default())?))
    }

    async fn found(&self) -> Result<()> {
        // While it loads its data it listens and answers with an error.
        self.0.ask(Ask::Found).await.map(drop)
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
    use bytes::BytesMut;

    use super::Resp;
    use crate::pipe::{Ask, Codec};

    #[test]
    fn answers_come_whole_and_in_order() {
        let (mut resp, mut out) = (Resp::default(), BytesMut::new());
        resp.request(&mut out, 1, Ask::Put(7, b"four"));
        assert_eq!(out, "*3\r\n$3\r\nSET\r\n$16\r\nbench/0000000007\r\n$4\r\nfour\r\n");
        resp.request(&mut out, 2, Ask::Get(7));
        let received = b"+OK\r\n$4\r\nfour\r\n";
        let mut input = BytesMut::new();
        let mut answers = Vec::new();
        for byte in received {
            input.extend_from_slice(&[*byte]);
            answers.extend(resp.answer(&mut input, &mut out).unwrap());
        }
        assert_eq!(answers, [(1, Ok(None)), (2, Ok(Some("four".into())))]);
    }
}
