//! How messages travel.

pub mod rawsocket;
