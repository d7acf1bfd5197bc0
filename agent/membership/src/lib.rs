//! Who is a node of a cluster, by its certificate.
//!
//! ```text
//! subject alternative name    URI pipes://CLUSTER_ID/NODE; never an address
//! signed by                   one of the authorities of ca.pem: a list, so that the CA can be exchanged
//! ```
//!
//! Agents look at one another so, both ways, and clients at agents before they say who they are. The path to a CA is
//! webpki's; host names mean nothing here. TLS 1.3 alone.

mod channel;
mod identity;
mod members;

pub use channel::{Channel, channel_of};
pub use identity::{Identity, identity};
pub use members::{Members, in_words, provider};
