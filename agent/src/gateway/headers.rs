//! Headers of our own, and those that every result carries.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The run's ID.
pub const PIPES_RUN: HeaderName = HeaderName::from_static("pipes-run");
/// What `pipes run` would exit with. A header where it is known before the body, else a trailer.
pub const PIPES_STATUS: HeaderName = HeaderName::from_static("pipes-status");
/// A retry with the same is the same job.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What stages wrote is whatever their users sent them: a browser takes it for no page, no script, and keeps none of it.
pub fn of_result(headers: &mut HeaderMap) {
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CONTENT_SECURITY_POLICY, "sandbox"),
        (CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
