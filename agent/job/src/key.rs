//! Where jobs lie in the store, and how a job is called.
//!
//! | key | value |
//! |---|---|
//! | `/pipes/jobs/open/WORKFLOW/ID` | the job while it is queued or runs: [`Open`](crate::record::Open), under 512 bytes |
//! | `/pipes/jobs/done/WORKFLOW/ID` | the job after its end: [`Done`](crate::record::Done) |
//! | `/pipes/jobs/ids/ID` | the workflow's name: an ID alone finds its job |
//! | `/pipes/jobs/input/ID`, `/pipes/jobs/result/ID` | the bytes, up to 16 KiB; larger ones are blobs |
//! | `/pipes/jobs/keys/WORKFLOW/SHA256HEX` | which job came with this idempotency key, and its input's digest |
//! | `/pipes/jobs/expiry/MILLISECONDS/ID` | when a finished job goes, in 16 hexadecimal digits, so that the next one is the first |
//! | `/pipes/blobs/DIGEST/by/jobs/input/ID` | that a job names a blob: as the key would be called if the bytes were in it |
//! | `/pipes/blobs/DIGEST/by/presence/NODE` | that a node uses it, under the lease of that node's life |
//! | `/pipes/blobs/DIGEST/gone`, `/pipes/blobs/generation/HH` | that it is being collected; written for a group of digests as one is |
//!
//! Open and finished jobs lie apart, so that queues and takeover read only what they need. Results lie beside their
//! records, so that a listing does not read them.

use std::time::{Duration, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};

/// What begins an ID.
const LETTER: char = 'j';
/// A ULID's letters and digits.
const ULID: usize = 26;

const ROOT: &str = "/pipes/";

fn key(path: &str) -> Vec<u8> {
    format!("{ROOT}{path}").into_bytes()
}

/// A new ID: `j` and a ULID in small letters, 48 bits of `wall` time and 80 random bits.
pub fn new_id(wall: Duration, random: u128) -> String {
    let ulid = ulid::Ulid::from_parts(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX), random);
    format!("{LETTER}{ulid}").to_lowercase()
}

/// Whether this can be the whole ID of a job; anything else is in no key.
pub fn is_id(text: &str) -> bool {
    text.len() == LETTER.len_utf8() + ULID && is_part_of_id(text) && text.starts_with(LETTER)
}

/// Whether this can be a part of an ID.
pub fn is_part_of_id(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Prefix of the daemon workflows' wishes.
pub fn workflows() -> Vec<u8> {
    key("workflows/")
}

/// Prefix of all open jobs.
pub fn all_open() -> Vec<u8> {
    key("jobs/open/")
}

/// Prefix of a workflow's open jobs.
pub fn opens(workflow: &str) -> Vec<u8> {
    key(&format!("jobs/open/{workflow}/"))
}

/// A job that is queued or runs.
pub fn open(workflow: &str, id: &str) -> Vec<u8> {
    key(&format!("jobs/open/{workflow}/{id}"))
}

/// Prefix of all finished jobs.
pub fn all_done() -> Vec<u8> {
    key("jobs/done/")
}

/// Prefix of a workflow's finished jobs.
pub fn dones(workflow: &str) -> Vec<u8> {
    key(&format!("jobs/done/{workflow}/"))
}

/// A job after its end.
pub fn done(workflow: &str, id: &str) -> Vec<u8> {
    key(&format!("jobs/done/{workflow}/{id}"))
}

/// Prefix of all IDs.
pub fn ids() -> Vec<u8> {
    key("jobs/ids/")
}

/// The workflow of a job.
pub fn id(id: &str) -> Vec<u8> {
    key(&format!("jobs/ids/{id}"))
}

/// Small input.
pub fn input(id: &str) -> Vec<u8> {
    key(&format!("jobs/input/{id}"))
}

/// Small result.
pub fn result(id: &str) -> Vec<u8> {
    key(&format!("jobs/result/{id}"))
}

/// An idempotency key, by its digest in hexadecimal digits.
pub fn idempotency(workflow: &str, sha256: &str) -> Vec<u8> {
    key(&format!("jobs/keys/{workflow}/{sha256}"))
}

/// Prefix of the ends of finished jobs.
pub fn expiries() -> Vec<u8> {
    key("jobs/expiry/")
}

/// When a finished job goes, in milliseconds of the clock that ages run on.
pub fn expiry(at_ms: u64, id: &str) -> Vec<u8> {
    key(&format!("jobs/expiry/{at_ms:016x}/{id}"))
}

/// The time and the ID of such a key.
pub fn read_expiry(key: &[u8]) -> Option<(u64, &str)> {
    let rest = std::str::from_utf8(key.strip_prefix(expiries().as_slice())?).ok()?;
    let (at, id) = rest.split_once('/')?;
    Some((u64::from_str_radix(at, 16).ok()?, id))
}

/// The workflow and the ID of an open or finished job's key.
pub fn read_job(key: &[u8]) -> Option<(&str, &str)> {
    let text = std::str::from_utf8(key).ok()?;
    let rest = text.strip_prefix("/pipes/jobs/open/");
    let rest = rest.or_else(|| text.strip_prefix("/pipes/jobs/done/"))?;
    rest.split_once('/')
}

/// The presence of a node, which hangs on the lease of its life.
pub fn presence(node: u64) -> Vec<u8> {
    key(&format!("presence/{node}"))
}

/// Prefix of all presences.
pub fn presences() -> Vec<u8> {
    key("presence/")
}

/// The node of a presence's key.
pub fn read_presence(key: &[u8]) -> Option<u64> {
    let prefix = presences();
    std::str::from_utf8(key.strip_prefix(prefix.as_slice())?)
        .ok()?
        .parse()
        .ok()
}

/// The wish of a daemon workflow.
pub fn workflow(name: &str) -> Vec<u8> {
    key(&format!("workflows/{name}"))
}

/// The generation of a blob's group, which collectors raise; `digest` as `sha256:HEX`.
pub fn blob_generation(digest: &str) -> Vec<u8> {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    key(&format!("blobs/generation/{}", hex.get(..2).unwrap_or_default()))
}

/// That a blob is being collected.
pub fn blob_gone(digest: &str) -> Vec<u8> {
    key(&format!("blobs/{digest}/gone"))
}

/// Prefix of what is known of each blob whose digest begins so; `digests` as `sha256:HE`.
pub fn blobs(digests: &str) -> Vec<u8> {
    key(&format!("blobs/{digests}"))
}

/// Prefix of the keys that name a blob.
pub fn blob_names(digest: &str) -> Vec<u8> {
    key(&format!("blobs/{digest}/by/"))
}

/// What a key says of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfBlob {
    /// It names it.
    Name,
    /// It says that the blob is being collected.
    Gone,
}

