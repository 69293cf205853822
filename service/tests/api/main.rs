//! The service as its callers meet it: a replica on an embedded store, free ports, TLS, and clients that are not ours
//! (plain HTTP) beside tonic's.

mod cast;
mod cbnet;
mod connectivity;
mod costs;
mod credentials;
mod deployments;
mod front;
mod harness;
mod installation;
mod listener;
mod networks;
mod peers;
mod rules;
mod session;
mod streams;
mod tariffs;
