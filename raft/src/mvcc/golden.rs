//! Runs the scripts in `testscripts/mvcc`: commands to a database in memory, and what it answered.
//!
//! Keys are written `a` (one), `a*` (all that begin so), `a..c` (from, to) and `a..` (all from `a` on).

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command as Line, Context, Runner};

use super::{Changes, Clock, Database, Reads, Record, Records, Revision, Scope, Watchers, only_reads};
use crate::command::{ApplyResult, Command};
use crate::{Compare, CompareOp, Error, KeyValue, Op, OpResult, Range, RangeResult, Target, Txn, TxnResult};

type Told<T = String> = Result<T, Box<dyn StdError>>;

#[derive(Default)]
struct Memory(BTreeMap<Revision, Record>);

impl Records for Memory {
    fn record(&self, revision: Revision) -> Result<Option<Record>, Error> {
        Ok(self.0.get(&revision).cloned())
    }
}

/// A database with its records in memory, its watchers, and a leader's clock.
#[derive(Default)]
struct Script {
    database: Database,
    records: Memory,
    watchers: Watchers<String>,
    clock: Clock,
    index: u64,
}

fn scope(text: &str) -> Scope {
    let (key, end) = match (text.strip_suffix('*'), text.split_once("..")) {
        (Some(prefix), _) => (prefix, Some(crate::prefix_end(prefix.as_bytes()))),
        (None, Some((key, ""))) => (key, Some(vec![0])),
        (None, Some((key, end))) => (key, Some(end.as_bytes().to_vec())),
        (None, None) => (text, None),
    };
    Scope {
        key: key.as_bytes().to_vec(),
        end,
    }
}

fn compare(words: &[&str]) -> Told<Compare> {
    let [what, key, op, given] = words else {
        return Err("compare: TARGET KEY OP VALUE".into());
    };
    let Scope { key, end } = scope(key);
    let target = match *what {
        "value" => Target::Value(given.as_bytes().to_vec()),
        "version" => Target::Version(given.parse()?),
        "create" => Target::Create(given.parse()?),
        "mod" => Target::Mod(given.parse()?),
        "lease" => Target::Lease(given.parse()?),
        _ => return Err("unknown target".into()),
    };
    let op = match *op {
        "=" => CompareOp::Equal,
        "!=" => CompareOp::NotEqual,
        ">" => CompareOp::Greater,
        "<" => CompareOp::Less,
        _ => return Err("unknown operator".into()),
    };
    Ok(Compare { key, end, target, op })
}

fn op(words: &[&str]) -> Told<Op> {
    Ok(match words {
        ["put", key, value] => Op::put(*key, *value),
        ["put", key, value, lease] => Op::Put {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
            lease: Some(lease.parse()?),
        },
        ["delete", keys] => {
            let Scope { key, end } = scope(keys);
            Op::Delete { key, end, prev: true }
        }
        ["get", keys] => {
            let Scope { key, end } = scope(keys);
            Op::Range(Range {
                key,
                end,
                ..Range::default()
            })
        }
        ["(", inner @ .., ")"] => Op::Txn(txn(inner)?),
        _ => return Err(format!("unknown operation {words:?}").into()),
    })
}

/// `if C; C then O; O else O`, an inner transaction being `( ... )`.
fn txn(words: &[&str]) -> Told<Txn> {
    let mut txn = Txn::default();
    let (mut part, mut depth, mut start) = ("then", 0, 0);
    for at in 0..=words.len() {
        let word = words.get(at).copied().unwrap_or(";");
        depth += i32::from(word == "(") - i32::from(word == ")");
        let is_mark = matches!(word, "if" | "then" | "else");
        if depth > 0 || !(is_mark || word == ";") {
            continue;
        }
        let piece = &words[start..at];
        match part {
            _ if piece.is_empty() => {}
            "if" => txn.compares.push(compare(piece)?),
            "then" => txn.success.push(op(piece)?),
            _ => txn.failure.push(op(piece)?),
        }
        start = at + 1;
        if is_mark {
            part = word;
        }
    }
    Ok(txn)
}