/// The blob that a key is about, and what it says of it.
pub fn read_blob(key: &[u8]) -> Option<(&str, OfBlob)> {
    let text = std::str::from_utf8(key).ok()?;
    let (digest, rest) = text.strip_prefix("/pipes/blobs/")?.split_once('/')?;
    let says = match rest {
        "gone" => OfBlob::Gone,
        rest if rest.starts_with("by/") => OfBlob::Name,
        _ => return None,
    };
    digest.starts_with("sha256:").then_some((digest, says))
}

/// That `by`, a key under `/pipes/`, names a blob.
pub fn blob_named_by(digest: &str, by: &[u8]) -> Vec<u8> {
    let mut named = blob_names(digest);
    named.extend_from_slice(by.strip_prefix(ROOT.as_bytes()).unwrap_or(by));
    named
}

/// The SHA-256 of some bytes in hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A wall time in milliseconds since 1970.
pub fn milliseconds(at: std::time::SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sortable_by_time_and_whole_or_none() {
        let (early, late) = (
            new_id(Duration::from_millis(5), u128::MAX),
            new_id(Duration::from_millis(6), 0),
        );
        assert!(early < late && is_id(&early) && is_id(&late));
        assert!(!is_id(&early[..26]) && !is_id("j") && !is_id(&early.to_uppercase()));
        assert!(!is_id(&early.replace('j', "r")));
    }

    #[test]
    fn keys_are_read_back() {
        assert_eq!(read_expiry(&expiry(77, "j1")), Some((77, "j1")));
        assert_eq!(read_job(&open("w", "j1")), Some(("w", "j1")));
        assert_eq!(read_job(&done("w", "j1")), Some(("w", "j1")));
        assert_eq!(read_job(&input("j1")), None);
        assert_eq!(read_presence(&presence(3)), Some(3));
        assert!(expiry(9, "j9") < expiry(10, "j0"));
        let named = blob_named_by("sha256:ab", &input("j1"));
        assert!(named.starts_with(&blobs("sha256:a")) && named.starts_with(&blob_names("sha256:ab")));
        assert_eq!(read_blob(&named), Some(("sha256:ab", OfBlob::Name)));
        assert_eq!(
            read_blob(&blob_gone("sha256:ab")),
            Some(("sha256:ab", OfBlob::Gone))
        );
        assert_eq!(read_blob(&blob_generation("sha256:ab")), None);
    }
}
