//! Who may send a request at all: whole heads, pages of no other site, the workflow's token. Pure.
//!
//! Always: (1) a request whose end could be read in two ways is refused; (2) a page of another site is let in by its
//! origin alone, never by a name that resolves to us: that is whoever's who owns the name; (3) a token is compared by its
//! digest.

use std::net::SocketAddr;

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

/// Refuses a head that has no one meaning (RFC 9112, 3.2 and 6.3).
pub fn check_head(version: Version, headers: &HeaderMap) -> Result<(), Error> {
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version >= Version::HTTP_11) {
        return Err(Error::Usage("one header Host is needed".into()));
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        // With a Content-Length beside it, hyper reads chunks, forgets the length, and ends the connection after it.
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
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    if let Ok(address) = authority.parse::<SocketAddr>() {
        return address == own;
    }
    own.ip().is_loopback()
        && authority
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            == Some(own.port())
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
pub fn check_token(headers: &HeaderMap, workflow: &Workflow) -> Result<(), Error> {
    let Some(expected) = &workflow.token_sha256 else {
        return Ok(());
    };
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    match token {
        Some(token) if hex::encode(Sha256::digest(token)).eq_ignore_ascii_case(expected) => Ok(()),
        _ => Err(Error::Token(workflow.name.clone())),
    }
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
            let checked = check_head(Version::HTTP_11, &headers(&pairs));
            assert_eq!(checked.is_ok(), is_fine, "{pairs:?}");
        }
        assert!(check_head(Version::HTTP_10, &headers(&[])).is_ok());
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
}
