//! Sandboxes for real: every test makes one in the kernel, and needs root. Nothing here is skipped: without root it fails.

mod command_line;
mod faults;
mod guest;
mod init;
mod lifecycle;
mod metadata;
mod network;
mod ssh;
mod support;
mod wan;
