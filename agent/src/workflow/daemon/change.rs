//! What a daemon workflow's record becomes. Pure.
//!
//! | asked | wish | definition | former ones |
//! |---|---|---|---|
//! | start | running | | |
//! | stop | stopped | | |
//! | scale | | other replicas | |
//! | update | | a new one | the one before is the newest |
//! | roll back | | the newest former one | without it |
//!
//! Always: (1) where the definition changes its revision is raised, and nowhere else; (2) at most ten former ones are kept,
//! and no more than the record has room for: the oldest go first.

use std::net::IpAddr;
use std::time::Duration;

use crate::workflow::daemon::definition;
use crate::workflow::daemon::error::Error;
use crate::workflow::daemon::record::{Definition, FORMER_MAX, Tls, Wish, Workflow};

/// Largest record in bytes: every agent holds all of them, and a request to the store takes no more than some of this
/// size. Beyond it former definitions go, and then the change is refused.
pub const RECORD_MAX: usize = 192 << 10;

/// What an update says beside the definition; `None`: as it was.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// Its own port, or none.
    pub port: Option<Option<u16>>,
    /// The address to listen at.
    pub bind: Option<IpAddr>,
    /// SHA-256 of the token.
    pub token_sha256: Option<String>,
    /// It is served over TLS.
    pub tls: Option<Tls>,
}

/// A new one, which serves.
pub fn begin(name: &str, definition: Definition, doors: Doors, created: String) -> Result<Workflow, Error> {
    fitted(Workflow {
        name: name.to_owned(),
        wish: Wish::Running,
        port: doors.port.flatten(),
        bind: doors.bind,
        revision: 1,
        definition,
        former: Vec::new(),
        token_sha256: doors.token_sha256,
        tls: doors.tls,
        grace: None,
        created,
        write: String::new(),
    })
}

/// It serves again.
pub fn start(before: &Workflow) -> Workflow {
    Workflow {
        wish: Wish::Running,
        grace: None,
        ..before.clone()
    }
}

/// It takes nothing new.
pub fn stop(before: &Workflow, grace: Duration) -> Workflow {
    Workflow {
        wish: Wish::Stopped,
        grace: Some(grace.as_secs_f64()),
        ..before.clone()
    }
}

/// Its stages keep so many replicas.
pub fn scale(before: &Workflow, replicas: &[(String, u32)]) -> Result<Workflow, Error> {
    let mut after = before.clone();
    let services = before
        .definition
        .stages
        .iter()
        .map(|stage| stage.service.as_str());
    let services: Vec<&str> = services.collect();
    definition::scale(&mut after.definition.options, &services, replicas)?;
    raise(before, &mut after);
    Ok(after)
}

/// It runs something else, or runs it otherwise.
pub fn update(before: &Workflow, definition: Definition, doors: Doors) -> Result<Workflow, Error> {
    let mut after = before.clone();
    after.port = doors.port.unwrap_or(before.port);
    after.bind = doors.bind.or(before.bind);
    after.tls = doors.tls.or_else(|| before.tls.clone());
    after.token_sha256 = doors.token_sha256.or_else(|| before.token_sha256.clone());
    if definition != before.definition {
        let definition = Definition {
            revision: before.revision + 1,
            ..definition
        };
        after
            .former
            .push(std::mem::replace(&mut after.definition, definition));
    }
    raise(before, &mut after);
    fitted(after)
}

/// It runs what it ran before its last update.
pub fn roll_back(before: &Workflow) -> Result<Workflow, Error> {
    let mut after = before.clone();
    let former = after.former.pop().ok_or_else(|| {
        Error::Usage(format!(
            "workflow {} has nothing to be rolled back to: no former definition of it is kept",
            before.name
        ))
    })?;
    after.definition = former;
    raise(before, &mut after);
    Ok(after)
}

fn raise(before: &Workflow, after: &mut Workflow) {
    if before.definition != after.definition {
        after.revision += 1;
    }
}

