//! A call that nobody takes up is made again at another agent.

#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use crate::agent::Agent;
use crate::run::{Caller, errors};

#[test]
fn an_agent_that_starts_or_stops_is_passed_over() {
    for reason in ["wamp.error.no_such_procedure", "wamp.error.no_available_callee"] {
        let stopping = Agent::play(|session| {
            session.chunk().unwrap();
            session.refuse(reason, vec![]);
        });
        let other = Agent::play(|session| {
            session.chunk().unwrap();
            session.stdout(b"done\n");
            session.end(0);
        });
        let output = Caller::of(&[stopping.address, other.address], &["-n", "cat"]).output();
        assert_eq!(errors(&output), "", "{reason}");
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(0), &b"done\n"[..]),
            "{reason}"
        );
        other.finish();
    }
}

#[test]
fn where_no_agent_takes_it_up_the_sentence_says_what_to_do() {
    let stopping = Agent::play(|session| {
        session.chunk().unwrap();
        session.refuse("wamp.error.no_available_callee", vec![]);
    });
    let address = stopping.address;
    let output = Caller::of(&[address], &["-n", "cat"]).output();
    assert_eq!(output.status.code(), Some(125));
    let said = errors(&output);
    assert!(
        said.contains(&address.to_string()) && !said.contains("wamp."),
        "{said}"
    );
    stopping.finish();
}
