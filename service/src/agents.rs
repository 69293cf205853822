//! The agents' side of the service: enrolment, sync streams, presence, the live view, commands.
