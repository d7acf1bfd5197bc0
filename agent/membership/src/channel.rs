//! What a TLS channel is called by both of its ends, and by nobody in between (RFC 9266, `tls-exporter`).
//!
//! Whoever relays a handshake between a client and an agent has two channels, and a signature over the one is worth
//! nothing on the other.

use rustls::ConnectionCommon;

/// RFC 9266, section 4.2: no context.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The name of a channel.
pub type Channel = [u8; 32];

/// The name of a channel whose handshake is done.
pub fn channel_of<D>(tls: &ConnectionCommon<D>) -> Result<Channel, rustls::Error> {
    tls.export_keying_material([0; 32], LABEL, None)
}
