//! HELLO to WELCOME, seen from the client: what to send, and what to make of the answer. No socket.

use crate::message::{HelloDetails, Message, RoleFeatures};
use crate::scan::Scan;
use crate::{Error, write};

/// All that this client can do in a role.
const FEATURES: RoleFeatures = RoleFeatures {
    present: true,
    progressive_results: true,
    progressive_invocations: true,
    canceling: true,
    timeout: true,
};

/// How a client says that its signature covers the TLS channel (RFC 9266).
pub const CHANNEL_BINDING: &str = "tls-exporter";

/// What a client says of its signature beforehand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signing<'a> {
    /// Its public key in hex.
    pub pubkey: Option<&'a str>,
    /// What it covers beside the challenge.
    pub channel_binding: Option<&'a str>,
}

/// Appends the HELLO of a client with both roles, offering `method`; what of `signing` is there for cryptosign alone.
pub fn hello(out: &mut Vec<u8>, realm: &str, method: &str, authid: Option<&str>, signing: Signing<'_>) {
    let mut methods = Vec::new();
    write::array(&mut methods, 1);
    write::text(&mut methods, method);
    let details = HelloDetails {
        has_role: true,
        caller: FEATURES,
        callee: FEATURES,
        authmethods: Some(&methods),
        authid,
        pubkey: signing.pubkey,
        channel_binding: signing.channel_binding,
    };
    Message::Hello { realm, details }.encode(out);
}

/// Appends the AUTHENTICATE that answers a challenge.
pub fn authenticate(out: &mut Vec<u8>, signature: &str) {
    Message::Authenticate {
        signature,
        extra: crate::message::EMPTY_MAP,
    }
    .encode(out);
}

/// What the router's answer means.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Prove who you are; for cryptosign the challenge in hex.
    Challenge(String),
    /// The session is there.
    Welcome(u64),
}

/// Reads the router's answer to HELLO or AUTHENTICATE.
pub fn answer(message: &Message<'_>) -> Result<Step, Error> {
    match message {
        Message::Welcome { session, .. } => Ok(Step::Welcome(*session)),
        Message::Challenge { extra, .. } => {
            Ok(Step::Challenge(entry(extra, "challenge").unwrap_or_default()))
        }
        Message::Abort { reason, details } => Err(Error::Refused {
            reason: (*reason).to_owned(),
            message: entry(details, "message").unwrap_or_default(),
        }),
        _ => Err(Error::Malformed("neither WELCOME, CHALLENGE nor ABORT")),
    }
}

/// A text of an undecoded dictionary.
pub fn entry(dictionary: &[u8], wanted: &str) -> Option<String> {
    let mut scan = Scan::new(dictionary);
    for _ in 0..scan.map().ok()? {
        let key = scan.text().ok()?;
        if key == wanted {
            return scan.text().ok().map(str::to_owned);
        }
        scan.skip().ok()?;
    }
    None
}

/// What is signed of a challenge over a channel: the one with the other's octets (specification, Cryptosign, *Channel
/// Binding*).
#[cfg(feature = "client")]
pub fn bound(challenge: [u8; 32], channel: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| challenge[at] ^ channel[at])
}

/// Signs a challenge, over a channel where that has a name: hex of the ed25519 signature and after it what was signed
/// (specification, Cryptosign).
#[cfg(feature = "client")]
pub fn sign_cryptosign(
    key: &ring::signature::Ed25519KeyPair,
    challenge: &str,
    channel: Option<&[u8; 32]>,
) -> Result<String, Error> {
    let mut signed = [0; 32];
    hex::decode_to_slice(challenge, &mut signed)
        .map_err(|_| Error::Malformed("the challenge is not 32 octets in hex"))?;
    if let Some(channel) = channel {
        signed = bound(signed, channel);
    }
    Ok(hex::encode(key.sign(&signed)) + &hex::encode(signed))
}

/// Checks what a client signed.
#[cfg(feature = "client")]
pub fn verify_cryptosign(public_key: &[u8; 32], challenge: &[u8; 32], signature: &str) -> bool {
    let Ok(signed) = hex::decode(signature) else {
        return false;
    };
    // 64 octets of signature, then the challenge, if the client repeats it.
    let (Some(signature), rest) = (signed.get(..64), signed.get(64..).unwrap_or_default()) else {
        return false;
    };
    let repeats = rest.is_empty() || rest == challenge;
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public_key);
    repeats && key.verify(challenge, signature).is_ok()
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    #[test]
    fn a_signature_is_good_for_its_challenge_and_key_alone() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let public: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
        let signed = sign_cryptosign(&key, &hex::encode([5; 32]), None).unwrap();
        assert!(verify_cryptosign(&public, &[5; 32], &signed));
        assert!(!verify_cryptosign(&public, &[6; 32], &signed));
        assert!(!verify_cryptosign(&[9; 32], &[5; 32], &signed));
        assert!(!verify_cryptosign(&public, &[5; 32], "zz"));
    }

    #[test]
    fn what_was_signed_over_a_channel_is_worth_nothing_on_another() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let public: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
        let signed = sign_cryptosign(&key, &hex::encode([5; 32]), Some(&[7; 32])).unwrap();
        assert!(verify_cryptosign(&public, &bound([5; 32], &[7; 32]), &signed));
        assert!(!verify_cryptosign(&public, &bound([5; 32], &[8; 32]), &signed));
        assert!(!verify_cryptosign(&public, &[5; 32], &signed));
    }
}
