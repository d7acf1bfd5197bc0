//! `pipes.token.create|list|remove|check`. A token is shown once; the store keeps its hash, and says what it may.

use pipes_raft::{Compare, CompareOp, Op, Target, Txn};
use pipes_router::Rights;
use ring::rand::SecureRandom;
use rmpv::Value;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::api::arguments::Arguments;
use crate::api::{Answer, Api, Error};
use crate::cluster::tokens::{self, BySha256, Token};
use crate::listing::Page;
use crate::{config, keys};

/// Random octets of a token.
const LENGTH: usize = 24;
/// Tokens of a cluster: names that people give, not a table.
const TOKENS_MAX: usize = 10_000;

pub(super) async fn create(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    if name.is_empty()
        || name.len() > 63
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.@".contains(c))
    {
        return Err(Error::Usage(format!(
            "'{name}' cannot be a token's name: use letters, digits and -_.@"
        )));
    }
    if all(api).await?.len() >= TOKENS_MAX {
        return Err(Error::Usage("there are too many tokens: remove some".into()));
    }
    let (role, workflow) = asked(arguments)?;
    let by = arguments.caller.as_ref().map(|maker| hex::encode(maker.sha256));
    let mut secret = [0; LENGTH];
    let random = ring::rand::SystemRandom::new();
    random
        .fill(&mut secret)
        .map_err(|_| Error::Unavailable("the system gives no random numbers".into()))?;
    let token = format!("pipes_{}", hex::encode(secret));
    let created = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
    let record = Token {
        name: name.clone(),
        created,
        role: role.name().to_owned(),
        workflow,
        by: by.clone(),
    };
    let record = serde_json::to_vec(&record).map_err(|error| Error::Unavailable(error.to_string()))?;
    let sha256 = hex::encode(Sha256::digest(token.as_bytes()));
    // Of two that want a name one gets it, and whose own token is gone by now makes none.
    let mut compares = vec![Compare::absent(keys::token_name(&name))];
    compares.extend(by.map(|by| Compare::exists(keys::token(&by))));
    let txn = Txn {
        compares,
        success: vec![
            Op::put(keys::token(&sha256), record),
            Op::put(keys::token_name(&name), sha256),
        ],
        failure: vec![],
    };
    if !api.store.txn(txn).await?.succeeded {
        return Err(Error::Conflict(format!(
            "there is a token '{name}' already; remove it first"
        )));
    }
    Ok(Value::Map(vec![
        ("name".into(), name.into()),
        ("token".into(), token.into()),
    ]))
}

/// The role and the one workflow that are asked for. A maker that reaches one workflow itself was held to that (`reach.rs`),
/// and only operators make any.
fn asked(arguments: &mut Arguments) -> Result<(Rights, Option<String>), Error> {
    let role = match arguments.take("role") {
        None => Rights::Operator,
        Some(role) => role
            .as_str()
            .and_then(Rights::of)
            .ok_or_else(|| Error::Usage("role must be operator, runner or reader".into()))?,
    };
    let workflow = match arguments.take("workflow") {
        None => None,
        Some(name) => Some(
            name.as_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::Usage("workflow must be a name".into()))?,
        ),
    };
    Ok((role, workflow))
}

/// Whether this is the SHA-256, in hexadecimal digits, of a token that lives and may do all that an operator may, everywhere.
pub(super) async fn check(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let Some(sha256) = config::public_key(&arguments.text("sha256")?) else {
        return Ok(false.into());
    };
    let living = tokens::living(&all(api).await?);
    let is_operators = |token: &Token| token.rights() == Some(Rights::Operator) && token.workflow.is_none();
    Ok(living.get(&sha256).is_some_and(is_operators).into())
}

pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Answer, Error> {
    let after = arguments.after()?;
    let all = all(api).await?;
    let living = tokens::living(&all);
    let mut tokens: Vec<&Token> = living.values().collect();
    tokens.sort_by(|one, other| one.name.cmp(&other.name));
    let placed = tokens
        .into_iter()
        .map(|token| (token.name.clone(), Shown::of(token)));
    Ok(Answer::page(&Page::of(placed, after.as_deref()), Vec::new()))
}

/// A token as it is shown: not what made it, which is a hash.
#[derive(Serialize)]
struct Shown<'t> {
    name: &'t str,
    created: &'t str,
    role: &'t str,
    workflow: Option<&'t str>,
}

impl Shown<'_> {
    fn of(token: &Token) -> Shown<'_> {
        Shown {
            name: &token.name,
            created: &token.created,
            role: &token.role,
            workflow: token.workflow.as_deref(),
        }
    }
}

/// Takes a token back. Those it made live no longer from then on; what is left of them is swept after it.
pub(super) async fn remove(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    let mut known = all(api).await?;
    let found = known.iter().find(|(_, token)| token.name == name);
    let Some(sha256) = found.map(|(sha256, _)| *sha256) else {
        return Err(Error::NotFound(format!("there is no token '{name}'")));
    };
    delete(api, &sha256, &name).await?;
    known.remove(&sha256);
    let living = tokens::living(&known);
    known.retain(|sha256, _| !living.contains_key(sha256));
    for (sha256, token) in known {
        delete(api, &sha256, &token.name).await?;
    }
    Ok(Value::from(name))
}

/// Removes a token's record, and its name if that is still its own.
async fn delete(api: &Api, sha256: &[u8; 32], name: &str) -> Result<(), Error> {
    let sha256 = hex::encode(sha256);
    let named = Compare::key(
        keys::token_name(name),
        CompareOp::Equal,
        Target::Value(sha256.clone().into_bytes()),
    );
    let txn = Txn {
        compares: vec![named],
        success: vec![
            Op::delete(keys::token(&sha256)),
            Op::delete(keys::token_name(name)),
        ],
        failure: vec![Op::delete(keys::token(&sha256))],
    };
    api.store.txn(txn).await?;
    Ok(())
}

async fn all(api: &Api) -> Result<BySha256, Error> {
    let prefix = keys::tokens();
    let kvs = api.store.prefix(prefix.clone()).await?;
    let read = |kv: pipes_raft::KeyValue| {
        let sha256 = config::public_key(keys::after(&kv.key, &prefix)?)?;
        Some((sha256, serde_json::from_slice(&kv.value).ok()?))
    };
    Ok(kvs.into_iter().filter_map(read).collect())
}
