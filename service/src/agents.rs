//! The agents' side of the service: enrolment, sync streams, presence, the live view, commands.

mod session;
#[cfg(test)]
mod testing;
mod view;
