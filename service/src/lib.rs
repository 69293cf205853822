//! The API side of cladnet: gRPC and REST on one TLS port, enrolment, API keys and roles, the agents' sync streams, STUN.
//! It validates with `model` and writes wishes into `store`; addresses are given by the controller, never here.

pub mod agents;
pub mod config;
pub mod connection;
mod request_id;
mod rest;
mod state;

pub use config::{CertificateFiles, Config};
pub use connection::Connection;
pub use state::{Clock, Service};
