//! Clients: tasks beside a node, which write with serials, compare, read now and in the past, and hold leases; and a
//! watcher on each host. They end with their process, and what they had asked then is unknown for ever.

use std::sync::Arc;
use std::time::Duration;

use pipes_raft::{
    Compare, CompareOp, Consistency, Error, Event, EventKind, Node, Op, Range, Store, Target, Txn, TxnResult,
};
use pipes_sim_seam::Chance;
use tokio::time::sleep;

use crate::book::Shared;
use crate::history::{LeaseOp, Outcome, outcome};
use crate::life::alive;
use crate::model::{Change, PREFIX};
use crate::plan::Plan;

/// And end before this.
pub const END: &[u8] = b"l";

/// What a client rests more once all faults have ended: with logs purged after a few entries, who has much to catch up
/// with would be given one snapshot after another.
const CALM_PAUSE_MS: u64 = 200;

/// A client.
pub struct Client {
    store: Store,
    shared: Shared,
    chance: Chance,
    host: usize,
    name: String,
    keys: u64,
    value_max: u64,
    pause_ms_max: u64,
    /// A key as it was last seen: for comparisons that hold.
    seen: Option<(Vec<u8>, i64)>,
    lease: Option<i64>,
}

impl Client {
    /// A client of `node`.
    pub fn new(node: &Arc<Node>, shared: Shared, chance: Chance, host: usize, plan: &Plan) -> Client {
        Client {
            store: node.store(),
            shared,
            chance,
            host,
            name: format!("n{host}"),
            keys: plan.keys,
            value_max: plan.value_max,
            pause_ms_max: plan.pause_ms_max,
            seen: None,
            lease: None,
        }
    }

