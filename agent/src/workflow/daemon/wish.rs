//! The wishes in the store: each change one transaction, which compares what the wish was read as, and is tried again on a
//! lost race.
//!
//! ```text
//! start words   absent /pipes/workflows/words; no other workflow has changed since its port was chosen (revision 41);
//!               the versions it runs are there: /pipes/versions/tr/sha256:ab..
//!            -> put /pipes/workflows/words, put /pipes/blobs/sha256:ab../by/workflows/words
//! stop words    /pipes/workflows/words is of revision 42
//!            -> put /pipes/workflows/words
//! ```
//!
//! Always: (1) no two workflows have one port; (2) what a wish needs has its name written in the same transaction; (3) an
//! answer that was lost on its way from the leader is read back, so that nothing is done twice.
//! Not here: what the record becomes (`change.rs`), what is asked for (`asked.rs`).

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use pipes_job::blobs::Naming;
use pipes_job::seams::Holders;
use pipes_protocol::stage::File;
use pipes_raft::{Compare, Consistency, OPERATIONS_MAX, Op, Range, Store, Txn};

use crate::blob::Digest;
use crate::cluster::quorum::Quorum;
use crate::keys;
use crate::retry::Backoff;
use crate::workflow::daemon::asked::{Asked, Token};
use crate::workflow::daemon::change::{self, Doors};
use crate::workflow::daemon::kept::{self, Kept, is_of, none_under, unchanged_since};
use crate::workflow::daemon::record::{Definition, Wish, Workflow};
use crate::workflow::daemon::rollout::Rollout;
use crate::workflow::daemon::{Error, blobs, definition, name, token};
use crate::workflow::versions;

/// Most workflows: every agent holds all of them in its memory, and there are 900 ports to give.
pub const WORKFLOWS_MAX: usize = 1_000;

/// Races that one change may lose: others change workflows as well, but not for seconds on end.
const TRIES: u32 = 32;

/// The wishes, for one request.
pub struct Wishes<'a> {
    /// Where they lie.
    pub store: &'a Store,
    /// Whether it can decide anything.
    pub quorum: &'a Quorum,
    /// Where the bytes of files lie.
    pub holders: &'a dyn Holders,
    /// Names of the nodes there are.
    pub nodes: Vec<String>,
    /// Ports that the agents use themselves.
    pub reserved: Vec<u16>,
}

/// What a change has lost so far.
#[derive(Default)]
struct Races {
    lost: u32,
    backoff: Backoff,
}

