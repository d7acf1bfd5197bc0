//! `pipes.cluster.check`: whether all replicas hold the same at one revision, and all blobs are what their names say.

use pipes_protocol::uris;
use rmpv::Value;
use serde::{Deserialize, Serialize};

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, value};
use crate::cluster::comparison::{self, Finding};
use crate::cluster::nodes::Record;

/// Damaged blobs of a node that are named; of a disk that lost all it had the others are counted. Those of thirty nodes are
/// a third of what a message may be.
const NAMED_MAX: usize = 1_000;

/// What a node found of its own blobs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OwnBlobs {
    sound: usize,
    /// Those that were not what their names say, and were fetched anew.
    fetched: Vec<String>,
    /// Those of which no other node gave a whole one.
    lost: Vec<String>,
    /// How many more of both there are.
    #[serde(default)]
    more: usize,
}

pub(super) async fn check(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    let replicas = comparison::compare(&api.store, &api.nodes).await?;
    let records = api.nodes.records();
    let asking = records.values().map(async |Record { id, name, .. }| {
        if !api.nodes.is_reached(*id) {
            let start = api.quorum.start();
            let why = format!("it cannot be reached; if it is down, start it with: {start}");
            return (name.clone(), Err(why));
        }
        let uri = uris::of_node(*id, uris::node::BLOBS_CHECK);
        let answer = api.agents.call_once(&uri, vec![], None).await;
        let found = match answer {
            Ok(answer) => answer.as_payload().first_as().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_people()),
        };
        (name.clone(), found)
    });
    let blobs = summed(futures::future::join_all(asking).await);
    Ok(value(&Finding {
        is_sound: replicas.is_sound && blobs.is_sound,
        // What is wrong comes first.
        sentence: match replicas.is_sound {
            true => format!("{}\n{}", blobs.sentence, replicas.sentence),
            false => format!("{}\n{}", replicas.sentence, blobs.sentence),
        },
    }))
}

/// This node's own blobs.
pub(super) async fn own_blobs(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    let (sound, bad) = api.blobs.check_all().await?;
    let those = |is_fetched| {
        let those = bad.iter().filter(|(_, fetched)| *fetched == is_fetched);
        those.map(|(digest, _)| digest.to_string()).collect()
    };
    Ok(value(&OwnBlobs::of(sound, those(true), those(false))))
}

impl OwnBlobs {
    fn of(sound: usize, mut fetched: Vec<String>, mut lost: Vec<String>) -> OwnBlobs {
        let all = fetched.len() + lost.len();
        // What is lost for good is named first.
        lost.truncate(NAMED_MAX);
        fetched.truncate(NAMED_MAX - lost.len());
        OwnBlobs {
            more: all - fetched.len() - lost.len(),
            sound,
            fetched,
            lost,
        }
    }
}

fn summed(nodes: Vec<(String, Result<OwnBlobs, String>)>) -> Finding {
    let (mut counts, mut findings) = (Vec::new(), Vec::new());
    for (name, found) in nodes {
        match found {
            Ok(OwnBlobs {
                sound,
                fetched,
                lost,
                more,
            }) => {
                counts.push(format!("{sound} at {name}"));
                let fetched = fetched.iter();
                findings.extend(
                    fetched.map(|blob| format!("{name}: blob {blob} was damaged, and is fetched anew")),
                );
                let lost = lost.iter();
                findings.extend(
                    lost.map(|blob| format!("{name}: blob {blob} is damaged, and no other server has it")),
                );
                if more > 0 {
                    findings.push(format!("{name}: {more} more blobs are or were damaged"));
                }
            }
            Err(why) => findings.push(format!("{name}: its blobs cannot be checked ({why})")),
        }
    }
    Finding {
        is_sound: findings.is_empty(),
        sentence: findings
            .into_iter()
            .chain([format!(
                "blobs that are what their names say: {}",
                counts.join(", ")
            )])
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_blobs_are_named_with_their_node() {
        let own = |bad: &[&str]| {
            let fetched = bad.iter().map(|text| (*text).to_owned()).collect();
            let lost = bad.iter().map(|_| "sha256:bb".to_owned()).collect();
            Ok(OwnBlobs::of(2, fetched, lost))
        };
        let sound = summed(vec![("n1".into(), own(&[]))]);
        assert!(sound.is_sound);
        assert_eq!(sound.sentence, "blobs that are what their names say: 2 at n1");
        let bad = summed(vec![
            ("n1".into(), own(&["sha256:aa"])),
            ("n2".into(), Err("no answer".into())),
        ]);
        assert!(!bad.is_sound);
        assert!(
            bad.sentence.starts_with(
                "n1: blob sha256:aa was damaged, and is fetched anew\nn1: blob sha256:bb is damaged, and no"
            ),
            "{}",
            bad.sentence
        );
        assert!(
            bad.sentence
                .contains("\nn2: its blobs cannot be checked (no answer)")
        );
    }

    #[test]
    fn of_more_damaged_blobs_than_a_message_holds_the_lost_are_named_and_the_others_counted() {
        let many = |count| vec!["sha256:aa".to_owned(); count];
        let found = summed(vec![(
            "n1".into(),
            Ok(OwnBlobs::of(0, many(300_000), many(NAMED_MAX - 1))),
        )]);
        let lines: Vec<&str> = found.sentence.lines().collect();
        assert_eq!(lines.len(), NAMED_MAX + 2);
        assert_eq!(lines[NAMED_MAX], "n1: 299999 more blobs are or were damaged");
        let lost = lines.iter().filter(|line| line.contains("no other server"));
        assert_eq!(lost.count(), NAMED_MAX - 1);
    }
}
