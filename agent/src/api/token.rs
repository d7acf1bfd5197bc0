//! `pipes.token.create|list|remove|check`. A token is shown once; the store keeps its hash.

use pipes_raft::{Compare, Op, Txn};
use ring::rand::SecureRandom;
use rmpv::Value;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, value};
use crate::keys;

/// Random octets of a token.
const LENGTH: usize = 24;
/// Tokens of a cluster: names that people give, not a table.
const TOKENS_MAX: usize = 10_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    name: String,
    created: String,
}

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
    let known = all(api).await?;
    if known.len() >= TOKENS_MAX {
        return Err(Error::Usage("there are too many tokens: remove some".into()));
    }
    if known.iter().any(|(_, record)| record.name == name) {
        return Err(Error::Usage(format!(
            "there is a token '{name}' already; remove it first"
        )));
    }
    let mut secret = [0; LENGTH];
    let random = ring::rand::SystemRandom::new();
    random
        .fill(&mut secret)
        .map_err(|_| Error::Unavailable("the system gives no random numbers".into()))?;
    let token = format!("pipes_{}", hex::encode(secret));
    let created = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
    let record = serde_json::to_vec(&Record {
        name: name.clone(),
        created,
    })
    .map_err(|error| Error::Unavailable(error.to_string()))?;
    let key = keys::token(&hex::encode(Sha256::digest(token.as_bytes())));
    let txn = Txn {
        compares: vec![Compare::absent(key.clone())],
        success: vec![Op::put(key, record)],
        failure: vec![],
    };
    api.store.txn(txn).await?;
    Ok(Value::Map(vec![
        ("name".into(), name.into()),
        ("token".into(), token.into()),
    ]))
}

pub(super) async fn list(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    let records: Vec<Record> = all(api).await?.into_iter().map(|(_, record)| record).collect();
    Ok(value(&records))
}

/// Whether this is the SHA-256 of one, in hexadecimal digits.
pub(super) async fn check(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let sha256 = arguments.text("sha256")?;
    let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_known = is_digest && api.store.get(keys::token(&sha256)).await?.is_some();
    Ok(Value::from(is_known))
}

pub(super) async fn remove(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    let found = all(api)
        .await?
        .into_iter()
        .find(|(_, record)| record.name == name);
    let Some((key, _)) = found else {
        return Err(Error::NotFound(format!("there is no token '{name}'")));
    };
    api.store.delete(key).await?;
    Ok(Value::from(name))
}

async fn all(api: &Api) -> Result<Vec<(Vec<u8>, Record)>, Error> {
    let kvs = api.store.prefix(keys::tokens()).await?;
    Ok(kvs
        .into_iter()
        .filter_map(|kv| Some((kv.key, serde_json::from_slice(&kv.value).ok()?)))
        .collect())
}
