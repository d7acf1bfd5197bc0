//! The cluster as this agent sees it, and its own place in it.
//!
//! | file | knows |
//! |---|---|
//! | [`membership`] | how an agent becomes a member, or finds that it is one |
//! | [`presence`] | the node's lease, by which the others see that it lives |
//! | [`present`] | which nodes' leases last, as it changes |
//! | [`nodes`] | the nodes there are, and which of them are reached |
//! | [`quorum`] | whether enough of them are reached to decide anything |
//! | [`links`] | a link of the router to every other node |
//! | [`admission`] | which nodes may connect |
//! | [`comparison`] | whether all replicas hold the same |
//! | [`credentials`] | who may speak in realm `pipes` |
//! | [`tokens`] | what a token's record says, and which of them live |

pub mod admission;
pub mod comparison;
pub mod credentials;
pub mod links;
pub mod membership;
pub mod nodes;
pub mod presence;
pub mod present;
pub mod quorum;
pub mod tokens;