/// With as many former definitions as there is room for.
fn fitted(mut workflow: Workflow) -> Result<Workflow, Error> {
    while workflow.former.len() > FORMER_MAX {
        workflow.former.remove(0);
    }
    while encode(&workflow).len() > RECORD_MAX {
        if workflow.former.is_empty() {
            return Err(Error::Usage(format!(
                "its line, environment and other options have more than the {} kB that are kept of a workflow",
                RECORD_MAX >> 10
            )));
        }
        workflow.former.remove(0);
    }
    Ok(workflow)
}

/// The value of its key.
pub fn encode(workflow: &Workflow) -> Vec<u8> {
    // Texts, numbers, lists and maps with keys of text: it always has a JSON form.
    serde_json::to_vec(workflow).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(line: &str) -> Definition {
        Definition {
            revision: 1,
            line: line.to_owned(),
            stages: vec![crate::workflow::daemon::record::Stage {
                service: "cat".into(),
                digest: "sha256:ab".into(),
                args: Vec::new(),
            }],
            options: Default::default(),
        }
    }

    fn begun() -> Workflow {
        begin("w", definition("cat"), Doors::default(), "now".into()).unwrap()
    }

    fn updated(before: &Workflow, line: &str) -> Workflow {
        update(before, definition(line), Doors::default()).unwrap()
    }

    #[test]
    fn ten_former_definitions_are_kept_and_rolled_back_to_one_by_one() {
        let mut workflow = begun();
        for number in 1..=12 {
            workflow = updated(&workflow, &format!("cat {number}"));
        }
        assert_eq!((workflow.revision, workflow.former.len()), (13, 10));
        assert_eq!(workflow.former[0].line, "cat 2");
        for number in (2..=11).rev() {
            workflow = roll_back(&workflow).unwrap();
            assert_eq!(workflow.definition.line, format!("cat {number}"));
        }
        assert_eq!(workflow.revision, 23, "a revision is never given twice");
        assert!(
            roll_back(&workflow)
                .unwrap_err()
                .to_string()
                .contains("nothing to be rolled back to")
        );
    }

    #[test]
    fn an_update_that_changes_nothing_is_none() {
        let workflow = begun();
        assert_eq!(updated(&workflow, "cat"), workflow);
    }

    #[test]
    fn doors_may_change_without_a_new_revision() {
        let doors = Doors {
            port: Some(Some(7100)),
            token_sha256: Some("ab".into()),
            ..Doors::default()
        };
        let after = update(&begun(), definition("cat"), doors).unwrap();
        assert_eq!(
            (after.port, after.revision, after.former.len()),
            (Some(7100), 1, 0)
        );
        let closed = Doors {
            port: Some(None),
            ..Doors::default()
        };
        let after = update(&after, definition("cat"), closed).unwrap();
        assert_eq!((after.port, after.token_sha256.as_deref()), (None, Some("ab")));
    }

    #[test]
    fn scaling_raises_the_revision_and_keeps_no_former_definition() {
        let scaled = scale(&begun(), &[("1".to_owned(), 3)]).unwrap();
        assert_eq!((scaled.revision, scaled.former.len()), (2, 0));
        assert_eq!(scale(&scaled, &[("cat".to_owned(), 3)]).unwrap(), scaled);
        assert!(scale(&scaled, &[("2".to_owned(), 3)]).is_err());
    }

    #[test]
    fn a_stopped_one_says_how_long_its_jobs_may_take_until_it_starts_again() {
        let stopped = stop(&begun(), Duration::from_secs(5));
        assert_eq!((stopped.wish, stopped.grace), (Wish::Stopped, Some(5.0)));
        assert_eq!(start(&stopped), begun());
    }

    #[test]
    fn what_does_not_fit_goes_with_the_oldest_first_and_is_then_refused() {
        let long = |letter: &str| letter.repeat(RECORD_MAX / 3);
        let workflow = updated(&updated(&begun(), &long("a")), &long("b"));
        assert_eq!(workflow.former.len(), 2);
        let workflow = updated(&workflow, &long("c"));
        assert_eq!(workflow.former.len(), 1);
        assert_eq!(workflow.former[0].line, long("b"));
        let refused = update(&workflow, definition(&"d".repeat(RECORD_MAX)), Doors::default());
        assert!(refused.unwrap_err().to_string().contains("192 kB"));
    }
}
