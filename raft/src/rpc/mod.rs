//! What nodes say to one another: the messages, and the seam to the mesh that carries their bytes.

mod message;
mod transport;

pub(crate) use message::{
    Beside, ClientRequest, ClientResponse, Outcome, Piece, Request, Response, decode, encode,
};
pub use transport::{Class, Peer, Transport, TransportError};
