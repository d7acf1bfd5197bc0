//! The agent of Pipes: everything one server runs, in one process.
//!
//! Data goes from the CLI over WAMP to [`api`], through [`workflow`] and [`executor`] to the shims, and from shim to shim through
//! the router; `use` goes one way only, from the top of this list to its end:
//!
//! | part | what it does |
//! |---|---|
//! | [`agent`] | composition root: starts part after part, waits, stops them in order |
//! | `api` | the procedures of realm `pipes`: decode, call the part, encode |
//! | `workflow`, [`service`] | runs in the foreground; executables that became services |
//! | `executor` | starts the replicas of stages, keeps them warm, ends them |
//! | [`blob`] | large bytes by their digest, on a majority of the voters before they are named |
//! | [`mesh`] | mutual TLS between agents: Raft's calls, the router's links, bulk |
//! | [`presence`], [`membership`], [`credentials`], [`links`] | a node's lease; how it becomes a member; who is let in; the router's links |
//! | [`node`], [`follow`], [`retry`] | the nodes there are; a prefix of the store, followed; rests between tries |
//! | [`listen`], [`leftover`] | sockets bound before anything starts; processes of a former life |
//! | [`config`], [`keys`], [`lifecycle`] | used by all, use nothing: settings, keys of the store, kinds of tasks |
//!
//! Below all of these, each a crate of its own: the store (`pipes_raft`) and the router (`pipes_router`).

pub mod agent;
pub mod api;
pub mod blob;
pub mod config;
pub mod credentials;
pub mod executor;
pub mod follow;
pub mod keys;
pub mod leftover;
pub mod lifecycle;
pub mod links;
pub mod listen;
pub mod membership;
pub mod mesh;
pub mod node;
pub mod presence;
pub mod retry;
pub mod service;
pub mod workflow;
