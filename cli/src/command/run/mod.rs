//! `pipes run "a x | b | c"`

pub mod daemon;
pub mod files;
mod killed;
pub mod line;
pub mod options;
mod report;
pub mod served;
mod stdio;

use std::io::IsTerminal;
use std::path::PathBuf;

use rmpv::Value;

use crate::client::{self, Client};
use crate::command::build;
use crate::context::Contexts;
use crate::error::Error;
use crate::exit::{self, Outcome};
use crate::object::{self, Run};
use crate::output;
use crate::output::run_progress::RunProgress;
use report::Report;
use stdio::{Ended, Input, Request, Signals};

/// Runs a workflow as a shell would, over the cluster
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exits as the last stage does: 128+n after signal n, 127 for an unknown service, 126 when a stage cannot be started, 125 when Pipes itself failed, 124 when --timeout ran out."
)]
pub struct Arguments {
    /// The workflow as one argument: "service args | service args"
    #[arg(value_name = "LINE")]
    line: Vec<String>,
    /// One stage instead, its arguments exactly as given: -- NAME ARG...
    #[arg(last = true, value_name = "NAME ARG")]
    stage: Vec<String>,
    /// The line from a file: # begins a comment, a newline may follow |
    #[arg(short, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Reads stdin even from a terminal
    #[arg(short, conflicts_with = "no_input")]
    input: bool,
    /// Gives no stdin
    #[arg(short)]
    no_input: bool,
    /// Keeps the workflow up behind HTTP and prints its name
    #[arg(short)]
    detach: bool,
    /// What to call it, with -d; otherwise after its first service
    #[arg(long, value_name = "W")]
    name: Option<String>,
    #[command(flatten)]
    common: options::Common,
    /// Uses no warm replica
    #[arg(long)]
    fresh: bool,
    /// Once more from the beginning when a server was lost and stdin was not read
    #[arg(long)]
    retry: bool,
    /// Writes what became of the run into a file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Shows no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    served: served::Served,
}

impl Arguments {
    /// The first of those given that only a run in the foreground has.
    fn of_a_run(&self) -> Option<&'static str> {
        let given = [
            ("-i", self.input),
            ("-n", self.no_input),
            ("--fresh", self.fresh),
            ("--retry", self.retry),
            ("--report", self.report.is_some()),
            ("-q", self.quiet),
        ];
        given
            .into_iter()
            .find(|(_, is_given)| *is_given)
            .map(|(name, _)| name)
    }

    /// The first of those given that only a workflow that stays up has.
    fn of_a_daemon(&self) -> Option<String> {
        let name = self.name.as_ref().map(|_| "--name".to_owned());
        name.or_else(|| self.served.first())
    }

    /// What travels with the request, all but the files.
    fn options(&self) -> Result<Vec<(Value, Value)>, Error> {
        let own = [("fresh", self.fresh), ("retry", self.retry)];
        let own = own.into_iter().filter(|(_, is_set)| *is_set);
        let own = own.map(|(name, _)| (name, true.into()));
        let all = self.common.options()?.into_iter().chain(own);
        Ok(all.map(|(name, value)| (name.into(), value)).collect())
    }
}

pub fn run(mut arguments: Arguments) -> Outcome {
    if arguments.from.is_none() && arguments.stage.is_empty() {
        arguments.served.give_back_line(&mut arguments.line);
    }
    if !arguments.stage.is_empty() {
        if arguments.from.is_some() || !arguments.line.is_empty() {
            output::error::say("what follows -- is the whole line: give no other beside it");
            return Outcome::Status(exit::RUN_FAILED);
        }
        arguments.line = vec![line::of_words(&arguments.stage)];
    }
    if arguments.detach {
        return daemon::run(&arguments);
    }
    let prepared = arguments.report.as_deref().map(Report::prepare).transpose();
    let given = line::given(arguments.from.as_deref(), &arguments.line);
    let shown = given.as_deref().unwrap_or_default().to_owned();
    let report = match prepared {
        Ok(report) => report,
        Err(error) => return failed(&error, None, &shown),
    };
    match given.and_then(|shown| carried(&arguments, &shown)) {
        Ok(ended) => end(ended, report, &shown),
        Err(error) => failed(&error, report, &shown),
    }
}

