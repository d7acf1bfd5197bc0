//! Who may send a request at all: whole heads, pages of no other site, the workflow's token. Pure.
//!
//! Always: (1) a request whose end could be read in two ways is refused; (2) a page of another site is let in by its
//! origin alone, never by a name that resolves to us: that is whoever's who owns the name; (3) on loopback, where only the
//! users of this machine are at home, nobody is let in by such a name either: a page that its owner sends there by it says no
//! origin with what it reads; (4) a token is compared by its digest.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, ORIGIN, TRANSFER_ENCODING,
    VARY,
};
use axum::http::{HeaderMap, HeaderValue, Version};
use sha2::{Digest as _, Sha256};

use crate::gateway::error::Error;
use crate::workflow::daemon::record::Workflow;

/// Seconds for which a browser need not ask again.
const MAX_AGE: &str = "600";
/// What scripts of an allowed origin may send beside the usual.
const MAY_SEND: &str = "authorization, content-type, idempotency-key, range, te";
/// What they may read.
const MAY_READ: &str = "location, etag, retry-after, content-range, pipes-run, pipes-status";

/// Refuses a head that has no one meaning (RFC 9112, 3.2 and 6.3); `is_ambiguous`: it has a length as well as chunks.
pub fn check_head(version: Version, headers: &HeaderMap, is_ambiguous: bool) -> Result<(), Error> {
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version >= Version::HTTP_11) {
        return Err(Error::Usage("one header Host is needed".into()));
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        // hyper forgets a length that stands beside it, and ends the connection after it.
        if is_ambiguous {
            return Err(Error::Usage(
                "a body has a Content-Length or a Transfer-Encoding, never both".into(),
            ));
        }
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked = codings
            .next()
            .is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
        if !is_chunked || codings.next().is_some() {
            return Err(Error::Usage(
                "the only Transfer-Encoding that is read is chunked".into(),
            ));
        }
    }
    Ok(())
}

/// The origin of a page that sent this, where it is another site's and allowed; refused where it is not.
pub fn check_origin(
    headers: &HeaderMap,
    own: SocketAddr,
    allowed: &[String],
) -> Result<Option<HeaderValue>, Error> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(None);
    };
    let text = origin.to_str().unwrap_or_default();
    if is_own(text, own) {
        return Ok(None);
    }
    match allowed.iter().any(|allowed| allowed == "*" || allowed == text) {
        true => Ok(Some(origin.clone())),
        false => Err(Error::Forbidden(
            "pages of this origin may not send requests here; `--cors ORIGIN` of `pipes run -d` lets them"
                .into(),
        )),
    }
}

/// Whether an origin is the very address that was asked. Who asks by `localhost` is at home, too: nobody else has that name.
fn is_own(origin: &str, own: SocketAddr) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let Some((host, port)) = host_and_port(authority) else {
        return false;
    };
    if port.unwrap_or(usual) != own.port() {
        return false;
    }
    match host.parse::<IpAddr>() {
        Ok(address) => address == own.ip(),
        Err(_) => own.ip().is_loopback() && host.eq_ignore_ascii_case("localhost"),
    }
}

/// The two, of `HOST`, `HOST:PORT` or `[HOST]:PORT`; `None`: it is none of them.
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// On loopback, refuses who asks by a name that somebody in the world may own, unless pages of that name are let in:
/// addresses and names without a dot are this machine's own affair.
pub fn check_host(
    headers: &HeaderMap,
    authority: Option<&str>,
    own: SocketAddr,
    allowed: &[String],
) -> Result<(), Error> {
    if !own.ip().is_loopback() {
        return Ok(());
    }
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    // A target with a host in it goes before the header (RFC 9112, 3.2.2).
    let Some(named) = authority.or(named) else {
        return Ok(());
    };
    let host = host_and_port(named).map_or(named, |(host, _)| host);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_near = !host.contains('.') || host.ends_with(".localhost") || host.parse::<IpAddr>().is_ok();
    let is_allowed = |origin: &String| {
        let of_origin = origin
            .split_once("://")
            .and_then(|(_, named)| host_and_port(named));
        origin == "*" || of_origin.is_some_and(|(of_origin, _)| of_origin.eq_ignore_ascii_case(&host))
    };
    match is_near || allowed.iter().any(is_allowed) {
        true => Ok(()),
        false => Err(Error::Forbidden(
            "this is no name of a loopback address: ask by the address, or let pages of this name in with `--cors http://NAME` of \
             `pipes run -d`"
                .into(),
        )),
    }
}

/// Refuses to serve a workflow in the clear that is for TLS alone.
pub fn check_secure(workflow: &Workflow, is_secure: bool) -> Result<(), Error> {
    match workflow.tls.is_some() && !is_secure {
        true => Err(Error::Usage(format!(
            "workflow {} is served over https alone; ask https://",
            workflow.name
        ))),
        false => Ok(()),
    }
}

/// Says that scripts of this origin may read the answer.
pub fn allow_origin(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("origin"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(MAY_READ));
}

/// Says what they may send; `methods` as Allow has them.
pub fn allow_requests(headers: &mut HeaderMap, methods: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(MAY_SEND));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
}

