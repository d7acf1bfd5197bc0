//! Tokens of realm `pipes`: what a record says, and which of them live.
//!
//! ```text
//! /pipes/tokens/5e88..        {"name":"ci","created":"...","role":"runner","workflow":"words","by":"2bb8.."}
//! /pipes/token-names/ci       5e88..
//! ```
//!
//! A token may make others, of no more than it may itself. Always: (1) a token lives as long as all that it descends from
//! (`by`, a sha256, which a new token of an old one's name does not have); (2) a name has one token.

use std::collections::{BTreeMap, HashMap};

use pipes_router::Rights;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A token's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is called.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// `operator`, `runner` or `reader`.
    #[serde(default = "operator")]
    pub role: String,
    /// The one workflow that it reaches; all where there is none.
    #[serde(default)]
    pub workflow: Option<String>,
    /// The token that made it, by its sha256 in hexadecimal digits.
    #[serde(default)]
    pub by: Option<String>,
}

/// What tokens were before they had roles.
fn operator() -> String {
    Rights::Operator.name().to_owned()
}

impl Token {
    /// What it may do; nothing where a later version wrote what this one does not know.
    pub fn rights(&self) -> Option<Rights> {
        Rights::of(&self.role)
    }
}

/// Tokens by their sha256.
pub type BySha256 = BTreeMap<[u8; 32], Token>;

/// Those that live: all that they descend from is there.
pub fn living(all: &BySha256) -> BySha256 {
    let lives = |token: &Token| {
        let mut token = token;
        // A token is made by one that was there before it: there are no circles but in a store that somebody else wrote.
        for _ in 0..=all.len() {
            let Some(by) = &token.by else { return true };
            match parent(all, by) {
                Some(made_by) => token = made_by,
                None => return false,
            }
        }
        false
    };
    let living = all.iter().filter(|(_, token)| lives(token));
    living.map(|(sha256, token)| (*sha256, token.clone())).collect()
}

fn parent<'a>(all: &'a BySha256, by: &str) -> Option<&'a Token> {
    let mut sha256 = [0; 32];
    hex::decode_to_slice(by, &mut sha256).ok()?;
    all.get(&sha256)
}

/// Who comes with a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token's sha256.
    pub sha256: [u8; 32],
    /// Its record.
    pub token: Token,
}

/// Tokens by their names.
pub type ByName = HashMap<String, Bearer>;

/// The tokens that live, as this agent knows them. A cheap handle.
#[derive(Clone)]
pub struct Tokens(watch::Receiver<ByName>);

impl Tokens {
    /// None yet; the sender is told of them.
    pub fn channel() -> (watch::Sender<ByName>, Tokens) {
        let (sender, tokens) = watch::channel(HashMap::new());
        (sender, Tokens(tokens))
    }

    /// Who comes with the one of this name.
    pub fn get(&self, name: &str) -> Option<Bearer> {
        self.0.borrow().get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &str, by: Option<u8>) -> Token {
        Token {
            name: name.to_owned(),
            created: String::new(),
            role: operator(),
            workflow: None,
            by: by.map(|by| hex::encode([by; 32])),
        }
    }

    fn names(all: &BySha256) -> Vec<String> {
        let mut names: Vec<String> = living(all).into_values().map(|token| token.name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_token_lives_as_long_as_those_it_descends_from() {
        let mut all = BySha256::from([
            ([1; 32], token("a", None)),
            ([2; 32], token("b", Some(1))),
            ([3; 32], token("c", Some(2))),
            ([4; 32], token("d", None)),
        ]);
        assert_eq!(names(&all), ["a", "b", "c", "d"]);
        all.remove(&[1; 32]);
        assert_eq!(names(&all), ["d"]);
        // Another one of its name brings nothing back.
        all.insert([9; 32], token("a", None));
        assert_eq!(names(&all), ["a", "d"]);
    }

    #[test]
    fn a_circle_lives_on_nothing() {
        let all = BySha256::from([([1; 32], token("a", Some(2))), ([2; 32], token("b", Some(1)))]);
        assert!(names(&all).is_empty());
    }

    #[test]
    fn a_record_of_before_is_an_operators() {
        let record = serde_json::from_str::<Token>(r#"{"name":"old","created":"then"}"#).unwrap();
        assert_eq!((record.rights(), record.workflow), (Some(Rights::Operator), None));
    }
}