/// Carries the run to its end, where it begins at all.
fn carried(arguments: &Arguments, shown: &str) -> Result<Ended, Error> {
    if let Some(option) = arguments.of_a_daemon() {
        return Err(Error::Usage(format!(
            "{option} is of a workflow that stays up: give -d as well, or leave it out"
        )));
    }
    let line = line::read(arguments.from.as_deref(), shown)?;
    let options = arguments.options()?;
    let reads_stdin = !arguments.no_input && (arguments.input || !std::io::stdin().is_terminal());
    client::block_on(carry(arguments, Request::new(line, options), reads_stdin))
}

/// There was no run, or its end is not known here: said, and reported.
fn failed(error: &Error, report: Option<Report>, shown: &str) -> Outcome {
    output::error::show_for_line(error, shown);
    let outcome = exit::of_run_error(error);
    let Outcome::Status(status) = outcome else {
        return outcome;
    };
    let run = Run {
        line: Some(shown.to_owned()).filter(|line| !line.is_empty()),
        state: Some("failed".into()),
        status: Some(status.into()),
        reason: Some(error.to_string()),
        ..Run::default()
    };
    if let Some(Err(error)) = report.map(|report| report.write(&run)) {
        output::error::show(&error);
    }
    outcome
}

async fn carry(arguments: &Arguments, mut request: Request, reads_stdin: bool) -> Result<Ended, Error> {
    let mut client = Client::connect(&Contexts::open()?.target()?).await?;
    if arguments.common.build {
        build::build_changed(&mut client, &line::services(&request.line)).await?;
    }
    let files = files::send(&mut client, &arguments.common.file).await?;
    request.options.extend(files.map(|files| ("file".into(), files)));
    let reads_terminal = reads_stdin && std::io::stdin().is_terminal();
    // Caught from here on: one that comes between two agents ends the run before it begins.
    let mut signals = Signals::catch()?;
    loop {
        let input = if reads_stdin {
            Input::stdin()
        } else {
            Input::none()
        };
        let progress = RunProgress::new(arguments.quiet, reads_terminal);
        let elsewhere = client.elsewhere();
        let ended = stdio::carry(client, request.clone(), input, progress, &mut signals).await?;
        match ended.run {
            // Nothing was run, and stdin was not read.
            Err(error) if client::was_not_taken_up(&error) && !ended.was_signalled => {
                client = tokio::select! {
                    joined = elsewhere.join(error) => joined?,
                    signal = signals.number() => return Ok(Ended::given_up(signal)),
                };
            }
            _ => return Ok(ended),
        }
    }
}

/// Reports, says what there is to say, and decides how the process ends.
fn end(ended: Ended, report: Option<Report>, shown: &str) -> Outcome {
    let run = match ended.run {
        Ok(run) => run,
        Err(error) => {
            let outcome = failed(&error, report, shown);
            return ended.dies_of.map_or(outcome, Outcome::Signal);
        }
    };
    let (exit, message) = (
        field(&run, "exit").and_then(Value::as_i64),
        field(&run, "message"),
    );
    let message = message.and_then(Value::as_str).map(str::to_owned);
    if message.is_none() && !ended.was_signalled {
        killed::notes(&run)
            .iter()
            .for_each(|note| output::error::note(note));
    }
    if let Some(message) = &message {
        output::error::say(message);
    }
    let status = exit.or_else(|| field(&run, "status").and_then(Value::as_i64));
    let reported = report.map(|report| match run {
        Value::Nil => report.write(&given_up(shown)),
        run => object::parse(run).and_then(|run| report.write(&run)),
    });
    if let Some(Err(error)) = reported {
        return failed(&error, None, shown);
    }
    // As a shell does: a program that caught the signal and ended by itself was not interrupted. A run that was given up
    // has no status.
    let was_interrupted = status.is_none_or(|status| status > 128);
    if let Some(signal) = ended.dies_of.filter(|_| was_interrupted) {
        return Outcome::Signal(signal);
    }
    if message.is_none() && is_of_pipe(status, ended.is_reader_gone, ended.has_lost_output) {
        return Outcome::Signal(libc::SIGPIPE);
    }
    Outcome::of_run(
        status
            .and_then(|status| i32::try_from(status).ok())
            .unwrap_or(i32::from(exit::RUN_FAILED)),
    )
}

