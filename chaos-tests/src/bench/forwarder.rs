//! A bare forwarder on one thread: what a router cannot be faster than.
//!
//! It knows one caller and one callee, parses the heads of CALL and YIELD, writes the heads of INVOCATION and RESULT
//! and passes the payloads on. No realms, no rights, no books.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, ensure};

use crate::wamp::{Stream, pack};

/// One read at most.
const BUFFER: usize = 512 * 1024;

/// Starts it; gives the callee's and the caller's connections. It ends with them.
pub fn start() -> Result<(Stream, Stream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let connect = || -> Result<(TcpStream, TcpStream)> {
        let near = TcpStream::connect(address)?;
        let (far, _) = listener.accept()?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        Ok((near, far))
    };
    let (callee, callee_far) = connect()?;
    let (caller, caller_far) = connect()?;
    std::thread::spawn(move || {
        // It ends when a client closes: an error then is no news.
        let _ = forward(callee_far, caller_far);
    });
    Ok((Stream::Tcp(callee), Stream::Tcp(caller)))
}

struct Side {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Side {
    fn new(stream: TcpStream) -> Side {
        Side {
            stream,
            buffer: vec![0; BUFFER],
            filled: 0,
        }
    }

    /// Reads once and rewrites every whole message that is there into `out`.
    fn rewrite(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let length = self.stream.read(&mut self.buffer[self.filled..])?;
        ensure!(length > 0, "closed");
        self.filled += length;
        let mut from = 0;
        while self.filled - from >= 4 {
            let head = &self.buffer[from..from + 4];
            let end = from + 4 + u32::from_be_bytes([0, head[1], head[2], head[3]]) as usize;
            if end > self.filled {
                break;
            }
            message(&self.buffer[from + 4..end], out)?;
            from = end;
        }
        self.buffer.copy_within(from..self.filled, 0);
        self.filled -= from;
        Ok(())
    }
}

/// `[48, R, options, uri, payload...]` becomes `[68, R, 1, details, payload...]`, and `[70, R, options, payload...]`
/// becomes `[50, R, details, payload...]`.
fn message(message: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut rest = message.get(1..).context("an empty message")?;
    let mut value = || -> Result<(rmpv::ValueRef<'_>, &[u8])> {
        let before = rest;
        let value = rmpv::decode::read_value_ref(&mut rest)?;
        Ok((value, &before[..before.len() - rest.len()]))
    };
    let kind = value()?.0.as_u64().context("a kind")?;
    let (_, request) = value()?;
    let (_, options) = value()?;
    let mut head = Vec::with_capacity(32);
    if kind == 48 {
        value()?;
        head.push(message[0]);
        head.extend_from_slice(&pack(&68.into()));
        head.extend_from_slice(request);
        head.push(1);
    } else {
        head.push(message[0]);
        head.push(50);
        head.extend_from_slice(request);
    }
    head.extend_from_slice(options);
    let length = u32::try_from(head.len() + rest.len())?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(rest);
    Ok(())
}

fn forward(callee: TcpStream, caller: TcpStream) -> Result<()> {
    let mut sides = [Side::new(callee), Side::new(caller)];
    let mut out = Vec::with_capacity(2 * BUFFER);
    loop {
        let mut ready = [0, 1].map(|index: usize| libc::pollfd {
            fd: sides[index].stream.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: the array lives through the call and its length is right.
        let count = unsafe { libc::poll(ready.as_mut_ptr(), 2, -1) };
        ensure!(count > 0, "poll: {}", std::io::Error::last_os_error());
        for index in 0..2 {
            if ready[index].revents != 0 {
                out.clear();
                sides[index].rewrite(&mut out)?;
                sides[1 - index].stream.write_all(&out)?;
            }
        }
    }
}
