//! Books and pumps against real pipes.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use super::*;

/// A sink and the reading end of its pipe.
fn sink(max: usize) -> (Sink, File) {
    let (reader, writer) = pipe::new().unwrap();
    let mut sink = Sink::new(writer, max).unwrap();
    assert_eq!(sink.grant(), Some(WINDOW_FIRST as u64));
    (sink, File::from(reader))
}

/// A source and the writing end of its pipe.
fn source() -> (Source, File) {
    let (reader, writer) = pipe::new().unwrap();
    (Source::new(reader).unwrap(), File::from(writer))
}

/// Waits until something happens at a descriptor; the events seen.
fn wait(fd: i32, events: i16) -> i16 {
    let mut poll = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    assert_eq!(
        unsafe { libc::poll(&mut poll, 1, 10_000) },
        1,
        "nothing happened for 10 s"
    );
    poll.revents
}

/// What poll says at once.
fn peek(fd: i32, events: i16) -> i16 {
    let mut poll = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    unsafe { libc::poll(&mut poll, 1, 0) };
    poll.revents
}

/// Bytes that show when one is lost, doubled or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// Carries all of `data` through a whole hop to a reader that takes `step` bytes at once; returns what arrived.
fn carry(data: Vec<u8>, step: usize, max: usize) -> Vec<u8> {
    let (mut source, mut producer) = source();
    let (reader, writer) = pipe::new().unwrap();
    let mut sink = Sink::new(writer, max).unwrap();
    let mut reader = File::from(reader);
    let feeding = thread::spawn(move || producer.write_all(&data));
    let taking = thread::spawn(move || {
        let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            match reader.read(&mut buffer).unwrap() {
                0 => return all,
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    });
    let mut buffer = vec![0; CHUNK_MAX];
    while !sink.is_over() {
        if let Some(count) = sink.grant() {
            source.grant(count);
        }
        let mut polls = Vec::new();
        polls.extend(source.watch().map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        }));
        polls.extend(sink.watch().map(|(fd, events)| libc::pollfd {
            fd,
            events,
            revents: 0,
        }));
        let patience = sink.lingers().map_or(10_000, |left| left.as_millis() as i32 + 1);
        let ready = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as u64, patience) };
        assert!(ready > 0 || patience < 10_000, "the hop is stuck");
        sink.pump().unwrap();
        match source.read(&mut buffer).unwrap() {
            Read::Bytes(count) => sink.push(&buffer[..count]).unwrap(),
            Read::Later => {}
            Read::End => sink.end().unwrap(),
        }
    }
    feeding.join().unwrap().unwrap();
    let all = taking.join().unwrap();
    assert_eq!(source.bytes(), all.len() as u64);
    assert_eq!(sink.taken(), all.len() as u64);
    all
}

#[test]
fn bytes_arrive_unchanged_whatever_their_number_and_the_readers_step() {
    for length in [0, 1, 4095, 32_767, 32_768, 32_769, 65_535, 65_537, 3_000_001] {
        for (step, max) in [(65_536, WINDOW_MAX), (1000, WINDOW_MAX), (4096, WINDOW_FIRST)] {
            let data = pattern(length);
            assert!(carry(data.clone(), step, max) == data, "{length} bytes by {step}");
        }
    }
}

#[test]
fn a_reader_of_single_bytes_gets_them_all() {
    let data = pattern(70_000);
    assert!(carry(data.clone(), 1, WINDOW_MAX) == data);
}

#[test]
fn a_hop_holds_what_a_shells_pipe_holds_until_its_consumer_reads() {
    let (mut source, mut producer) = source();
    let (mut sink, _reader) = sink(WINDOW_MAX);
    source.grant(WINDOW_FIRST as u64);
    pipe::set_nonblocking(producer.as_raw_fd()).unwrap();
    let (block, mut buffer, mut accepted) = ([7; 4096], vec![0; CHUNK_MAX], 0);
    loop {
        match producer.write(&block) {
            Ok(count) => accepted += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                match source.read(&mut buffer).unwrap() {
                    Read::Bytes(count) => sink.push(&buffer[..count]).unwrap(),
                    _ => break,
                }
                assert_eq!(sink.grant(), None);
            }
        }
    }
    assert_eq!(accepted, 65_536);
    assert_eq!(
        source.watch(),
        None,
        "without credit there is nothing to watch for"
    );
}

#[test]
fn credit_comes_back_as_the_consumer_takes_bytes() {
    let (mut sink, mut reader) = sink(WINDOW_MAX);
    let (fd, events) = sink.watch().unwrap();
    assert_eq!(events, 0, "nothing to wait for while the sender has credit");
    sink.push(&pattern(WINDOW_FIRST)).unwrap();
    assert_eq!(sink.grant(), None);
    assert_eq!(sink.watch().unwrap().1, libc::POLLOUT);
    assert_eq!(peek(fd, libc::POLLOUT), 0, "an exhausted window is a full pipe");
    reader.read_exact(&mut [0; 4096]).unwrap();
    assert_eq!(wait(fd, libc::POLLOUT), libc::POLLOUT);
    assert_eq!(sink.grant(), None, "a first bite may be the last");
    assert_eq!(
        sink.watch().unwrap().1,
        0,
        "and is looked at again when its time is over"
    );
    thread::sleep(sink.lingers().unwrap());
    assert_eq!(sink.grant(), Some(4096));
    assert_eq!(sink.lingers(), None);
    assert_eq!(sink.taken(), 4096);
}