    /// Asks and asks.
    pub async fn run(mut self) {
        loop {
            let pause = self.chance.between(1, self.pause_ms_max);
            let calm = if self.shared.lock().is_calm {
                CALM_PAUSE_MS
            } else {
                0
            };
            sleep(Duration::from_millis(pause + calm)).await;
            if self.shared.lock().is_quiet {
                continue;
            }
            match self.chance.below(100) {
                0..40 => self.put().await,
                40..55 => self.compare().await,
                55..62 => self.delete().await,
                62..78 => self.read(Consistency::Linearizable).await,
                78..84 => self.read(Consistency::Serializable).await,
                84..90 => self.read_past().await,
                90..98 => self.hold_lease().await,
                _ => self.compact().await,
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("k{:02}", self.chance.below(self.keys)).into_bytes()
    }

    fn put_of(&mut self, serial: u64, lease: Option<i64>) -> Op {
        let len = self.chance.scaled(1, self.value_max) as usize;
        let mut value = format!("{serial} h{}", self.host);
        value.extend(std::iter::repeat_n('.', len.saturating_sub(value.len())));
        Op::Put {
            key: self.key(),
            value: value.into_bytes(),
            lease,
        }
    }

    async fn write(&mut self, serial: u64, txn: Txn) -> Result<TxnResult, Error> {
        let clock_ms = self.shared.lock().clock_ms;
        let answer = alive(&self.name, self.store.txn(txn)).await;
        let mut history = self.shared.lock();
        if answer.is_ok() {
            history.read_clock(self.host, self.store.now_ms(), clock_ms);
        }
        history.end_write(serial, &answer);
        let told = match &answer {
            Ok(answer) => format!("n{} write {serial} done at {}", self.host, answer.revision),
            Err(error) => format!("n{} write {serial}: {error}", self.host),
        };
        history.note(told);
        drop(history);
        answer
    }

    fn begin(&self) -> u64 {
        self.shared.lock().begin_write()
    }

    async fn put(&mut self) {
        let serial = self.begin();
        let lease = self.lease.filter(|_| self.chance.is(500));
        let txn = Txn {
            success: vec![self.put_of(serial, lease)],
            ..Txn::default()
        };
        if let Err(Error::LeaseNotFound) = self.write(serial, txn).await {
            self.lease = None;
        }
    }

    /// Writes where nobody has written since a key was seen; else reads it.
    async fn compare(&mut self) {
        let serial = self.begin();
        let put = self.put_of(serial, None);
        let (key, mod_revision) = match self.seen.take() {
            Some(seen) => seen,
            None => (self.key(), 0),
        };
        let target = match self.chance.below(3) {
            0 => Target::Create(0),
            _ => Target::Mod(mod_revision),
        };
        let op = self.chance.pick(&[
            CompareOp::Equal,
            CompareOp::Equal,
            CompareOp::Less,
            CompareOp::NotEqual,
        ]);
        let txn = Txn {
            compares: vec![Compare::key(key.clone(), op, target)],
            success: vec![put, Op::Range(Range::key(key.clone()))],
            failure: vec![Op::Range(Range::key(key))],
        };
        let _ = self.write(serial, txn).await;
    }

    /// Deletes some keys, with a put that says so.
    async fn delete(&mut self) {
        let serial = self.begin();
        let from = self.key();
        let mut put = self.put_of(serial, None);
        // No key may be put and deleted at once.
        if let Op::Put { key, .. } = &mut put {
            *key = format!("kk{}", self.host).into_bytes();
        }
        let end = self.chance.is(300).then(|| b"k99".to_vec());
        let delete = Op::Delete {
            key: from,
            end,
            prev: true,
        };
        let txn = Txn {
            success: vec![put, delete],
            ..Txn::default()
        };
        let _ = self.write(serial, txn).await;
    }

    async fn read(&mut self, consistency: Consistency) {
        let range = match self.chance.is(500) {
            true => Range::key(self.key()),
            false => Range::prefix(PREFIX),
        };
        let (floor, clock_ms) = {
            let history = self.shared.lock();
            (history.told, history.clock_ms)
        };
        let answer = alive(&self.name, self.store.range(range.clone(), consistency)).await;
        let mut history = self.shared.lock();
        history.count(if answer.is_ok() {
            "reads done"
        } else {
            "reads failed"
        });
        let Ok(found) = answer else { return };
        if consistency == Consistency::Linearizable && found.revision < floor {
            let (host, read) = (self.host, found.revision);
            history.fail(format!(
                "n{host} read at revision {read}, and {floor} had been told before"
            ));
        }
        if consistency == Consistency::Linearizable {
            history.read_clock(self.host, self.store.now_ms(), clock_ms);
        }
        self.seen = found.kvs.first().map(|kv| (kv.key.clone(), kv.mod_revision));
        // A read that anybody was told of holds for those after it.
        if consistency == Consistency::Linearizable {
            history.tell(found.revision);
        }
        let expected = history.model.range_at(&range, found.revision);
        if history.model.revision < found.revision || expected != found {
            let host = self.host;
            history.fail(format!("n{host} read {found:?}, and it should be {expected:?}"));
        }
    }

    async fn read_past(&mut self) {
        let mut range = Range::prefix(PREFIX);
        let (told, compacted) = {
            let history = self.shared.lock();
            (history.told, history.model.compacted)
        };
        range.revision = self.chance.between(compacted.max(1) as u64, told.max(1) as u64) as i64;
        let answer = alive(
            &self.name,
            self.store.range(range.clone(), Consistency::Serializable),
        )
        .await;
        let mut history = self.shared.lock();
        history.count(if answer.is_ok() {
            "past reads done"
        } else {
            "past reads failed"
        });
        match answer {
            Ok(found) => {
                let expected = history.model.range_at(&range, found.revision);
                if expected != found {
                    let (host, at) = (self.host, range.revision);
                    history.fail(format!(
                        "n{host} read at {at}: {found:?}, and it should be {expected:?}"
                    ));
                }
            }
            Err(Error::Compacted { revision }) if revision > history.model.compacted + 1 => {
                history.fail(format!("history up to {revision} is said to be compacted"));
            }
            Err(_) => {}
        }
    }

    /// Grants a lease, or renews the one it has, or ends it.
    async fn hold_lease(&mut self) {
        let begun_ms = self.shared.lock().now_ms;
        let Some(id) = self.lease else {
            let ttl_ms = self.chance.scaled(500, 8_000);
            let granted = alive(&self.name, self.store.grant(Duration::from_millis(ttl_ms), 0)).await;
            let mut history = self.shared.lock();
            if let Ok(id) = granted {
                let lease = LeaseOp {
                    ttl_ms,
                    renewed_ms: begun_ms,
                    is_revoked: false,
                };
                history.count("leases granted");
                history.note(format!("n{} lease {id} granted for {ttl_ms} ms", self.host));
                history.leases.insert(id, lease);
                self.lease = Some(id);
            }
            return;
        };
        if self.chance.is(150) {
            if let Some(lease) = self.shared.lock().leases.get_mut(&id) {
                lease.is_revoked = true;
            }
            self.lease = None;
            let _ = alive(&self.name, self.store.revoke(id)).await;
            return;
        }
        let renewed = alive(&self.name, self.store.keep_alive(id)).await;
        let mut history = self.shared.lock();
        match renewed {
            Ok(_) => {
                history.count("leases renewed");
                if let Some(lease) = history.leases.get_mut(&id) {
                    lease.renewed_ms = begun_ms;
                }
            }
            Err(error) if outcome(&error) == Outcome::Rejected => self.lease = None,
            Err(_) => {}
        }
    }

    async fn compact(&mut self) {
        let (told, compacted) = {
            let history = self.shared.lock();
            (history.told, history.model.compacted)
        };
        let revision = self.chance.between(compacted.max(1) as u64, told.max(1) as u64) as i64;
        let _ = alive(&self.name, self.store.compact(revision)).await;
    }
}

/// Watches all keys from a revision on, and compares each change with what it should be.
pub async fn watch(store: Store, shared: Shared, host: usize, from: i64) {
    let mut watch = store.watch(PREFIX, Some(END.to_vec()), from);
    let mut position = shared.lock().model.position(from);
    let name = format!("n{host}");
    loop {
        let told = alive(&name, watch.next()).await;
        let mut history = shared.lock();
        match told {
            Ok(event) => {
                history.count("events");
                let told = change(event);
                let (expected, next) = history.model.next_change(PREFIX, END, position);
                if expected != Some(&told) {
                    let why = format!(
                        "n{host} watches from {from} and is told {told:?}: it should be {expected:?}"
                    );
                    history.fail(why);
                    return;
                }
                position = next;
            }
            Err(Error::Compacted { revision }) => {
                let compacted = history.model.compacted;
                let (next, _) = history.model.next_change(PREFIX, END, position);
                if next.is_some_and(|next| next.revision >= compacted) && revision > compacted {
                    history.fail(format!(
                        "n{host}: history is said to be compacted at {revision}, not {compacted}"
                    ));
                }
                return;
            }
            Err(_) => return,
        }
    }
}

fn change(event: Event) -> Change {
    Change {
        lease: match event.kind {
            EventKind::Put => event.kv.lease,
            EventKind::Delete => 0,
        },
        value: (event.kind == EventKind::Put).then_some(event.kv.value),
        key: event.kv.key,
        revision: event.kv.mod_revision,
    }
}
