//! An agent that stalls in the middle of a call: given up in time, and named.

#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::process::Output;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::run::{Caller, errors};

/// An agent is asked after 3 s and given up 7 s later; where it was only read from, another is looked for, 5 s more.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(20);

/// The command at an agent that lets it in, takes its call and then does nothing; how it ended, and when.
fn ask(arguments: &[&str]) -> (Output, String, Duration) {
    let (over, is_over) = sync_channel(1);
    let agent = Agent::play(move |_| until(&is_over));
    let address = agent.address.to_string();
    let begun = Instant::now();
    let mut caller = Caller::of(&[agent.address], &[]);
    let output = caller.command(arguments).output().unwrap();
    let took = begun.elapsed();
    over.send(()).unwrap();
    agent.finish();
    (output, address, took)
}

fn until(over: &Receiver<()>) {
    // Its sender lives until the command has ended.
    let _ = over.recv();
}

#[test]
fn a_command_gives_up_an_agent_that_stalls_and_names_it() {
    let commands: [&[&str]; 5] = [
        &["logs", "w"],
        &["inspect", "w"],
        &["stop", "w"],
        &["build", "/bin/true"],
        &["ps"],
    ];
    let asking = commands.map(|arguments| std::thread::spawn(move || (arguments, ask(arguments))));
    for asked in asking {
        let (arguments, (output, address, took)) = asked.join().unwrap();
        let said = errors(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(&address), "{arguments:?}: {said}");
        assert!(took < GIVEN_UP_WITHIN, "{arguments:?} took {took:?}");
    }
}