fn show_key_value(kv: &KeyValue) -> String {
    let lease = if kv.lease == 0 {
        String::new()
    } else {
        format!(" lease={}", kv.lease)
    };
    format!(
        "{}={} create={} mod={} version={}{lease}",
        String::from_utf8_lossy(&kv.key),
        String::from_utf8_lossy(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    )
}

fn show_range(result: &RangeResult) -> String {
    let mut out = format!(
        "revision={} count={}{}\n",
        result.revision,
        result.count,
        if result.more { " more" } else { "" }
    );
    for kv in &result.kvs {
        let _ = writeln!(out, "  {}", show_key_value(kv));
    }
    out
}

fn show_txn(result: &TxnResult) -> String {
    let mut out = format!("succeeded={} revision={}\n", result.succeeded, result.revision);
    for response in &result.responses {
        let text = match response {
            OpResult::Put => "put\n".into(),
            OpResult::Delete { deleted, prev } => {
                let prev: Vec<String> = prev.iter().map(show_key_value).collect();
                format!("deleted {deleted} [{}]\n", prev.join(", "))
            }
            OpResult::Range(range) => show_range(range),
            OpResult::Txn(inner) => show_txn(inner),
        };
        for line in text.lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

impl Script {
    fn apply(&mut self, command: Command) -> Told {
        self.index += 1;
        let mut changes = Changes::default();
        let answer = self
            .database
            .apply(command, self.index, &self.records, &mut changes)?;
        let mut out = match &answer {
            ApplyResult::Nothing => String::new(),
            ApplyResult::Txn(result) => show_txn(result),
            ApplyResult::Id(id) => format!("id={id}\n"),
            ApplyResult::Done(revision) => format!("revision={revision}\n"),
            ApplyResult::Failed(error) => format!("{error}\n"),
        };
        if !changes.unreachable.is_empty() {
            let cut: Vec<String> = changes
                .unreachable
                .iter()
                .map(|at| format!("{}/{}", at.main, at.sub))
                .collect();
            let _ = writeln!(out, "unreachable: {}", cut.join(" "));
        }
        for revision in changes.unreachable {
            self.records.0.remove(&revision);
        }
        self.records.0.extend(changes.records.clone());
        for (at, record) in changes.records {
            let mut ids = Vec::new();
            self.watchers.concerned(&record.key, &mut ids);
            for id in ids {
                let event = self.event(at, record.clone())?;
                let name = self.watchers.owner(id).cloned().unwrap_or_default();
                let _ = writeln!(out, "{name}: {event}");
            }
        }
        Ok(out)
    }

    fn event(&self, at: Revision, record: Record) -> Told {
        let prev = self.database.previous(&record.key, at, &self.records)?;
        let event = record.into_event(at.main, prev);
        let prev = event
            .prev
            .as_ref()
            .map_or(String::new(), |prev| format!(" (was {})", show_key_value(prev)));
        Ok(match event.kind {
            crate::EventKind::Put => format!("put {}{prev}", show_key_value(&event.kv)),
            crate::EventKind::Delete => {
                format!(
                    "delete {} mod={}{prev}",
                    String::from_utf8_lossy(&event.kv.key),
                    event.kv.mod_revision
                )
            }
        })
    }

    fn get(&mut self, args: &mut ArgumentConsumer<'_>) -> Told {
        let Scope { key, end } = scope(args.next_pos().unwrap_or_default());
        let number = |text: Option<&str>| text.map_or(Ok(0), str::parse);
        let revision = number(args.take_key("revision"))? as i64;
        let limit = number(args.take_key("limit"))?;
        let show = args.take_key("show").unwrap_or_default();
        let range = Range {
            key,
            end,
            revision,
            limit,
            keys_only: show == "keys",
            count_only: show == "count",
        };
        Ok(
            match self
                .database
                .select(&range, &mut Reads::of_range())
                .and_then(|selection| selection.fetch(&self.records, &mut Reads::of_range()))
            {
                Ok(result) => show_range(&result),
                Err(error) => format!("{error}\n"),
            },
        )
    }

    fn history(&self, args: &mut ArgumentConsumer<'_>) -> Told {
        let scope = scope(args.next_pos().unwrap_or_default());
        let from = args.take_key("from").unwrap_or("1").parse::<i64>()?;
        if from < self.database.compacted {
            return Ok(format!(
                "{}\n",
                Error::Compacted {
                    revision: self.database.compacted
                }
            ));
        }
        let mut out = String::new();
        for (at, record) in self.records.0.range(Revision::first_of(from)..) {
            if scope.contains(&record.key) {
                let _ = writeln!(out, "{}", self.event(*at, record.clone())?);
            }
        }
        Ok(out)
    }

    fn ended(&mut self, now: u64) -> Told {
        let ids = self.clock.tick(self.database.leases.terms(), now);
        match ids.is_empty() {
            true => Ok(String::new()),
            false => Ok(format!(
                "ended: {ids:?}\n{}",
                self.apply(Command::Expire { ids: ids.clone() })?
            )),
        }
    }
}

impl Runner for Script {
    type Command = Line;

    fn run(&mut self, line: &Line, _: &Context) -> Told {
        let mut args = line.consume_args();
        let out = match line.name.as_str() {
            "put" | "delete" => {
                let mut words = vec![line.name.as_str()];
                words.extend(std::iter::from_fn(|| args.next_pos()));
                let lease = args.take_key("lease");
                words.extend(lease);
                self.apply(Command::Txn(Txn {
                    success: vec![op(&words)?],
                    ..Txn::default()
                }))?
            }
            "txn" => {
                let text = args.next_pos().unwrap_or_default();
                let words: Vec<&str> = text.split_whitespace().collect();
                let txn = txn(&words)?;
                let reads = if only_reads(&txn) { "only reads\n" } else { "" };
                format!("{reads}{}", self.apply(Command::Txn(txn))?)
            }
            "get" => self.get(&mut args)?,
            "history" => self.history(&mut args)?,
            "watch" => {
                let scope = scope(args.next_pos().unwrap_or_default());
                self.watchers
                    .add(scope, args.take_key("as").unwrap_or("watch").to_owned());
                String::new()
            }
            "grant" => {
                let id = args.take_key("id").unwrap_or("0").parse()?;
                let ttl_ms = args.take_key("ttl").unwrap_or("1000").parse()?;
                self.apply(Command::Grant { id, ttl_ms })?
            }
            "revoke" => self.apply(Command::Revoke {
                id: args.next_pos().unwrap_or_default().parse()?,
            })?,
            "compact" => self.apply(Command::Compact {
                revision: args.next_pos().unwrap_or_default().parse()?,
            })?,
            "allocate" => self.apply(Command::Allocate { name: "n".into() })?,
            "tick" => self.ended(args.next_pos().unwrap_or_default().parse()?)?,
            "renew" => {
                let id = args.next_pos().unwrap_or_default().parse()?;
                let now = args.take_key("at").unwrap_or_default().parse()?;
                let term = self.database.leases.term(id);
                match term.and_then(|term| self.clock.renew(id, term, now)) {
                    Some(ms) => format!("{ms} ms\n"),
                    None => format!("{}\n", Error::LeaseNotFound),
                }
            }
            "lead" => {
                self.clock.reset();
                String::new()
            }
            name => return Err(format!("unknown command {name}").into()),
        };
        args.reject_next()?;
        Ok(out)
    }
}

#[test]
fn every_script_gives_the_output_beneath_it() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts/mvcc");
    let mut paths: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut Script::default(), &path).unwrap();
    }
}
