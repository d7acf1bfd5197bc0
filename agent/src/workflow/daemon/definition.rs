//! What a daemon workflow runs: made of a line, the versions of its services and options, and of what it ran before. Pure.

use std::collections::BTreeMap;

use pipes_protocol::stage::File;
use pipes_protocol::supply::Kind;
use serde_bytes::ByteBuf;

use crate::workflow::daemon::asked::Asked;
use crate::workflow::daemon::error::{self, Error};
use crate::workflow::daemon::record::{Definition, Options, Stage};
use crate::workflow::placement::stage_index;

/// Makes one. An option that is not asked for stays as it was before; of maps and files each entry by itself.
///
/// Where the line is another one, what was said of stages that it does not have is forgotten. `nodes` are the names of
/// those there are.
pub fn make(
    line: &str,
    stages: Vec<Stage>,
    asked: &Asked,
    before: Option<&Definition>,
    nodes: &[String],
) -> Result<Definition, Error> {
    let services: Vec<&str> = stages.iter().map(|stage| stage.service.as_str()).collect();
    let mut options = before.map(|before| before.options.clone()).unwrap_or_default();
    options
        .replicas
        .retain(|stage, _| (*stage as usize) <= services.len());
    options
        .place
        .retain(|stage, _| stage_index(&services, stage).is_ok());
    options.pipefail = asked.pipefail.unwrap_or(options.pipefail);
    options.timeout = asked.timeout.or(options.timeout);
    options.scratch = asked.scratch.or(options.scratch);
    options.concurrency = asked.concurrency.or(options.concurrency);
    options.retries = asked.retries.unwrap_or(options.retries);
    options.keep = asked.keep.or(options.keep);
    options.list = asked.list.unwrap_or(options.list);
    options.body = asked.body.or(options.body);
    for (name, value) in &asked.env {
        options.env.insert(name.clone(), ByteBuf::from(value.clone()));
    }
    for origin in &asked.cors {
        if !options.cors.contains(origin) {
            options.cors.push(origin.clone());
        }
    }
    lay(&mut options.files, &asked.files);
    place(&mut options.place, &services, asked, nodes)?;
    scale(&mut options, &services, &asked.replicas)?;
    Ok(Definition {
        // Another one where it is another definition: whoever keeps it says so.
        revision: before.map_or(1, |before| before.revision),
        line: line.to_owned(),
        stages,
        options,
    })
}

/// Stages with the versions that they run.
pub fn stages(stages: &[pipes_syntax::Stage], kinds: Vec<Kind>) -> Vec<Stage> {
    let text = |arg: &Vec<u8>| String::from_utf8_lossy(arg).into_owned();
    let stages = stages.iter().zip(kinds).map(|(stage, kind)| Stage {
        service: kind.service,
        digest: kind.digest,
        args: stage.args.iter().map(text).collect(),
    });
    stages.collect()
}

/// Has stages keep so many replicas.
pub fn scale(options: &mut Options, services: &[&str], replicas: &[(String, u32)]) -> Result<(), Error> {
    let mut given: BTreeMap<u32, u32> = BTreeMap::new();
    for (stage, wanted) in replicas {
        let index = stage_index(services, stage).map_err(|error| error::of_stage("replicas", &error))?;
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if given
            .insert(number, *wanted)
            .is_some_and(|other| other != *wanted)
        {
            return Err(Error::Usage(format!(
                "--replicas: stage {number} is given two numbers; give one"
            )));
        }
    }
    options.replicas.extend(given);
    Ok(())
}

/// One file more, or another one under a name that there is.
fn lay(files: &mut Vec<File>, asked: &[File]) {
    files.retain(|file| asked.iter().all(|other| other.name != file.name));
    files.extend(asked.iter().cloned());
}