/// Refuses who does not show the workflow's token, if it has one.
pub fn check_token(shown: Option<&str>, workflow: &Workflow) -> Result<(), Error> {
    match (&workflow.token_sha256, shown) {
        (None, _) => Ok(()),
        (Some(expected), Some(shown)) if shown.eq_ignore_ascii_case(expected) => Ok(()),
        (Some(_), _) => Err(Error::Token(workflow.name.clone())),
    }
}

/// SHA-256 of the token that is shown, in hexadecimal digits.
pub fn token_sha256(headers: &HeaderMap) -> Option<String> {
    let shown = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = shown.split_once(' ')?;
    let token = scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())?;
    Some(hex::encode(Sha256::digest(token)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_head_that_could_mean_two_things_is_refused() {
        let host = ("host", "a");
        for (pairs, is_fine) in [
            (vec![host], true),
            (vec![host, ("content-length", "1")], true),
            (vec![host, ("transfer-encoding", "chunked")], true),
            (vec![host, ("transfer-encoding", "Chunked")], true),
            (vec![], false),
            (vec![host, host], false),
            (vec![host, ("transfer-encoding", "gzip, chunked")], false),
            (
                vec![
                    host,
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                false,
            ),
            (vec![host, ("transfer-encoding", "identity")], false),
            (vec![host, ("transfer-encoding", "xchunked")], false),
        ] {
            let checked = check_head(Version::HTTP_11, &headers(&pairs), false);
            assert_eq!(checked.is_ok(), is_fine, "{pairs:?}");
        }
        assert!(check_head(Version::HTTP_10, &headers(&[]), false).is_ok());
        let chunked = headers(&[host, ("transfer-encoding", "chunked")]);
        assert!(check_head(Version::HTTP_11, &chunked, true).is_err());
    }

    #[test]
    fn a_foreign_origin_is_refused_unless_it_is_allowed() {
        let own: SocketAddr = "127.77.0.1:7100".parse().unwrap();
        let check = |origin: &'static str, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
            check_origin(&headers(&[("origin", origin)]), own, &allowed)
        };
        assert_eq!(check_origin(&headers(&[]), own, &[]), Ok(None));
        assert_eq!(check("http://127.77.0.1:7100", &[]), Ok(None));
        assert_eq!(check("http://localhost:7100", &[]), Ok(None));
        for foreign in [
            "http://evil.example",
            "http://127.77.0.1:7101",
            "http://127.77.0.2:7100",
            "http://rebound.example:7100",
            "http://localhost:80",
            "http://localhost",
            "null",
            "",
        ] {
            assert!(
                matches!(check(foreign, &["http://good.example"]), Err(Error::Forbidden(_))),
                "{foreign}"
            );
        }
        let good = check("http://good.example", &["http://good.example"]);
        assert_eq!(good, Ok(Some(HeaderValue::from_static("http://good.example"))));
        assert!(check("http://any.example", &["*"]).unwrap().is_some());
    }

    #[test]
    fn an_origin_without_a_port_is_at_the_usual_one() {
        let own = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (origin, address, expected) in [
            ("http://127.77.0.1", "127.77.0.1:80", true),
            ("http://localhost", "127.77.0.1:80", true),
            ("https://127.77.0.1", "127.77.0.1:443", true),
            ("https://127.77.0.1", "127.77.0.1:80", false),
            ("http://[::1]:7100", "[::1]:7100", true),
            ("http://[::1]", "[::1]:80", true),
            ("ftp://127.77.0.1", "127.77.0.1:80", false),
            ("http://127.77.0.1:", "127.77.0.1:80", false),
        ] {
            assert_eq!(is_own(origin, own(address)), expected, "{origin} at {address}");
        }
    }

    #[test]
    fn on_loopback_nobody_is_asked_by_a_name_that_others_may_own() {
        let loopback: SocketAddr = "127.77.0.1:7100".parse().unwrap();
        let check = |host: &'static str, own: SocketAddr, allowed: &[&str]| {
            let allowed: Vec<String> = allowed.iter().map(|origin| (*origin).to_owned()).collect();
            check_host(&headers(&[("host", host)]), None, own, &allowed).is_ok()
        };
        for near in [
            "127.77.0.1:7100",
            "[::1]:7100",
            "localhost:7100",
            "a.localhost",
            "laptop",
            "a",
        ] {
            assert!(check(near, loopback, &[]), "{near}");
        }
        for rebound in [
            "rebound.example:7100",
            "rebound.example",
            "Rebound.Example.",
            "a.b",
        ] {
            assert!(!check(rebound, loopback, &["http://good.example"]), "{rebound}");
        }
        assert!(check(
            "good.example:7100",
            loopback,
            &["http://good.example:7100"]
        ));
        assert!(check("rebound.example", loopback, &["*"]));
        assert!(check("words.example", "10.0.0.1:7100".parse().unwrap(), &[]));
        let by_target = check_host(&headers(&[("host", "a")]), Some("rebound.example"), loopback, &[]);
        assert!(by_target.is_err());
    }
}
