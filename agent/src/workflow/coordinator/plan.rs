//! What a run is to do, decided before any node is asked: its stages, their executables, what they are given.

use rmpv::Value;

use crate::workflow::coordinator::attempt::stage::Stage;
use crate::workflow::coordinator::request::Options;

/// A run's fixed part; attempts come and go.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The run's id.
    pub id: String,
    /// The line as typed.
    pub line: String,
    /// Node that coordinates.
    pub coordinator: u64,
    /// The stages in order.
    pub stages: Vec<Planned>,
    /// The caller's options.
    pub options: Options,
}

/// One stage as planned.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The service as the line names it, without a digest; also `argv[0]`.
    pub service: String,
    /// The version it runs.
    pub digest: String,
    /// Arguments after `argv[0]`.
    pub args: Vec<Vec<u8>>,
    /// Variables that the line sets before the name.
    pub env: Vec<(String, Vec<u8>)>,
}

impl Plan {
    /// What `executor.prepare` is asked at `node` by an attempt.
    pub fn prepare(&self, placed: &[Stage], node: u64, attempt: u64, ordered: bool) -> Value {
        let stages = placed
            .iter()
            .zip(&self.stages)
            .enumerate()
            .filter(|(_, (stage, _))| stage.node == node)
            .map(|(index, (_, planned))| {
                Value::Map(vec![
                    ("stage".into(), (index as u64 + 1).into()),
                    ("service".into(), planned.service.as_str().into()),
                    ("digest".into(), planned.digest.as_str().into()),
                    ("fresh".into(), self.options.fresh.into()),
                ])
            })
            .collect();
        let files = self
            .options
            .files
            .iter()
            .map(|(digest, _)| digest.as_str().into())
            .collect();
        Value::Map(vec![
            ("run".into(), self.id.as_str().into()),
            ("coordinator".into(), self.coordinator.into()),
            ("attempt".into(), attempt.into()),
            ("stages".into(), Value::Array(stages)),
            ("files".into(), Value::Array(files)),
            ("hold".into(), ordered.into()),
        ])
    }

    /// The first chunk of a stage call; `next` is the procedure of the pipe after it.
    pub fn stage(&self, index: usize, placed: &Stage, next: &str) -> Value {
        let planned = &self.stages[index];
        let args = planned
            .args
            .iter()
            .map(|arg| Value::Binary(arg.clone()))
            .collect();
        let env = self.options.env.iter().chain(&planned.env).map(|(name, value)| {
            Value::Array(vec![
                Value::Binary(name.clone().into_bytes()),
                Value::Binary(value.clone()),
            ])
        });
        let files = self.options.files.iter().filter_map(|(digest, name)| {
            let (_, path) = placed.files.iter().find(|(known, _)| known == digest)?;
            Some(Value::Array(vec![path.as_str().into(), name.as_str().into()]))
        });
        let window = placed.window.map(|bytes| ("window".into(), bytes.into()));
        let fields = vec![
            ("run".into(), self.id.as_str().into()),
            ("stage".into(), (index as u64 + 1).into()),
            ("args".into(), Value::Array(args)),
            ("env".into(), Value::Array(env.collect())),
            ("files".into(), Value::Array(files.collect())),
            ("next".into(), next.into()),
            ("attempt".into(), 1.into()),
        ];
        Value::Map(fields.into_iter().chain(window).collect())
    }

    /// `{run: ID}`.
    pub fn run_map(&self) -> Value {
        Value::Map(vec![("run".into(), self.id.as_str().into())])
    }

    /// What `executor.release` is told: all attempts up to this one are over.
    pub fn release(&self, attempt: u64) -> Value {
        Value::Map(vec![
            ("run".into(), self.id.as_str().into()),
            ("attempt".into(), attempt.into()),
        ])
    }

    /// A stage for people: `stage 2 (cat)`.
    pub fn name(&self, stage: usize) -> String {
        format!("stage {} ({})", stage + 1, self.stages[stage].service)
    }
}