fn place(
    place: &mut BTreeMap<String, String>,
    services: &[&str],
    asked: &Asked,
    nodes: &[String],
) -> Result<(), Error> {
    let mut given: BTreeMap<usize, &str> = BTreeMap::new();
    for (stage, node) in &asked.place {
        let index = stage_index(services, stage).map_err(|error| error::of_stage("place", &error))?;
        if !nodes.contains(node) {
            return Err(Error::Usage(format!(
                "--place {stage}={node}: there is no node {node}; there are {}",
                nodes.join(", ")
            )));
        }
        if let Some(other) = given.insert(index, node).filter(|other| other != node) {
            return Err(Error::Usage(format!(
                "--place: stage {} is placed twice, on {other} and on {node}; give one node",
                index + 1
            )));
        }
    }
    // However the stage was called before.
    place.retain(|stage, _| stage_index(services, stage).is_ok_and(|index| !given.contains_key(&index)));
    place.extend(asked.place.iter().cloned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages_of(services: &[&str]) -> Vec<Stage> {
        let stage = |service: &&str| Stage {
            service: (*service).to_owned(),
            digest: format!("sha256:{service}"),
            args: Vec::new(),
        };
        services.iter().map(stage).collect()
    }

    fn pairs<T: Clone>(pairs: &[(&str, T)]) -> Vec<(String, T)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    fn makes(services: &[&str], asked: &Asked, before: Option<&Definition>) -> Result<Definition, Error> {
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        make(&services.join(" | "), stages_of(services), asked, before, &nodes)
    }

    fn placed(places: &[(&str, &str)]) -> Asked {
        Asked {
            place: places
                .iter()
                .map(|(stage, node)| ((*stage).to_owned(), (*node).to_owned()))
                .collect(),
            ..Asked::default()
        }
    }

    #[test]
    fn stages_are_named_by_number_or_service() {
        let asked = Asked {
            replicas: pairs(&[("1", 2), ("sort", 3)]),
            ..Asked::default()
        };
        let made = makes(&["cat", "sort"], &asked, None).unwrap();
        assert_eq!(made.options.replicas, BTreeMap::from([(1, 2), (2, 3)]));
        let refused = |asked: &Asked| makes(&["cat", "sort"], asked, None).unwrap_err().to_string();
        let four = Asked {
            replicas: pairs(&[("4", 2)]),
            ..Asked::default()
        };
        assert_eq!(
            refused(&four),
            "--replicas 4: the line has 2 stages, numbered from 1"
        );
        let twice = Asked {
            replicas: pairs(&[("2", 2), ("sort", 3)]),
            ..Asked::default()
        };
        assert!(refused(&twice).contains("stage 2 is given two numbers"));
        let unknown = placed(&[("1", "n9")]);
        assert_eq!(
            refused(&unknown),
            "--place 1=n9: there is no node n9; there are n1, n2"
        );
        assert!(refused(&placed(&[("1", "n1"), ("cat", "n2")])).contains("placed twice"));
    }

    #[test]
    fn what_is_not_asked_for_stays_as_it_was() {
        let asked = Asked {
            env: pairs(&[("A", b"1".to_vec()), ("B", b"2".to_vec())]),
            timeout: Some(10.0),
            pipefail: Some(true),
            ..placed(&[("cat", "n1")])
        };
        let before = makes(&["cat", "sort"], &asked, None).unwrap();
        let asked = Asked {
            env: pairs(&[("B", b"3".to_vec())]),
            pipefail: Some(false),
            ..placed(&[("1", "n2")])
        };
        let after = makes(&["cat", "sort"], &asked, Some(&before)).unwrap();
        assert_eq!(after.options.timeout, Some(10.0));
        assert!(!after.options.pipefail);
        assert_eq!(after.options.env["A"].as_slice(), b"1");
        assert_eq!(after.options.env["B"].as_slice(), b"3");
        assert_eq!(
            after.options.place,
            BTreeMap::from([("1".to_owned(), "n2".to_owned())]),
            "the stage has one node, however it was called"
        );
    }

    #[test]
    fn what_was_said_of_stages_that_a_new_line_does_not_have_is_forgotten() {
        let asked = Asked {
            replicas: pairs(&[("1", 2), ("2", 3)]),
            ..placed(&[("sort", "n1")])
        };
        let before = makes(&["cat", "sort"], &asked, None).unwrap();
        let after = makes(&["cat"], &Asked::default(), Some(&before)).unwrap();
        assert_eq!(after.options.replicas, BTreeMap::from([(1, 2)]));
        assert!(after.options.place.is_empty());
    }

    #[test]
    fn a_file_replaces_the_one_of_its_name() {
        let file = |digest: &str| File {
            digest: digest.into(),
            name: "words".into(),
            executable: false,
        };
        let asked = |digest| Asked {
            files: vec![file(digest)],
            ..Asked::default()
        };
        let before = makes(&["cat"], &asked("sha256:1"), None).unwrap();
        let after = makes(&["cat"], &asked("sha256:2"), Some(&before)).unwrap();
        assert_eq!(after.options.files, [file("sha256:2")]);
    }
}
