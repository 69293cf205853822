//! Compiles the `.proto` files without `protoc` and keeps their descriptors for reflection and transcoding.

use std::{env, error::Error, fs, path::PathBuf};

const FILES: [&str; 7] = [
    "cbnet/v1/cloud_barista_network.proto",
    "cladnet/v1/admin.proto",
    "cladnet/v1/agent.proto",
    "cladnet/v1/cost.proto",
    "cladnet/v1/deployment.proto",
    "cladnet/v1/tariff.proto",
    "cladnet/v1/rule.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;
    let descriptors = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(&descriptors, compiler.encode_file_descriptor_set())?;
    // Ordered maps, so that equal messages have equal bytes: digests are taken over them.
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    // Holds a private key; its own `Debug` hides it.
    config.skip_debug(["cladnet.v1.DeploymentTarget"]);
    tonic_prost_build::configure().btree_map(".").compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}