#[test]
fn more_than_a_bite_gives_credit_at_once() {
    let (mut sink, mut reader) = sink(WINDOW_MAX);
    sink.push(&pattern(WINDOW_FIRST)).unwrap();
    reader.read_exact(&mut [0; WINDOW_FIRST / 2]).unwrap();
    assert_eq!(sink.grant(), Some(WINDOW_FIRST as u64 / 2));
    assert_eq!(sink.lingers(), None);
}

#[test]
fn a_window_doubles_each_time_a_whole_one_was_taken_and_the_sender_can_tell() {
    let mut window = Window::new(WINDOW_FIRST, WINDOW_MAX);
    let mut credit = Credit::default();
    let mut sizes = Vec::new();
    for _ in 0..200 {
        while let Some(count) = window.grant() {
            credit.grant(count);
        }
        assert!(credit.window() as u64 == window.size().min(PIPE_MAX as u64));
        sizes.push(window.size() / 1024);
        let count = credit.left().min(32 * 1024) as usize;
        credit.spend(count);
        window.receive(count).unwrap();
        window.take(window.received());
    }
    sizes.dedup();
    assert_eq!(sizes, [32, 64, 128, 256, 512, 1024]);
}

#[test]
fn a_window_grows_no_further_than_it_may() {
    let mut window = Window::new(WINDOW_FIRST, 48 * 1024);
    for _ in 0..10 {
        let count = window.grant().unwrap_or(0).min(window.left());
        window.receive(count as usize).unwrap();
        window.take(window.received());
    }
    assert_eq!(window.size(), 48 * 1024);
}

#[test]
fn more_than_was_granted_is_an_error() {
    let (mut sink, _reader) = sink(WINDOW_MAX);
    sink.push(&pattern(WINDOW_FIRST)).unwrap();
    assert!(matches!(
        sink.push(b"x"),
        Err(Error::Overrun {
            received: 32_769,
            granted: 32_768
        })
    ));
}

#[test]
fn bytes_after_the_end_are_an_error() {
    let (mut sink, _reader) = sink(WINDOW_MAX);
    sink.push(b"all").unwrap();
    sink.end().unwrap();
    assert!(sink.push(b"more").is_err());
}

#[test]
fn the_end_is_passed_on_only_after_the_last_held_byte() {
    let (reader, writer) = pipe::new().unwrap();
    let mut sink = Sink::new(writer, WINDOW_MAX).unwrap();
    sink.grant();
    let fd = sink.watch().unwrap().0;
    // A pipe smaller than the window, as where the kernel refuses a larger one: a part must be held.
    assert_eq!(pipe::resize(fd, 4096), 4096);
    let data = pattern(20_000);
    sink.push(&data).unwrap();
    sink.end().unwrap();
    assert!(!sink.is_over());
    let taking = thread::spawn(move || {
        let mut all = Vec::new();
        File::from(reader).read_to_end(&mut all).map(|_| all)
    });
    while !sink.is_over() {
        let (fd, events) = sink.watch().unwrap();
        wait(fd, events);
        sink.pump().unwrap();
    }
    assert!(taking.join().unwrap().unwrap() == data);
}

#[test]
fn a_sink_whose_reader_is_gone_says_so_and_counts_what_was_taken() {
    let (mut sink, mut reader) = sink(WINDOW_MAX);
    sink.push(&pattern(10_000)).unwrap();
    reader.read_exact(&mut [0; 3000]).unwrap();
    let (fd, events) = sink.watch().unwrap();
    assert_eq!(events, 0);
    drop(reader);
    assert_eq!(wait(fd, events), libc::POLLERR);
    sink.deafen();
    assert!(sink.is_over());
    assert_eq!(sink.taken(), 3000);
    sink.push(b"to nobody").unwrap();
}

#[test]
fn what_was_not_taken_is_counted_after_the_end_too() {
    let (mut sink, mut reader) = sink(WINDOW_MAX);
    sink.push(&pattern(10_000)).unwrap();
    sink.end().unwrap();
    assert!(sink.is_over());
    reader.read_exact(&mut [0; 4000]).unwrap();
    drop(reader);
    assert_eq!(sink.taken(), 4000);
}

#[test]
fn a_source_ends_when_the_last_writer_is_gone_and_not_before() {
    let (mut source, producer) = source();
    let second = producer.try_clone().unwrap();
    source.grant(100);
    let mut buffer = [0; 100];
    drop(producer);
    assert_eq!(source.read(&mut buffer).unwrap(), Read::Later);
    drop(second);
    assert_eq!(source.read(&mut buffer).unwrap(), Read::End);
    assert!(source.is_closed());
}

#[test]
fn a_closed_source_breaks_its_writers_pipe() {
    let (mut source, mut producer) = source();
    source.close();
    assert_eq!(producer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_source_reads_no_more_than_its_credit() {
    let (mut source, mut producer) = source();
    producer.write_all(&[1; 500]).unwrap();
    let mut buffer = [0; 1000];
    assert_eq!(source.read(&mut buffer).unwrap(), Read::Later);
    source.grant(200);
    assert_eq!(source.read(&mut buffer).unwrap(), Read::Bytes(200));
    assert_eq!(source.waiting().unwrap(), 300);
    source.grant(1 << 20);
    assert_eq!(source.read(&mut buffer).unwrap(), Read::Bytes(300));
}

#[test]
fn pipes_are_not_passed_on_to_programs() {
    let (reader, writer): (OwnedFd, OwnedFd) = pipe::new().unwrap();
    for fd in [reader.as_raw_fd(), writer.as_raw_fd()] {
        assert_ne!(unsafe { libc::fcntl(fd, libc::F_GETFD) } & libc::FD_CLOEXEC, 0);
    }
}
