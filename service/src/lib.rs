//! The API side of cladnet: gRPC and REST on one TLS port, enrolment, API keys and roles, the agents' sync streams, STUN.
//! It validates with `model` and writes wishes into `store`; addresses are given by the controller, never here.

mod access;
mod admin;
mod advice;
mod agents;
mod auth;
mod bootstrap;
mod cbnet;
pub mod config;
pub mod connection;
mod connectivity;
mod control;
mod costs;
mod credentials;
mod deployments;
mod docs;
mod envelope;
mod error;
mod events;
mod grpc;
mod health;
mod hosts;
mod in_process;
mod listener;
mod locations;
mod networks;
mod openapi;
mod page;
mod paths;
mod peers;
mod plain;
#[cfg(test)]
mod races;
mod rate;
mod request_id;
mod rest;
mod router;
mod rules;
mod server;
mod shares;
mod state;
mod stun;
mod tariffs;
mod tls;
mod web;

pub use bootstrap::BootstrapError;
pub use config::{CertificateFiles, Config};
pub use connection::Connection;
pub use server::{Ports, Server, StartError, run};
pub use state::{Clock, Service};
pub use tls::{TlsError, local_addresses};
pub use web::front;
