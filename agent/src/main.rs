//! The binary `cladnet-agent`.

fn main() -> std::process::ExitCode {
    cladnet_agent::cli::main()
}
