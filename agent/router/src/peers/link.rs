//! A link to another node: one TLS connection, written in turn from its send queues.
//!
//! ```text
//! send queues --frame by frame--> staged --64 to 128 KiB--> rustls --one system call--> socket (TCP_NOTSENT_LOWAT 128 KiB)
//! ```
//!
//! Little waits in the kernel and in rustls, so that what is urgent waits behind little: windows, pings and changes of
//! the registrations go before everything that is not staged yet. Read are 256 KiB at once, given to rustls from memory.
//!
//! A link is lost by an error of its socket, its TLS or its frames, by the peer's goodbye, or when the peer is silent
//! (`liveness`). A lost link never comes back: calls that crossed it have ended, and a new link begins with nothing.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use pipes_wamp::router::{LinkKey, PeerMessage, Way};

use crate::buffers::Buffers;
use crate::peers::frame::{self, Frame, PIECE};
use crate::peers::liveness::{Liveness, SILENT_MAX, Verdict};
use crate::peers::pieces::{Added, Assembly, Pieces};
use crate::peers::send_queues::{SendQueues, Whose};

/// Given to rustls before its records are written: 64 to 128 KiB a system call cost least.
const WRITE: usize = 128 << 10;
/// Frames that skip their queues while nothing waits in any.
const STAGED_MAX: usize = 64 << 10;
/// What waits of urgent frames before changes of the registrations wait elsewhere.
const URGENT_MAX: usize = 64 << 10;
/// Kept unsent in the kernel.
const NOTSENT_LOWAT: libc::c_int = 128 << 10;
/// A peer that does not read closes its window and is asked at growing intervals, of 3.2 s within the first 10; between
/// two answers nothing is heard of it though it lives. A route that is gone leaves what is to be sent unsent as well.
const PROBES_APART: Duration = Duration::from_secs(2);

/// A link.
pub(crate) struct Link {
    /// The node at the other end.
    peer: u64,
    /// The dealer's name for it.
    key: LinkKey,
    /// Messages of which more is to come.
    pieces: Pieces,
    /// Windows to be given back to the peer.
    due: Vec<(u64, Way, usize)>,
    /// The beginning of a frame whose end has not come.
    leftover: Vec<u8>,
    /// Its socket may have something to read.
    is_readable: bool,
    /// It is in the list of those that have something to write.
    is_dirty: bool,
    /// It is in the list of those that have something to do.
    is_queued: bool,
    /// The peer writes no more: read until the end.
    peer_closed_writing: bool,
    is_writable: bool,
    stream: TcpStream,
    tls: rustls::Connection,
    send_queues: SendQueues,
    /// Windows, pings, changes of the registrations.
    urgent: Vec<u8>,
    staged: Vec<u8>,
    /// Bytes given to rustls since it had nothing to write.
    inside: usize,
    liveness: Liveness,
}

