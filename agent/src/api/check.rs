//! `pipes.cluster.check`: whether all replicas hold the same at one revision, and all blobs are what their names say.

use pipes_protocol::uris;
use rmpv::Value;
use serde::{Deserialize, Serialize};

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, value};
use crate::cluster::comparison::{self, Finding};
use crate::cluster::nodes::Record;

/// What a node found of its own blobs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OwnBlobs {
    count: usize,
    /// Those that were not what their names say.
    bad: Vec<String>,
}

pub(super) async fn check(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    let replicas = comparison::compare(&api.store, &api.nodes).await?;
    let records = api.nodes.records();
    let asking = records.values().map(async |Record { id, name, .. }| {
        let uri = uris::of_node(*id, uris::node::BLOBS_CHECK);
        let answer = api.agents.call_once(&uri, vec![], None).await;
        let found = match answer {
            Ok(answer) => answer.as_payload().first_as().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        (name.clone(), found)
    });
    let blobs = summed(futures::future::join_all(asking).await);
    Ok(value(&Finding {
        is_sound: replicas.is_sound && blobs.is_sound,
        sentence: format!("{}\n{}", replicas.sentence, blobs.sentence),
    }))
}

/// This node's own blobs.
pub(super) async fn own_blobs(api: &Api, _: &mut Arguments) -> Result<Value, Error> {
    let (count, bad) = api.blobs.check_all().await?;
    Ok(value(&OwnBlobs {
        count,
        bad: bad.iter().map(ToString::to_string).collect(),
    }))
}

fn summed(nodes: Vec<(String, Result<OwnBlobs, String>)>) -> Finding {
    let (mut counts, mut findings) = (Vec::new(), Vec::new());
    for (name, found) in nodes {
        match found {
            Ok(OwnBlobs { count, bad }) => {
                counts.push(format!("{count} at {name}"));
                findings.extend(
                    bad.iter()
                        .map(|digest| format!("{name}: blob {digest} was damaged, and is fetched anew")),
                );
            }
            Err(why) => findings.push(format!("{name}: its blobs cannot be checked ({why})")),
        }
    }
    Finding {
        is_sound: findings.is_empty(),
        sentence: std::iter::once(format!(
            "blobs that are what their names say: {}",
            counts.join(", ")
        ))
        .chain(findings)
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
            Ok(OwnBlobs {
                count: 2,
                bad: bad.iter().map(|text| (*text).to_owned()).collect(),
            })
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
            bad.sentence.contains("\nn1: blob sha256:aa was damaged"),
            "{}",
            bad.sentence
        );
        assert!(
            bad.sentence
                .contains("\nn2: its blobs cannot be checked (no answer)")
        );
    }
}
