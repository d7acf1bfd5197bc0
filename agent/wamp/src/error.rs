//! What can be wrong with what a peer sent, and the URIs that errors travel under.

/// What a peer did wrong. Unless a variant says otherwise the connection ends; none is worth a retry on it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not MessagePack, or not of the shape the specification gives.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// More than the limit, told before anything was allocated.
    #[error("a message of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Arguments that are not what was expected; the connection goes on.
    #[error("arguments: {0}")]
    Arguments(String),
    /// The RawSocket handshake failed.
    #[error("RawSocket handshake: {0}")]
    Handshake(String),
    /// The router refused the session.
    #[error("the router refused the session: {reason}: {message}")]
    Refused {
        /// Error URI of the ABORT.
        reason: String,
        /// Its sentence, if it had one.
        message: String,
    },
    /// The connection ended in the middle of something.
    #[error("the connection ended")]
    Closed,
    /// The socket's own error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Why an agent did not do what another asked of it, for people and with that agent as the subject; a URI that says
/// nothing of this kind stays as it is.
pub fn to_people(uri: &str) -> &str {
    match uri {
        uri::NETWORK_FAILURE => "it cannot be reached",
        uri::NO_SUCH_PROCEDURE | uri::NO_AVAILABLE_CALLEE => "it is starting or stopping",
        uri::CANCELED => "it gave the call up",
        uri::TIMEOUT => "it did not answer in time",
        other => other,
    }
}

/// Error URIs of the specification.
pub mod uri {
    /// The peer broke the protocol.
    pub const PROTOCOL_VIOLATION: &str = "wamp.error.protocol_violation";
    /// No such realm, or not over this transport.
    pub const NO_SUCH_REALM: &str = "wamp.error.no_such_realm";
    /// No method of authentication that both know.
    pub const NO_MATCHING_AUTH_METHOD: &str = "wamp.error.no_matching_auth_method";
    /// The proof of identity was not accepted.
    pub const AUTHENTICATION_FAILED: &str = "wamp.error.authentication_failed";
    /// Not allowed to this session.
    pub const NOT_AUTHORIZED: &str = "wamp.error.not_authorized";
    /// Not a valid URI for this.
    pub const INVALID_URI: &str = "wamp.error.invalid_uri";
    /// Nobody registered it.
    pub const NO_SUCH_PROCEDURE: &str = "wamp.error.no_such_procedure";
    /// Registered, but nobody can take the call now.
    pub const NO_AVAILABLE_CALLEE: &str = "wamp.error.no_available_callee";
    /// Registered already.
    pub const PROCEDURE_ALREADY_EXISTS: &str = "wamp.error.procedure_already_exists";
    /// No registration of this id in this session.
    pub const NO_SUCH_REGISTRATION: &str = "wamp.error.no_such_registration";
    /// The call was cancelled, or its callee left.
    pub const CANCELED: &str = "wamp.error.canceled";
    /// The call's time ran out.
    pub const TIMEOUT: &str = "wamp.error.timeout";
    /// The callee lacks a feature that the call needs.
    pub const FEATURE_NOT_SUPPORTED: &str = "wamp.error.feature_not_supported";
    /// A message is larger than its receiver takes.
    pub const PAYLOAD_SIZE_EXCEEDED: &str = "wamp.error.payload_size_exceeded";
    /// An option that the router's policy refuses.
    pub const DISCLOSE_ME: &str = "wamp.error.option_disallowed.disclose_me";
    /// The link to the callee's router was lost in the middle of the call.
    pub const NETWORK_FAILURE: &str = "wamp.error.network_failure";
    /// Answer to GOODBYE.
    pub const GOODBYE_AND_OUT: &str = "wamp.close.goodbye_and_out";
    /// A session leaves its realm.
    pub const CLOSE_REALM: &str = "wamp.close.close_realm";
    /// The router is going down.
    pub const SYSTEM_SHUTDOWN: &str = "wamp.close.system_shutdown";
    /// Arguments that the procedure cannot work with.
    pub const INVALID_ARGUMENT: &str = "wamp.error.invalid_argument";
    /// A session was ended by the router.
    pub const KILLED: &str = "wamp.close.killed";
    /// Too many sessions, or too much waits already.
    pub const BUSY: &str = "wamp.error.unavailable";
}