impl Link {
    /// Takes over a connection whose handshakes are done.
    pub fn new(
        peer: u64,
        key: LinkKey,
        stream: std::net::TcpStream,
        mut tls: rustls::Connection,
        now: Instant,
    ) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        set(&stream, libc::TCP_NOTSENT_LOWAT, NOTSENT_LOWAT)?;
        let silent_max = SILENT_MAX.as_millis() as libc::c_int;
        set(&stream, libc::TCP_USER_TIMEOUT, silent_max)?;
        // How much is inside is decided here, not by rustls.
        tls.set_buffer_limit(None);
        Ok(Link {
            peer,
            key,
            pieces: Pieces::default(),
            due: Vec::new(),
            leftover: Vec::new(),
            is_readable: true,
            is_dirty: false,
            is_queued: false,
            peer_closed_writing: false,
            is_writable: true,
            stream: TcpStream::from_std(stream),
            tls,
            send_queues: SendQueues::default(),
            urgent: Vec::new(),
            staged: Vec::new(),
            inside: 0,
            liveness: Liveness::new(now),
        })
    }

    /// The node at the other end.
    pub fn peer(&self) -> u64 {
        self.peer
    }

    /// The dealer's name for it.
    pub fn key(&self) -> LinkKey {
        self.key
    }

    /// What the kernel says of its socket. True: it takes bytes.
    pub fn note(&mut self, event: &Event) -> bool {
        self.peer_closed_writing |= event.is_read_closed() || event.is_error();
        self.is_readable |= event.is_readable() || self.peer_closed_writing;
        self.is_writable |= event.is_writable();
        event.is_writable()
    }

    /// Puts it into the list of those that have something to read. False: it is there, or has nothing.
    pub fn queue(&mut self) -> bool {
        !self.is_queued && self.is_readable && !std::mem::replace(&mut self.is_queued, true)
    }

    /// It was taken out of that list.
    pub fn unqueue(&mut self) {
        self.is_queued = false;
    }

    /// Puts it into the list of those that have something to write. False: it is there.
    pub fn mark_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// Lets `registry` watch its socket.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Ends it; what was not sent is lost.
    pub fn close(&mut self, registry: &Registry) {
        // Both fail only on a socket that is closed already.
        let _ = registry.deregister(&mut self.stream);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Sends a message about a call.
    pub fn send(&mut self, whose: Whose, message: &PeerMessage<'_>, buffers: &mut Buffers) {
        let is_small = message.payload().bytes.len() <= PIECE;
        if self.send_queues.is_empty() && is_small && self.staged.len() < STAGED_MAX {
            frame::write_message(message, &mut self.staged);
        } else {
            self.send_queues.push(whose, message, buffers);
        }
    }

    /// Sends what goes before everything else.
    pub fn send_urgent(&mut self, frame: &Frame<'_>) {
        frame::write(frame, &mut self.urgent);
    }

    /// Sends what `write` writes, whole frames, as urgently.
    pub fn write_urgent(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.urgent);
    }

    /// Whether its socket takes bytes, and little waits that goes before everything else.
    pub fn has_room(&self) -> bool {
        self.is_writable && self.urgent.len() < URGENT_MAX
    }

    /// Throws away what of a flow waits; gives what it cost.
    pub fn discard(&mut self, number: u64, way: Way, buffers: &mut Buffers) -> usize {
        self.send_queues.discard(number, way, buffers)
    }

    /// Something of a flow was taken by the session it is for.
    pub fn give_back(&mut self, number: u64, way: Way, cost: usize) {
        match self.due.last_mut() {
            Some((last, last_way, due)) if (*last, *last_way) == (number, way) => *due += cost,
            _ => self.due.push((number, way, cost)),
        }
    }

    /// Writes what the socket takes; it is no more in the list of those that have something to write.
    pub fn flush(&mut self, buffers: &mut Buffers) -> io::Result<()> {
        self.is_dirty = false;
        for (number, way, bytes) in self.due.drain(..) {
            frame::write(
                &Frame::Window {
                    number,
                    way,
                    bytes: bytes as u64,
                },
                &mut self.urgent,
            );
        }
        while self.is_writable {
            self.fill(buffers)?;
            if !self.tls.wants_write() {
                self.inside = 0;
                break;
            }
            match self.tls.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Gives rustls what is next, up to a write's worth.
    fn fill(&mut self, buffers: &mut Buffers) -> io::Result<()> {
        if !self.tls.wants_write() {
            self.inside = 0;
        }
        let mut writer = self.tls.writer();
        writer.write_all(&self.urgent)?;
        self.inside += self.urgent.len();
        self.urgent.clear();
        let (staged, inside) = (&mut self.staged, &mut self.inside);
        while *inside + staged.len() < WRITE {
            let more = self.send_queues.next(buffers, |framed| {
                // Small frames are put together, so that a record is not spent on each.
                if framed.len() < PIECE / 4 {
                    staged.extend_from_slice(framed);
                    return Ok::<_, io::Error>(());
                }
                *inside += staged.len() + framed.len();
                writer.write_all(staged)?;
                staged.clear();
                writer.write_all(framed)
            })?;
            if !more {
                break;
            }
        }
        writer.write_all(staged)?;
        *inside += staged.len();
        staged.clear();
        Ok(())
    }

    /// Takes out the beginning of a frame whose end had not come.
    pub fn take_leftover(&mut self, plain: &mut Vec<u8>) {
        plain.append(&mut self.leftover);
    }

    /// Keeps the beginning of a frame whose end has not come.
    pub fn keep_leftover(&mut self, leftover: &[u8]) {
        self.leftover.extend_from_slice(leftover);
    }

    /// Reads once; what came is appended to `plain`. `scratch` is where the socket is read into.
    pub fn receive(&mut self, scratch: &mut [u8], plain: &mut Vec<u8>) -> io::Result<()> {
        let read = match self.stream.read(scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_readable = false;
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        };
        // A stream socket that gave less is empty, and says when it is not.
        self.is_readable = read == scratch.len() || self.peer_closed_writing;
        let mut cipher = &scratch[..read];
        while !cipher.is_empty() {
            self.tls.read_tls(&mut cipher)?;
            self.decrypt(plain)?;
        }
        Ok(())
    }

    /// Appends to `plain` what rustls can decrypt.
    pub fn decrypt(&mut self, plain: &mut Vec<u8>) -> io::Result<()> {
        let state = self.tls.process_new_packets().map_err(io::Error::other)?;
        let mut left = state.plaintext_bytes_to_read();
        let mut reader = self.tls.reader();
        while left > 0 {
            // A record at a time, from where it was decrypted: no room need be cleared for it first.
            let record = reader.fill_buf()?;
            if record.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            plain.extend_from_slice(record);
            let length = record.len();
            reader.consume(length);
            left -= length;
        }
        if state.peer_has_closed() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// A message in pieces begins. One that was begun and is not finished goes: its sender has thrown the rest away.
    pub fn begin_pieces(&mut self, at: (u64, Way)) {
        self.drop_pieces(at);
        self.pieces.begin(at);
    }

    /// Adds a frame of a message in pieces, its head included if it is the first; if none was begun its call is over, and
    /// the window goes back. Gives the message when this was the last.
    pub fn add_piece(
        &mut self,
        at: (u64, Way),
        frame: &Frame<'_>,
        bytes: &[u8],
    ) -> Result<Option<Assembly>, frame::Malformed> {
        Ok(match self.pieces.add(at, frame, bytes)? {
            Added::Whole(assembly) => Some(assembly),
            Added::Begun => None,
            Added::Unexpected => {
                self.give_back(at.0, at.1, frame.cost());
                None
            }
        })
    }

    /// The rest of a message in pieces will not come, or for nobody: its window goes back.
    pub fn drop_pieces(&mut self, at: (u64, Way)) {
        let cost = self.pieces.drop(at);
        if cost > 0 {
            self.give_back(at.0, at.1, cost);
        }
    }

    /// Takes the room of a message that was dealt with.
    pub fn keep(&mut self, bytes: Vec<u8>) {
        self.pieces.keep(bytes);
    }

    /// Judges the peer, and asks it when it is time.
    pub fn tend(&mut self, now: Instant) -> Verdict {
        let stream = &self.stream;
        let verdict = self.liveness.judge(now, || unacknowledged(stream));
        if let Verdict::Ask(number) = verdict {
            self.send_urgent(&Frame::Ping(number));
        }
        verdict
    }

    /// When `tend` has something to do.
    pub fn next_tend(&self) -> Instant {
        self.liveness.next()
    }

    /// The peer answered a ping.
    pub fn answered(&mut self, number: u64) {
        self.liveness.answered(number);
    }
}

/// Sets a TCP option that is a number.
fn set(stream: &std::net::TcpStream, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the call's time, and the option's value is an int that is passed with its size.
    let set = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            std::ptr::from_ref(&value).cast(),
            std::mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// For how long the kernel has heard nothing of the peer's, while something waits for it. What was sent counts in full;
/// what could not be sent counts [`PROBES_APART`] later.
fn unacknowledged(stream: &TcpStream) -> Duration {
    // SAFETY: numbers alone, for which zeros are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut size = std::mem::size_of_val(&info) as libc::socklen_t;
    let mut waiting: libc::c_int = 0;
    // SAFETY: the descriptor is open for both calls' time, and the kernel writes at most `size` octets and one int.
    let (got, counted) = unsafe {
        let got = libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &mut size,
        );
        (
            got,
            libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting),
        )
    };
    let silent = Duration::from_millis(info.tcpi_last_ack_recv.into());
    match (got, counted) {
        (0, _) if info.tcpi_unacked > 0 => silent,
        (0, 0) if waiting > 0 => silent.saturating_sub(PROBES_APART),
        _ => Duration::ZERO,
    }
}