impl Wishes<'_> {
    /// All of them, by name.
    pub async fn list(&self) -> Result<Vec<Workflow>, pipes_raft::Error> {
        let all = kept::all(self.store).await?;
        Ok(all.kept.into_values().map(|kept| kept.workflow).collect())
    }

    /// The one of this name.
    pub async fn get(&self, name: &str) -> Result<Workflow, Error> {
        Ok(self.find(name).await?.workflow)
    }

    /// A new one, which serves; with its token, where one was made.
    pub async fn start(
        &self,
        name: Option<&str>,
        asked: &Asked,
    ) -> Result<(Workflow, Option<String>), Error> {
        if let Some(name) = name {
            name::check(name)?;
        }
        let line = asked.line.as_deref().unwrap_or_default();
        let (token_sha256, shown) = settled(asked.token.as_ref())?;
        let created = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let (mut races, mut written) = (Races::default(), None);
        loop {
            let definition = self.define(line, asked, None).await?;
            let all = kept::all(self.store).await?;
            if let Some(kept) = all
                .kept
                .values()
                .find(|kept| Some(&kept.workflow) == written.as_ref())
            {
                return Ok((kept.workflow.clone(), shown));
            }
            if all.kept.len() >= WORKFLOWS_MAX {
                return Err(Error::Usage(format!(
                    "there are {WORKFLOWS_MAX} workflows already, as many as a cluster has; remove one with: pipes rm W"
                )));
            }
            let name = match name {
                Some(name) if all.kept.contains_key(name) => return Err(Error::Exists(name.to_owned())),
                Some(name) => name.to_owned(),
                None => name::made_of(&definition.stages[0].service, |name| all.kept.contains_key(name)),
            };
            let port = asked.port.unwrap_or_default();
            let doors = Doors {
                port: Some(port.choose(&all.ports(&name), &self.reserved)?),
                bind: asked.bind,
                token_sha256: token_sha256.clone(),
                tls: asked.tls.clone(),
            };
            let mut after = change::begin(&name, definition, doors, created.clone())?;
            let mut compares = vec![unchanged_since(all.revision)];
            compares.extend(self.there(None, &after).await?);
            if self.commit(None, &mut after, compares).await? {
                return Ok((after, shown));
            }
            written = Some(after);
            races.lose(&name).await?;
        }
    }

    /// A stopped one serves again.
    pub async fn start_again(&self, name: &str) -> Result<Workflow, Error> {
        self.change(name, |before| Ok(change::start(before))).await
    }

    /// It takes nothing new, and its jobs under way have `grace` to end.
    pub async fn stop(&self, name: &str, grace: Duration) -> Result<Workflow, Error> {
        self.change(name, |before| match before.wish {
            Wish::Running => Ok(change::stop(before, grace)),
            Wish::Stopped => Ok(before.clone()),
        })
        .await
    }

    /// Its stages keep so many replicas.
    pub async fn scale(&self, name: &str, replicas: &[(String, u32)]) -> Result<Workflow, Error> {
        self.change(name, |before| change::scale(before, replicas)).await
    }

    /// It runs something else, or otherwise, as soon as each of its stages has a replica; with its token, where one was made.
    /// Without a line, the same one with the versions there are now.
    pub async fn update(
        &self,
        name: &str,
        asked: &Asked,
        rollout: &dyn Rollout,
    ) -> Result<(Workflow, Option<String>), Error> {
        let (token_sha256, shown) = settled(asked.token.as_ref())?;
        let (mut races, mut written) = (Races::default(), None);
        loop {
            let kept = self.find(name).await?;
            if Some(&kept.workflow) == written.as_ref() {
                return Ok((kept.workflow, shown));
            }
            let before = &kept.workflow;
            let line = asked.line.as_deref().unwrap_or(&before.definition.line);
            let definition = self.define(line, asked, Some(&before.definition)).await?;
            // Who has which port matters where one is asked for, and only then all are read.
            let (port, read_at) = match asked.port {
                Some(port) => {
                    let all = kept::all(self.store).await?;
                    (Some(port.choose(&all.ports(name), &self.reserved)?), all.revision)
                }
                None => (None, 0),
            };
            let doors = Doors {
                port,
                bind: asked.bind,
                token_sha256: token_sha256.clone(),
                tls: asked.tls.clone(),
            };
            let mut after = change::update(before, definition, doors)?;
            if after == *before {
                return Ok((after, shown));
            }
            let mut compares = self.there(Some(before), &after).await?;
            if after.port != before.port {
                compares.push(unchanged_since(read_at));
            }
            let held = rolled_out(rollout, before, &after).await?;
            let is_written = self.commit(Some(&kept), &mut after, compares).await?;
            drop(held);
            if is_written {
                return Ok((after, shown));
            }
            written = Some(after);
            races.lose(name).await?;
        }
    }

    /// It runs what it ran before its last update, as soon as each of its stages has a replica.
    pub async fn roll_back(&self, name: &str, rollout: &dyn Rollout) -> Result<Workflow, Error> {
        let (mut races, mut written) = (Races::default(), None);
        loop {
            let kept = self.find(name).await?;
            if Some(&kept.workflow) == written.as_ref() {
                return Ok(kept.workflow);
            }
            let mut after = change::roll_back(&kept.workflow)?;
            let held = rolled_out(rollout, &kept.workflow, &after).await?;
            let is_written = self.commit(Some(&kept), &mut after, Vec::new()).await?;
            drop(held);
            if is_written {
                return Ok(after);
            }
            written = Some(after);
            races.lose(name).await?;
        }
    }

    /// It is forgotten. One that runs only by `force`; one with unfinished jobs not at all.
    pub async fn remove(&self, name: &str, force: bool) -> Result<(), Error> {
        let mut races = Races::default();
        loop {
            let kept = self.removable(name, force).await?;
            let (key, open) = (keys::workflow(name), keys::open_jobs(name));
            let mut success = blobs::rename(name, Some(&kept.workflow), None);
            success.push(Op::delete(key.clone()));
            let txn = Txn {
                compares: vec![is_of(&key, kept.mod_revision), none_under(&open)],
                success,
                failure: Vec::new(),
            };
            match self.store.txn(txn).await {
                Ok(done) if done.succeeded => return Ok(()),
                Err(pipes_raft::Error::Unknown) if self.store.get(key).await?.is_none() => return Ok(()),
                Ok(_) | Err(pipes_raft::Error::Unknown) => races.lose(name).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The one of this name, if it can be removed now.
    pub async fn removable(&self, name: &str, force: bool) -> Result<Kept, Error> {
        let kept = self.find(name).await?;
        if kept.workflow.wish == Wish::Running && !force {
            return Err(Error::Runs(name.to_owned()));
        }
        let one = Range {
            limit: 1,
            keys_only: true,
            ..Range::prefix(keys::open_jobs(name))
        };
        let jobs = self.store.range(one, Consistency::Linearizable).await?;
        match jobs.kvs.is_empty() {
            true => Ok(kept),
            false => Err(Error::HasJobs(name.to_owned())),
        }
    }

    /// A change that needs nothing but what is there.
    async fn change(
        &self,
        name: &str,
        make: impl Fn(&Workflow) -> Result<Workflow, Error>,
    ) -> Result<Workflow, Error> {
        let mut races = Races::default();
        loop {
            let kept = self.find(name).await?;
            let mut after = make(&kept.workflow)?;
            // Also where the answer to the try before was lost: all of these do nothing a second time.
            if after == kept.workflow || self.commit(Some(&kept), &mut after, Vec::new()).await? {
                return Ok(after);
            }
            races.lose(name).await?;
        }
    }

    /// What a line runs now.
    async fn define(
        &self,
        line: &str,
        asked: &Asked,
        before: Option<&Definition>,
    ) -> Result<Definition, Error> {
        if line.trim().is_empty() {
            return Err(Error::Usage(
                "the line is empty: give a workflow such as \"a | b\"".into(),
            ));
        }
        let parsed = pipes_syntax::parse(line)?;
        let kinds = versions::look_up(self.store, self.quorum, &parsed.stages).await?;
        let stages = definition::stages(&parsed.stages, kinds);
        definition::make(line, stages, asked, before, &self.nodes)
    }

    /// That what is needed from now on is still there when it is named: versions by their keys, files by their holders.
    async fn there(&self, before: Option<&Workflow>, after: &Workflow) -> Result<Vec<Compare>, Error> {
        let named = before.map(blobs::needed).unwrap_or_default();
        let stages = after.definition.stages.iter();
        let versions: BTreeSet<_> = stages
            .filter(|stage| !named.contains(stage.digest.as_str()))
            .map(|stage| keys::version(&stage.service, &stage.digest))
            .collect();
        let mut compares: Vec<Compare> = versions.into_iter().map(Compare::exists).collect();
        let files = after.definition.options.files.iter();
        let files: Vec<_> = files
            .filter(|file| !named.contains(file.digest.as_str()))
            .collect();
        if let Some(file) = files.iter().find(|file| file.digest.parse::<Digest>().is_err()) {
            return Err(Error::Usage(format!(
                "'{}' is no digest of {}: sha256: and 64 hex digits",
                file.digest, file.name
            )));
        }
        let digests: Vec<String> = files.iter().map(|file| file.digest.clone()).collect();
        let naming = Naming::of(self.store, self.holders, &digests).await;
        compares.extend(naming.map_err(|error| unnamed(error, &files))?.compares());
        Ok(compares)
    }

    /// Writes a wish; false where something it was made of has changed.
    async fn commit(
        &self,
        before: Option<&Kept>,
        after: &mut Workflow,
        mut compares: Vec<Compare>,
    ) -> Result<bool, Error> {
        after.write = ulid::Ulid::new().to_string();
        let (key, value) = (keys::workflow(&after.name), change::encode(after));
        compares.push(is_of(&key, before.map_or(0, |before| before.mod_revision)));
        if compares.len() > OPERATIONS_MAX {
            return Err(Error::Usage(
                "the workflow needs more different executables and files than one transaction can name: some 120, a file \
                 counts twice"
                    .into(),
            ));
        }
        let mut success = blobs::rename(&after.name, before.map(|before| &before.workflow), Some(after));
        success.push(Op::put(key.clone(), value.clone()));
        let txn = Txn {
            compares,
            success,
            failure: Vec::new(),
        };
        match self.store.txn(txn).await {
            Ok(done) => Ok(done.succeeded),
            Err(pipes_raft::Error::Unknown) => {
                let now = self.store.get(key).await?;
                Ok(now.is_some_and(|now| now.value == value))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn find(&self, name: &str) -> Result<Kept, Error> {
        let kept = match name::check(name) {
            Ok(()) => self.store.get(keys::workflow(name)).await?,
            Err(_) => None,
        };
        match kept.as_ref().and_then(kept::read) {
            Some(kept) => Ok(kept),
            None => Err(kept::all(self.store).await?.none(name)),
        }
    }
}

impl Races {
    async fn lose(&mut self, name: &str) -> Result<(), Error> {
        self.lost += 1;
        if self.lost == TRIES {
            return Err(Error::Unavailable(format!(
                "workflow {name} could not be changed, since others are changing workflows all the while; try again"
            )));
        }
        self.backoff.rest().await;
        Ok(())
    }
}

/// Why files cannot be named.
fn unnamed(error: pipes_job::Error, files: &[&File]) -> Error {
    match error {
        pipes_job::Error::Store(error) => error.into(),
        pipes_job::Error::BlobMissing(digest) => {
            let missing = files.iter().find(|file| file.digest == digest);
            Error::Unavailable(format!(
                "the bytes of {} are not on a majority of the servers; send them again",
                missing.map_or(digest.as_str(), |file| file.name.as_str())
            ))
        }
        error => Error::Unavailable(error.to_string()),
    }
}

/// Each new stage has a replica, where the workflow serves: what is held stays so until it is dropped.
async fn rolled_out(
    rollout: &dyn Rollout,
    before: &Workflow,
    after: &Workflow,
) -> Result<Option<Box<dyn Send>>, Error> {
    let runs_the_same = before.definition.stages == after.definition.stages
        && before.definition.options.place == after.definition.options.place;
    match after.wish {
        Wish::Running if !runs_the_same => rollout.ready(&after.definition).await.map(Some),
        _ => Ok(None),
    }
}

/// What is kept of a token, and the token itself where it was made.
fn settled(token: Option<&Token>) -> Result<(Option<String>, Option<String>), Error> {
    match token.map(token::settle).transpose()? {
        Some((sha256, shown)) => Ok((Some(sha256), shown)),
        None => Ok((None, None)),
    }
}

#[cfg(test)]
mod tests;
