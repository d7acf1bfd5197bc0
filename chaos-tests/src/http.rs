//! HTTP/1.1 as any client speaks it: requests one after another on a connection, and what was answered.
//!
//! A request is sent whole before anything of its answer is read, as most clients do. An answer that was broken off is an
//! error, never a short body.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long an answer may take unless a test says otherwise.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A connection that was idle for longer is not used again: the other side ends it after 10 s.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Octets of a head: far more than the product sends.
const HEAD_MAX: u64 = 64 << 10;
/// Octets of a body: more is no answer that a test asked for.
const BODY_MAX: u64 = 4 << 30;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// The path and what follows it.
    pub target: &'a str,
    /// Headers beside `Host` and `Content-Length`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; its length is announced.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// `GET` of this.
    pub fn get(target: &'a str) -> Request<'a> {
        Request {
            method: "GET",
            target,
            headers: &[],
            body: &[],
        }
    }

    /// `POST` of this body.
    pub fn post(target: &'a str, body: &'a [u8]) -> Request<'a> {
        Request {
            method: "POST",
            target,
            headers: &[],
            body,
        }
    }

    /// With these headers.
    pub fn with(self, headers: &'a [(&'a str, &'a str)]) -> Request<'a> {
        Request { headers, ..self }
    }
}

/// Names in small letters, and values.
pub type Headers = Vec<(String, String)>;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, and trailers after them, their names in small letters.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("JSON in {:?}", self.text()))
    }

    /// Itself, if that is its status.
    pub fn expect(self, status: u16) -> Result<Answer> {
        let said: String = self.text().chars().take(400).collect();
        ensure!(
            self.status == status,
            "answered {} instead of {status}: {said}",
            self.status
        );
        Ok(self)
    }

    /// The ID in what a query is answered.
    pub fn job(self) -> Result<String> {
        let text = self.expect(202)?.text();
        let id = text.trim().strip_prefix("Job ID: ");
        Ok(id.with_context(|| text.clone())?.to_owned())
    }
}

/// A connection that is made when it is needed, and kept as long as both sides keep it.
pub struct Connection {
    address: SocketAddr,
    limit: Duration,
    open: Option<(BufReader<TcpStream>, Instant)>,
}

impl Connection {
    /// To this address and port.
    pub fn to(address: &str, port: u16) -> Result<Connection> {
        let address = address.parse().with_context(|| address.to_owned())?;
        Ok(Connection {
            address: SocketAddr::new(address, port),
            limit: ANSWER_LIMIT,
            open: None,
        })
    }

    /// How long connecting, and each read and write, may take.
    pub fn within(mut self, limit: Duration) -> Connection {
        self.limit = limit;
        self
    }

    /// Asks; after an error the next request has a new connection.
    pub fn ask(&mut self, request: &Request<'_>) -> Result<Answer> {
        let mut stream = match self.open.take() {
            Some((stream, used)) if used.elapsed() < IDLE_MAX => stream,
            _ => self.connect()?,
        };
        send(stream.get_mut(), self.address, request)?;
        let answer = receive(&mut stream, request.method)?;
        let has_end = ["content-length", "transfer-encoding"].map(|name| answer.header(name).is_some());
        if answer.header("connection") != Some("close") && has_end.contains(&true) {
            self.open = Some((stream, Instant::now()));
        }
        Ok(answer)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect_timeout(&self.address, self.limit)
            .with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.limit))?;
        stream.set_write_timeout(Some(self.limit))?;
        Ok(BufReader::new(stream))
    }
}

/// One request on a connection of its own.
pub fn ask(address: &str, port: u16, request: &Request<'_>) -> Result<Answer> {
    Connection::to(address, port)?.ask(request)
}

fn send(stream: &mut TcpStream, address: SocketAddr, request: &Request<'_>) -> Result<()> {
    let Request {
        method,
        target,
        headers,
        body,
    } = request;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in *headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(*method, "POST" | "PUT") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    // Small ones go in one packet.
    if body.len() <= 16 << 10 {
        stream.write_all(&[head.as_bytes(), body].concat())?;
    } else {
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
    }
    Ok(())
}

/// Reads an answer, those of `1xx` before it left out.
pub fn receive(from: &mut impl BufRead, method: &str) -> Result<Answer> {
    loop {
        let (status, mut headers) = head(from)?;
        if (100..200).contains(&status) {
            continue;
        }
        let value = |name: &str| {
            headers
                .iter()
                .find(|(own, _)| own == name)
                .map(|(_, value)| value)
        };
        let has_none = method == "HEAD" || matches!(status, 204 | 304);
        let body = if has_none {
            Vec::new()
        } else if value("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            let (body, trailers) = chunked(from)?;
            headers.extend(trailers);
            body
        } else if let Some(length) = value("content-length") {
            let length: u64 = length.parse().with_context(|| length.clone())?;
            octets(from, length)?
        } else {
            let mut body = Vec::new();
            from.take(BODY_MAX).read_to_end(&mut body)?;
            body
        };
        return Ok(Answer {
            status,
            headers,
            body,
        });
    }
}

fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    from.take(HEAD_MAX).read_until(b'\n', &mut line)?;
    let text = line.strip_suffix(b"\r\n").context("the answer was broken off")?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn head(from: &mut impl BufRead) -> Result<(u16, Headers)> {
    let first = line(from)?;
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    Ok((status.with_context(|| first.clone())?, headers(from)?))
}

fn headers(from: &mut impl BufRead) -> Result<Headers> {
    let mut headers = Vec::new();
    loop {
        let line = line(from)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').with_context(|| line.clone())?;
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
}

fn octets(from: &mut impl BufRead, length: u64) -> Result<Vec<u8>> {
    ensure!(length <= BODY_MAX, "a body of {length} octets");
    let mut body = Vec::new();
    let came = from.take(length).read_to_end(&mut body)?;
    if came as u64 != length {
        bail!("the body was broken off after {came} of {length} octets");
    }
    Ok(body)
}

/// A chunked body, and its trailers.
fn chunked(from: &mut impl BufRead) -> Result<(Vec<u8>, Headers)> {
    let mut body = Vec::new();
    loop {
        let head = line(from)?;
        let size = head.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).with_context(|| head.clone())?;
        if size == 0 {
            return Ok((body, headers(from)?));
        }
        body.extend(octets(from, size)?);
        ensure!(line(from)?.is_empty(), "a chunk is longer than it says");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_read_whole_with_its_trailers() {
        let said =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n\
                     1;x=y\r\nd\r\n0\r\nPipes-Status: 3\r\n\r\n";
        let answer = receive(&mut &said[..], "POST").unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "abcd"));
        assert_eq!(answer.header("pipes-status"), Some("3"));
    }

    #[test]
    fn an_answer_that_was_broken_off_is_none() {
        for said in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n",
            b"",
        ] {
            assert!(receive(&mut &said[..], "GET").is_err());
        }
    }
}
