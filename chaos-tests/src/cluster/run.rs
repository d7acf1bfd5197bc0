//! A line about to be run: its options, its input, where its stages go, and through which agent.

use anyhow::{Context, Result};

use super::Cluster;
use crate::command::{self, Finished, Input, Running};
use crate::report::Report;

/// A line about to be run.
pub struct Run<'a> {
    cluster: &'a Cluster,
    line: String,
    options: Vec<String>,
    input: Input,
    through: Option<String>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(cluster: &'a Cluster, line: &str) -> Run<'a> {
        Run {
            cluster,
            line: line.to_owned(),
            options: Vec::new(),
            input: Input::None,
            through: None,
        }
    }

    /// Adds options of `pipes run`.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options
            .extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Its stdin.
    pub fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Begins at this agent alone, which makes it the coordinator.
    pub fn through(mut self, node: usize) -> Self {
        self.through = Some(self.cluster.nodes[node].wamp());
        self
    }

    /// Puts its stages on these nodes, one after another.
    pub fn placed(self, nodes: &[&str]) -> Self {
        let places: Vec<String> = nodes
            .iter()
            .enumerate()
            .map(|(index, node)| format!("{}={node}", index + 1))
            .collect();
        places
            .iter()
            .fold(self, |run, place| run.options(&["--place", place]))
    }

    /// Starts it.
    pub fn start(self) -> Result<Running> {
        let mut arguments = vec!["run"];
        arguments.extend(self.options.iter().map(String::as_str));
        arguments.push(&self.line);
        let mut command = self.cluster.pipes(&arguments);
        if let Some(agent) = &self.through {
            command.env("PIPES_AGENT", agent);
        }
        command::start(command, self.input)
    }

    /// Runs it to its end.
    pub fn finish(self) -> Result<Finished> {
        self.start()?.finish()
    }

    /// Runs it to its end and reads its report.
    pub fn reported(self) -> Result<(Finished, Report)> {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.cluster.file(&format!("report-{number}.json"));
        let option = path.to_string_lossy().into_owned();
        let line = self.line.clone();
        let done = self.options(&["--report", &option]).finish()?;
        let report =
            Report::read(&path).with_context(|| format!("{line}: {} {}", done.code(), done.errors()))?;
        std::fs::remove_file(&path)?;
        Ok((done, report))
    }
}
