//! Settings of the cluster that every node's pool follows: `pipes cluster set KEY=VALUE`.
//!
//! | key | value | means |
//! |---|---|---|
//! | `warm` | duration (10m), kept as seconds | how long an idle replica stays |
//! | `slots` | number (16) | invocations at once a replica |
//! | `replicas` | number (4) | replicas of one service on a node |

use std::time::Duration;

use pipes_protocol::duration;
use pipes_raft::Store;
use serde_json::Value;
use tokio::sync::watch;

use crate::follow::{Change, Follow};
use crate::keys;
use crate::lifecycle::{Kind, Lifecycle};

/// Most slots or replicas that can be set: what an agent's limits of processes and sessions bear.
pub const COUNT_MAX: u32 = 256;

/// Longest time a replica is kept: a month, so that sums of times do not overflow.
pub const WARM_MAX: Duration = Duration::from_secs(31 * 86_400);

/// The settings in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long an idle replica stays.
    pub warm: Duration,
    /// Invocations at once a replica.
    pub slots: u32,
    /// Replicas of one service on a node.
    pub replicas: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            warm: Duration::from_secs(600),
            slots: 16,
            replicas: 4,
        }
    }
}

/// Why a setting is refused: the user's fault, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such key.
    #[error("there is no setting '{0}'; there are warm=DURATION, slots=N and replicas=N")]
    Key(String),
    /// No such value.
    #[error("'{value}' cannot be {key}; give a {what}")]
    Value {
        /// The setting.
        key: String,
        /// As given.
        value: String,
        /// What it takes.
        what: &'static str,
    },
}

impl Settings {
    /// Checks a setting as typed and gives the value to keep in the store.
    pub fn parse(key: &str, text: &str) -> Result<Value, Error> {
        let refuse = |what| Error::Value {
            key: key.to_owned(),
            value: text.to_owned(),
            what,
        };
        match key {
            "warm" => {
                let what = "duration from 0s to 31d such as 90s or 10m";
                let warm = duration::parse(text)
                    .ok()
                    .filter(|warm| *warm <= WARM_MAX)
                    .ok_or_else(|| refuse(what))?;
                Ok(warm.as_secs_f64().into())
            }
            "slots" | "replicas" => {
                let count = text
                    .parse::<u32>()
                    .ok()
                    .filter(|count| (1..=COUNT_MAX).contains(count));
                count
                    .map(Value::from)
                    .ok_or_else(|| refuse("number from 1 to 256"))
            }
            _ => Err(Error::Key(key.to_owned())),
        }
    }

    /// Takes over a value from the store, `None` when the key is gone; what cannot be one changes nothing.
    pub fn apply(&mut self, key: &str, value: Option<&Value>) {
        let default = Settings::default();
        let count = |default: u32| match value {
            None => Some(default),
            Some(value) => value
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| (1..=COUNT_MAX).contains(n)),
        };
        match key {
            "warm" => {
                let seconds = value.map_or(Some(default.warm.as_secs_f64()), Value::as_f64);
                let warm = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                self.warm = warm.filter(|warm| *warm <= WARM_MAX).unwrap_or(self.warm);
            }
            "slots" => self.slots = count(default.slots).unwrap_or(self.slots),
            "replicas" => self.replicas = count(default.replicas).unwrap_or(self.replicas),
            _ => {}
        }
    }
}

/// The settings in force, and every change of them.
pub fn follow(store: Store, lifecycle: &Lifecycle) -> watch::Receiver<Settings> {
    let (sender, settings) = watch::channel(Settings::default());
    let stopping = lifecycle.stopping();
    lifecycle.spawn(Kind::Part, "settings of the executor", async move {
        let mut follow = Follow::new(store, keys::settings());
        while let Some(change) = stopping.run_until_cancelled(follow.next()).await {
            let mut settings = *sender.borrow();
            apply(&mut settings, change);
            sender.send_if_modified(|known| std::mem::replace(known, settings) != settings);
        }
        Ok(())
    });
    settings
}

fn apply(settings: &mut Settings, change: Change) {
    let prefix = keys::settings();
    match change {
        Change::All(all) => {
            *settings = Settings::default();
            for kv in &all {
                set(settings, &prefix, &kv.key, Some(&kv.value));
            }
        }
        Change::Events(events) => {
            for event in &events {
                let value = (event.kind == pipes_raft::EventKind::Put).then_some(event.kv.value.as_slice());
                set(settings, &prefix, &event.kv.key, value);
            }
        }
    }
}

fn set(settings: &mut Settings, prefix: &[u8], key: &[u8], value: Option<&[u8]>) {
    let Some(name) = keys::after(key, prefix) else {
        return;
    };
    match value.map(serde_json::from_slice::<Value>) {
        None => settings.apply(name, None),
        Some(Ok(value)) => settings.apply(name, Some(&value)),
        Some(Err(error)) => tracing::warn!(name, %error, "a setting is not readable and changes nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_raft::{Event, EventKind, KeyValue};

    #[test]
    fn settings_are_checked_as_typed_and_read_back() {
        let mut settings = Settings::default();
        for (key, text) in [("warm", "1.5m"), ("slots", "4"), ("replicas", "1")] {
            settings.apply(key, Some(&Settings::parse(key, text).unwrap()));
        }
        assert_eq!(
            settings,
            Settings {
                warm: Duration::from_secs(90),
                slots: 4,
                replicas: 1
            }
        );
        for text in ["1M", "4w", "10", "32d"] {
            assert!(Settings::parse("warm", text).is_err(), "{text}");
        }
        settings.apply("slots", None);
        assert_eq!(settings.slots, 16, "a key that is removed is the default again");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        let why = |key, text| Settings::parse(key, text).unwrap_err().to_string();
        assert_eq!(
            why("slots", "0"),
            "'0' cannot be slots; give a number from 1 to 256"
        );
        assert!(why("warm", "10").contains("such as 90s or 10m"));
        assert!(why("warm", "-1s").contains("duration") && why("warm", "infs").contains("duration"));
        assert!(why("warm", "32d").contains("31d"));
        assert!(why("heat", "1").contains("there is no setting 'heat'"));
        let mut settings = Settings::default();
        settings.apply("slots", Some(&Value::from("many")));
        settings.apply("warm", Some(&Value::from(-1)));
        assert_eq!(settings, Settings::default());
    }

    fn kv(name: &str, value: &str) -> KeyValue {
        KeyValue {
            key: keys::setting(name),
            value: value.into(),
            ..KeyValue::default()
        }
    }

    #[test]
    fn settings_follow_the_store() {
        let mut settings = Settings::default();
        apply(
            &mut settings,
            Change::All(vec![kv("slots", "4"), kv("warm", "1.5"), kv("later", "{}")]),
        );
        assert_eq!((settings.slots, settings.warm.as_millis()), (4, 1_500));
        let event = |kind, kv| Event { kind, kv, prev: None };
        let events = vec![
            event(EventKind::Delete, kv("slots", "")),
            event(EventKind::Put, kv("replicas", "2")),
        ];
        apply(&mut settings, Change::Events(events));
        assert_eq!((settings.slots, settings.replicas), (16, 2));
        apply(&mut settings, Change::All(vec![kv("replicas", "two")]));
        assert_eq!(settings, Settings::default());
    }
}