/// A run that its user waited for no longer: nothing more is known of it here.
fn given_up(shown: &str) -> Run {
    Run {
        line: Some(shown.to_owned()),
        reason: Some("it was given up before it had ended; what became of it is in: pipes ps -a".into()),
        ..Run::default()
    }
}

/// Whether the run ended for want of a reader: its last stage died of SIGPIPE, or would have, had the news come to it before
/// it had written. Who wrote nothing more, or took it otherwise, ends as in a shell: by its own status.
fn is_of_pipe(status: Option<i64>, is_reader_gone: bool, has_lost_output: bool) -> bool {
    match status {
        Some(0) => has_lost_output,
        Some(status) => is_reader_gone && status == i64::from(128 + libc::SIGPIPE),
        None => false,
    }
}

fn field<'a>(run: &'a Value, name: &str) -> Option<&'a Value> {
    run.as_map()?
        .iter()
        .find(|(key, _)| key.as_str() == Some(name))
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit: i64, message: Option<&str>) -> Ended {
        let run = vec![
            ("exit".into(), exit.into()),
            ("message".into(), message.map_or(Value::Nil, Value::from)),
        ];
        Ended {
            run: Ok(Value::Map(run)),
            dies_of: None,
            is_reader_gone: false,
            has_lost_output: false,
            was_signalled: false,
        }
    }

    #[test]
    fn the_process_ends_as_the_run_did() {
        assert_eq!(end(ended(3, None), None, ""), Outcome::Status(3));
        assert_eq!(end(ended(141, None), None, ""), Outcome::Status(141));
        assert_eq!(
            end(ended(125, Some("server n2 was lost")), None, ""),
            Outcome::Status(125)
        );
    }

    #[test]
    fn after_its_own_ctrl_c_or_without_a_reader_it_dies_of_the_signal() {
        let interrupted = Ended {
            dies_of: Some(libc::SIGINT),
            ..ended(130, None)
        };
        assert_eq!(end(interrupted, None, ""), Outcome::Signal(libc::SIGINT));
        let given_up = Ended {
            run: Ok(Value::Nil),
            dies_of: Some(libc::SIGTERM),
            ..ended(0, None)
        };
        assert_eq!(end(given_up, None, ""), Outcome::Signal(libc::SIGTERM));
        let gone = |status| Ended {
            is_reader_gone: true,
            ..ended(status, None)
        };
        assert_eq!(end(gone(141), None, ""), Outcome::Signal(libc::SIGPIPE));
        // A failure of Pipes itself is not hidden behind a reader that had enough.
        let lost = Ended {
            has_lost_output: true,
            is_reader_gone: true,
            ..ended(125, Some("server n2 was lost"))
        };
        assert_eq!(end(lost, None, ""), Outcome::Status(125));
    }

    #[test]
    fn who_writes_nothing_more_is_not_ended_by_a_reader_that_went() {
        for (status, has_lost, outcome) in [
            (0, false, Outcome::Status(0)),
            (3, false, Outcome::Status(3)),
            (3, true, Outcome::Status(3)),
            (0, true, Outcome::Signal(libc::SIGPIPE)),
            (141, true, Outcome::Signal(libc::SIGPIPE)),
        ] {
            let gone = Ended {
                is_reader_gone: true,
                has_lost_output: has_lost,
                ..ended(status, None)
            };
            assert_eq!(end(gone, None, ""), outcome, "{status} {has_lost}");
        }
    }

    #[test]
    fn a_run_that_caught_the_ctrl_c_ends_as_its_record_says() {
        for (status, message) in [(0, None), (3, None), (125, Some("server n2 was lost"))] {
            let caught = Ended {
                dies_of: Some(libc::SIGINT),
                ..ended(status.into(), message)
            };
            assert_eq!(end(caught, None, ""), Outcome::Status(status));
        }
    }
}
