//! The key-value store of NATS JetStream, by the text protocol of NATS:
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>. A bucket is a stream that
//! keeps the last message of each subject. A read asks the stream's leader, which answers without
//! asking the others, so it is weaker than linearizable.

use std::io::Write;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use load::Result;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::pipe::{Answer, Ask, Codec, Pipe};
use crate::system::System;

/// A connection of its own.
pub(crate) struct Nats(Pipe<Text>);

/// Knows where answers are sent to.
#[derive(Debug)]
struct Text {
    inbox: String,
    scratch: Vec<u8>,
}

const INFO: &str = "$JS.API.STREAM.INFO.KV_bench";
const CREATE: &str = "$JS.API.STREAM.CREATE.KV_bench";
const GET: &str = "$JS.API.STREAM.MSG.GET.KV_bench";

/// Tells the inboxes of one process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// What the client libraries make a bucket with: on disk, three copies, one value of each key.
fn bucket() -> String {
    json!({
        "name": "KV_bench",
        "subjects": ["$KV.bench.>"],
        "storage": "file",
        "num_replicas": 3,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_rollup_hdrs": true,
        "deny_delete": true,
    })
    .to_string()
}

impl Text {
    fn publish(&self, out: &mut BytesMut, id: u64, subject: &str, payload: &[u8]) {
        let (inbox, bytes) = (&self.inbox, payload.len());
        // Writing into memory cannot fail.
        let _ = write!(out.writer(), "PUB {subject} {inbox}.{id} {bytes}\r\n");
        out.put_slice(payload);
        out.put_slice(b"\r\n");
    }
}

/// The first line of what was received, without its end.
fn line(input: &[u8]) -> Result<Option<&str>> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    Ok(Some(std::str::from_utf8(input.get(..end).unwrap_or_default())?))
}

/// The subject and the payload's size of a message.
fn message(line: &str) -> Option<(&str, usize)> {
    let mut words = line.strip_prefix("MSG ")?.split(' ');
    let subject = words.next()?;
    Some((subject, words.next_back()?.parse().ok()?))
}

impl Codec for Text {
    fn request(&mut self, out: &mut BytesMut, id: u64, ask: Ask<'_>) {
        match ask {
            Ask::Found => self.publish(out, id, INFO, b""),
            Ask::Create(key, value) | Ask::Put(key, value) => {
                self.publish(out, id, &format!("$KV.bench.{key:010}"), value);
            }
            Ask::Get(key) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                let _ = write!(scratch, "{{\"last_by_subj\":\"$KV.bench.{key:010}\"}}");
                self.publish(out, id, GET, &scratch);
                self.scratch = scratch;
            }
        }
    }

    fn answer(
        &mut self,
        input: &mut BytesMut,
        out: &mut BytesMut,
    ) -> Result<Option<(u64, Answer)>> {
        loop {
            let Some(first) = line(input)? else { return Ok(None) };
            let mut bytes = first.len() + 2;
            let Some((subject, length)) = message(first) else {
                if first == "PING" {
                    out.put_slice(b"PONG\r\n");
                } else if first.starts_with("-ERR") {
                    return Err(first.to_owned().into());
                }
                input.advance(bytes);
                continue;
            };
            let id = subject.rsplit('.').next().and_then(|id| id.parse::<u64>().ok());
            let id = id.ok_or("a message that was not asked for")?;
            if input.len() < bytes + length + 2 {
                return Ok(None);
            }
            let payload = input.get(bytes..bytes + length).unwrap_or_default();
            let answer = read(payload);
            bytes += length + 2;
            input.advance(bytes);
            return Ok(Some((id, answer)));
        }
    }
}

/// Reads an acknowledgement, a stored message, or what the bucket is like.
fn read(payload: &[u8]) -> Answer {
    let answer: Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    if let Some(error) = answer.get("error") {
        // No such message: there is no such key.
        return match error.get("err_code").and_then(Value::as_u64) {
            Some(10037) => Ok(None),
            _ => Err(error.to_string()),
        };
    }
    if let Some(data) = answer.pointer("/message/data").and_then(Value::as_str) {
        return from_base64(data).map(Some).ok_or_else(|| "no base64".to_owned());
    }
    if let Some(leader) = answer.pointer("/cluster/leader").and_then(Value::as_str) {
        return Ok(Some(Bytes::copy_from_slice(leader.as_bytes())));
    }
    Ok(None)
}

fn from_base64(text: &str) -> Option<Bytes> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let digit = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes.into())
}

/// Greets and subscribes to an inbox of its own.
async fn open(endpoint: &str) -> Result<(TcpStream, BytesMut, Text)> {
    let mut stream = TcpStream::connect(endpoint).await?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let inbox = format!("_INBOX.{}_{number}", process::id());
    let hello = json!({ "verbose": false, "pedantic": false, "echo": false });
    let hello = format!("CONNECT {hello}\r\nSUB {inbox}.* 1\r\n");
    stream.write_all(hello.as_bytes()).await?;
    Ok((stream, BytesMut::new(), Text { inbox, scratch: Vec::new() }))
}

/// Makes the bucket and reads what comes of it, before a pipe runs.
async fn make_bucket(endpoint: &str) -> Result<Option<Bytes>> {
    let (mut stream, mut input, mut text) = open(endpoint).await?;
    let mut out = BytesMut::new();
    text.publish(&mut out, 1, CREATE, bucket().as_bytes());
    loop {
        stream.write_all(&out).await?;
        out.clear();
        if let Some((_, answer)) = text.answer(&mut input, &mut out)? {
            return Ok(answer?);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err("the server has closed the connection".into());
        }
    }
}

impl System for Nats {
    async fn leader(endpoints: &[String]) -> Result<Option<usize>> {
        let first = endpoints.first().ok_or("no endpoint")?;
        let info = Nats::connect(first).await?.0.ask(Ask::Found).await;
        let leader = match info {
            Ok(leader) => leader,
            Err(_) => make_bucket(first).await?,
        };
        // The servers are called n1, n2 and n3 in the order of their endpoints.
        let is_it = |at: usize| leader.as_deref() == Some(format!("n{}", at + 1).as_bytes());
        Ok((0..endpoints.len()).find(|at| is_it(*at)))
    }

    async fn connect(endpoint: &str) -> Result<Nats> {
        let (stream, input, text) = open(endpoint).await?;
        Ok(Nats(Pipe::start(stream, input, text)?))
    }

    async fn found(&self) -> Result<()> {
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

    use super::Text;
    use crate::pipe::Codec;

    #[test]
    fn answers_are_told_apart_by_their_subjects() {
        let mut text = Text { inbox: "_INBOX.1".into(), scratch: Vec::new() };
        let received = b"INFO {}\r\nPING\r\n\
            MSG _INBOX.1.8 1 27\r\n{\"stream\":\"KV_b\", \"seq\":15}\r\n\
            MSG _INBOX.1.7 1 32\r\n{\"message\":{\"data\":\"Zm91cg==\"} }\r\n";
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let mut answers = Vec::new();
        for byte in received {
            input.extend_from_slice(&[*byte]);
            answers.extend(text.answer(&mut input, &mut out).unwrap());
        }
        assert_eq!(answers, [(8, Ok(None)), (7, Ok(Some("four".into())))]);
        assert_eq!(out, "PONG\r\n");
    }
}
