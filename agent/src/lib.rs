//! The agent of Pipes: everything one server runs, in one process.
//!
//! Data goes from the CLI over WAMP to [`api`], through [`workflow`] and [`executor`] to the shims, and from shim to shim through
//! the router; `use` goes one way only, from the top of this list to its end:
//!
//! | part | what it does |
//! |---|---|
//! | [`agent`] | composition root: binds the sockets, starts part after part, waits, stops them in order |
//! | [`api`] | the procedures of realm `pipes`: decode, call the part, encode |
//! | [`gateway`] | HTTP of daemon workflows, as a client of those procedures |
//! | [`workflow`] | runs in the foreground, lines that stay up, and attempts of their jobs |
//! | [`service`] | executables that became services, by name |
//! | [`executor`] | the replicas of stages: started, kept warm, ended |
//! | [`blob`] | large bytes by their digest, on a majority of the voters before they are named |
//! | [`cluster`] | this node's membership and presence, the nodes there are, the links to them, who is let in |
//! | [`mesh`] | mutual TLS between agents: Raft's calls, the router's links, bulk |
//! | [`secured`] | clients' WAMP over TLS |
//! | [`follow`], [`clock`], [`retry`], [`doors`], [`listing`] | for all: a prefix of the store, followed; the clocks; rests between tries; who has come in and is not known yet; listings in pages |
//! | [`config`], [`keys`], [`lifecycle`], [`certificate`] | for all, and they use nothing: settings, keys of the store, kinds of tasks, TLS of endpoints |
//! | [`rationed`], [`log_file`], [`environment`] | lines of the log that strangers cause, the log as a file, what the agent keeps of its starter's environment |
//!
//! Below all of these, each a crate of its own: the store (`pipes_raft`), jobs (`pipes_job`) and the router (`pipes_router`).

pub mod agent;
#[cfg(test)]
mod alone;
pub mod api;
pub mod blob;
pub mod certificate;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod doors;
pub mod environment;
pub mod executor;
pub mod follow;
pub mod gateway;
pub mod keys;
pub mod lifecycle;
pub mod listing;
pub mod log_file;
pub mod mesh;
pub mod rationed;
pub mod retry;
pub mod secured;
pub mod service;
pub mod workflow;
