//! A run's record, as `--report FILE` writes it and `pipes inspect RUN` shows it.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The whole object.
    pub whole: Value,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
}

/// One stage of a run.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The service's name.
    pub service: String,
    /// The node it ran on.
    pub node: Option<String>,
    /// As a shell gives it.
    pub status: Option<i64>,
    /// The signal that ended it.
    pub signal: Option<i64>,
    /// Bytes its stdin took.
    pub bytes_in: Option<u64>,
    /// Bytes its stdout gave.
    pub bytes_out: Option<u64>,
}

impl Report {
    /// Reads the file that `--report` wrote.
    pub fn read(path: &Path) -> Result<Report> {
        let text = std::fs::read(path).with_context(|| format!("read the report {}", path.display()))?;
        Report::parse(serde_json::from_slice(&text).context("a report in JSON")?)
    }

    /// Takes a run's object apart.
    pub fn parse(whole: Value) -> Result<Report> {
        let stages = whole["stages"]
            .as_array()
            .with_context(|| format!("stages in {whole}"))?;
        let stages = stages
            .iter()
            .map(|stage| Stage {
                service: stage["service"].as_str().unwrap_or_default().to_owned(),
                node: stage["node"].as_str().map(str::to_owned),
                status: stage["status"].as_i64(),
                signal: stage["signal"].as_i64(),
                bytes_in: stage["bytes_in"].as_u64(),
                bytes_out: stage["bytes_out"].as_u64(),
            })
            .collect();
        Ok(Report { whole, stages })
    }

    /// The run's id.
    pub fn id(&self) -> &str {
        self.whole["id"].as_str().unwrap_or_default()
    }

    /// The run's state.
    pub fn state(&self) -> &str {
        self.whole["state"].as_str().unwrap_or_default()
    }

    /// Every stage's status; -1 where it is unknown.
    pub fn statuses(&self) -> Vec<i64> {
        self.stages
            .iter()
            .map(|stage| stage.status.unwrap_or(-1))
            .collect()
    }

    /// The nodes of the stages.
    pub fn nodes(&self) -> Vec<String> {
        self.stages
            .iter()
            .map(|stage| stage.node.clone().unwrap_or_default())
            .collect()
    }
}
