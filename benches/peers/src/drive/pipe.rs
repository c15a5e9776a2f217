//! A connection that many requests share, for protocols that are simple enough to be spoken
//! directly. It does for them what our client library does for ours: requests of many callers leave
//! in one write, and their answers come back in one read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use load::Result;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;

/// What a caller asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// Make what the keys lie in, or say that nothing has to be made.
    Found,
    /// Make the key.
    Create(u64, &'a [u8]),
    /// Give the key a value.
    Put(u64, &'a [u8]),
    /// Read the key.
    Get(u64),
}

/// What a server said: the value of a key, if that was asked and there is one.
pub(crate) type Answer = std::result::Result<Option<Bytes>, String>;

/// A protocol.
pub(crate) trait Codec: 'static {
    /// Appends a request to what is sent.
    fn request(&mut self, out: &mut BytesMut, id: u64, ask: Ask<'_>);

    /// Takes the next answer and the request that it belongs to off what was received; `None` if
    /// there is no whole one. It may append to what is sent.
    fn answer(&mut self, input: &mut BytesMut, out: &mut BytesMut)
    -> Result<Option<(u64, Answer)>>;
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Pipe<C>(Rc<RefCell<State<C>>>);

#[derive(Debug)]
struct State<C> {
    codec: C,
    /// Not yet taken by the task that sends.
    out: BytesMut,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    last_id: u64,
    /// Wakes the task that sends.
    waker: Option<Waker>,
    /// Why there will be no more answers.
    closed: Option<String>,
    /// Nobody asks any more.
    hang_up: bool,
}

impl<C: Codec> Pipe<C> {
    /// Takes a connection into use on which the handshake is done.
    pub(crate) fn start(stream: TcpStream, input: BytesMut, codec: C) -> Result<Pipe<C>> {
        stream.set_nodelay(true)?;
        let state = Rc::new(RefCell::new(State {
            codec,
            out: BytesMut::new(),
            waiting: HashMap::new(),
            last_id: 0,
            waker: None,
            closed: None,
            hang_up: false,
        }));
        let mut mover = Mover { state: Rc::clone(&state), stream, input, writing: BytesMut::new() };
        spawn_local(poll_fn(move |context| mover.poll(context)));
        Ok(Pipe(state))
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Option<Bytes>> {
        let (sender, receiver) = oneshot::channel();
        {
            let state = &mut *self.0.borrow_mut();
            if let Some(why) = &state.closed {
                return Err(why.clone().into());
            }
            state.last_id += 1;
            state.codec.request(&mut state.out, state.last_id, ask);
            state.waiting.insert(state.last_id, sender);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
        Ok(receiver.await??)
    }
}

impl<C> Drop for Pipe<C> {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.hang_up = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// Moves the bytes of a connection.
struct Mover<C> {
    state: Rc<RefCell<State<C>>>,
    stream: TcpStream,
    input: BytesMut,
    writing: BytesMut,
}

impl<C: Codec> Mover<C> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.turn(context) {
            Ok(()) if self.state.borrow().hang_up => Poll::Ready(()),
            Ok(()) => Poll::Pending,
            Err(error) => {
                let mut state = self.state.borrow_mut();
                state.closed = Some(error.to_string());
                for (_, caller) in state.waiting.drain() {
                    // A caller that has left does not want to know.
                    let _ = caller.send(Err(error.to_string()));
                }
                Poll::Ready(())
            }
        }
    }

    /// Makes all the progress that can be made now.
    fn turn(&mut self, context: &mut Context<'_>) -> Result<()> {
        loop {
            let wrote = self.write(context)?;
            let heard = self.read(context)?;
            if !wrote && !heard {
                return Ok(());
            }
        }
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<bool> {
        let mut progress = false;
        let state = &mut *self.state.borrow_mut();
        state.waker = Some(context.waker().clone());
        if self.writing.is_empty() {
            self.writing.clear();
            std::mem::swap(&mut self.writing, &mut state.out);
        }
        while !self.writing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.writing)? {
                Poll::Pending => break,
                Poll::Ready(0) => return Err("the connection takes no more".into()),
                Poll::Ready(bytes) => {
                    self.writing.advance(bytes);
                    progress = true;
                }
            }
        }
        Ok(progress)
    }

    fn read(&mut self, context: &mut Context<'_>) -> Result<bool> {
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
        match pin!(self.stream.read_buf(&mut self.input)).poll(context)? {
            Poll::Pending => return Ok(false),
            Poll::Ready(0) => return Err("the server has closed the connection".into()),
            Poll::Ready(_) => {}
        }
        let state = &mut *self.state.borrow_mut();
        while let Some((id, answer)) = state.codec.answer(&mut self.input, &mut state.out)? {
            if let Some(caller) = state.waiting.remove(&id) {
                let _ = caller.send(answer);
            }
        }
        Ok(true)
    }
}
