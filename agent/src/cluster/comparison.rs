//! Whether all replicas of the store hold the same at one revision, and what lies on their disks is what was written.
//!
//! The leader's agent looks once a day; `pipes cluster check` whenever it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use pipes_raft::{Content, Store};
use serde::Serialize;
use tracing::error;

use crate::cluster::nodes::Nodes;

/// How often the leader's agent compares.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Time that a replica has to read all it holds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a check found.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether all is well.
    pub is_sound: bool,
    /// What was found, a line each.
    pub sentence: String,
}

/// Compares once a day where this agent's replica leads, until the agent stops; says in the log what is not well.
pub async fn daily(store: Store, nodes: Nodes) -> anyhow::Result<()> {
    loop {
        tokio::time::sleep(EVERY).await;
        if store.status().leader != Some(nodes.own_id()) {
            continue;
        }
        match compare(&store, &nodes).await {
            Ok(finding) if finding.is_sound => {}
            Ok(finding) => error!("{}", finding.sentence),
            Err(error) => error!("the replicas cannot be compared: {}", error.to_people()),
        }
    }
}

/// Has every replica sum up what it holds.
pub async fn compare(store: &Store, nodes: &Nodes) -> Result<Finding, pipes_raft::Error> {
    let (revision, contents) = store.contents(TIMEOUT).await?;
    let records = nodes.records();
    let name = |id: u64| {
        let record = records.get(&id);
        record.map_or_else(|| id.to_string(), |record| record.name.clone())
    };
    let contents = contents.into_iter().map(|(id, content)| (name(id), content));
    Ok(compared(revision, contents.collect()))
}

fn compared(revision: i64, contents: BTreeMap<String, Result<Content, pipes_raft::Error>>) -> Finding {
    let mut alike: BTreeMap<String, (u64, Vec<String>)> = BTreeMap::new();
    let mut unread = Vec::new();
    for (name, content) in contents {
        match content {
            Ok(content) => alike
                .entry(content.digest)
                .or_insert((content.keys, vec![]))
                .1
                .push(name),
            Err(pipes_raft::Error::Corrupt(why)) => unread.push(format!(
                "{name} is damaged ({why}); make it new with: pipes node reset {name}"
            )),
            Err(pipes_raft::Error::Timeout) => {
                unread.push(format!("{name} cannot be compared (it does not answer)"));
            }
            Err(error) => unread.push(format!("{name} cannot be compared ({error})")),
        }
    }
    let mut groups: Vec<_> = alike.into_values().collect();
    groups.sort_by_key(|(_, names)| std::cmp::Reverse(names.len()));
    let sentence = match &groups[..] {
        [] => format!("no replica could be read at revision {revision}"),
        [(keys, names)] => format!(
            "{} hold the same {keys} keys at revision {revision}",
            names.join(", ")
        ),
        [(_, names), others @ ..] => {
            let others: Vec<_> = others.iter().flat_map(|(_, names)| names.clone()).collect();
            format!(
                "at revision {revision} {} differ from {}; once you know who is right, make the others new with: pipes node reset NAME",
                others.join(", "),
                names.join(", ")
            )
        }
    };
    Finding {
        is_sound: groups.len() == 1 && unread.is_empty(),
        sentence: std::iter::once(sentence)
            .chain(unread)
            .collect::<Vec<_>>()
            .join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(digest: &str) -> Result<Content, pipes_raft::Error> {
        Ok(Content {
            keys: 7,
            digest: digest.into(),
        })
    }

    #[test]
    fn a_comparison_names_who_differs_from_the_most_and_who_could_not_be_asked() {
        let checked = |contents: [(&str, Result<Content, pipes_raft::Error>); 3]| {
            compared(
                9,
                contents.map(|(name, content)| (name.to_owned(), content)).into(),
            )
        };
        let same = checked([("n1", content("a")), ("n2", content("a")), ("n3", content("a"))]);
        assert!(same.is_sound);
        assert_eq!(same.sentence, "n1, n2, n3 hold the same 7 keys at revision 9");
        let odd = checked([("n1", content("b")), ("n2", content("a")), ("n3", content("a"))]);
        assert!(!odd.is_sound);
        assert!(odd.sentence.contains("n1 differ from n2, n3"), "{}", odd.sentence);
        for (error, said) in [
            (pipes_raft::Error::Timeout, "n3 cannot be compared"),
            (
                pipes_raft::Error::Corrupt("raft/log".into()),
                "n3 is damaged (raft/log); make it new with: pipes node reset n3",
            ),
        ] {
            let silent = checked([("n1", content("a")), ("n2", content("a")), ("n3", Err(error))]);
            assert!(!silent.is_sound);
            assert!(silent.sentence.contains(said), "{}", silent.sentence);
        }
    }
}
