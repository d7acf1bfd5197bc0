//! Tokens of daemon workflows: made or given, and known here by their digest alone.

use ring::rand::SecureRandom;
use sha2::{Digest, Sha256};

use crate::workflow::daemon::asked::Token;
use crate::workflow::daemon::error::Error;

/// Random bytes of one that is made: it is never guessed.
const LENGTH: usize = 24;

/// SHA-256 of a token in hexadecimal digits, and the token itself where it was made just now.
pub fn settle(token: &Token) -> Result<(String, Option<String>), Error> {
    match token {
        Token::Given(token) => Ok((sha256(token), None)),
        Token::Made => {
            let mut secret = [0; LENGTH];
            let random = ring::rand::SystemRandom::new();
            random
                .fill(&mut secret)
                .map_err(|_| Error::Unavailable("the system gives no random numbers".into()))?;
            let token = format!("pipes_{}", hex::encode(secret));
            Ok((sha256(&token), Some(token)))
        }
    }
}

/// What is kept of a token, to compare with.
pub fn sha256(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_made_is_shown_once_and_one_that_was_given_never() {
        let (kept, made) = settle(&Token::Made).unwrap();
        let made = made.unwrap();
        assert_eq!(kept, sha256(&made));
        assert_ne!(settle(&Token::Made).unwrap().0, kept);
        assert_eq!(settle(&Token::Given(made)).unwrap(), (kept, None));
    }
}
