//! Jobs over HTTP: each request is one or two calls of `pipes.job.*`, on a session of its own.
//!
//! | request | file | calls |
//! |---|---|---|
//! | `POST /`, `PUT /` | `submit.rs`, `input.rs` | `submit`; with `?wait` then `get`, `result` |
//! | `GET /jobs/ID/`, `DELETE /jobs/ID/`, `GET /jobs/` | `job.rs`, `list.rs` | `get`; `get`, `cancel`; `list` |
//! | `GET /jobs/ID/result` | `result.rs`, `range.rs` | `get`, `result` |
//!
//! Always: a workflow's endpoint knows the jobs of that workflow alone: another's is one that there is not.

pub mod input;
pub mod job;
pub mod list;
pub mod range;
pub mod result;
pub mod submit;
