//! Links Intel's Multi-Buffer Crypto library where it is installed: it seals full packets in two thirds of ring's time
//! on CPUs that have AVX-512 with IFMA. Elsewhere the tunnel does without.

use std::path::PathBuf;

const ARCHIVE: &str = "libIPSec_MB.a";
const CALLS: &str = "src/datapath/aead/multi_buffer.c";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={CALLS}");
    println!("cargo::rustc-check-cfg=cfg(multi_buffer)");
    let target = ["ARCH", "OS", "ENV"].map(|part| std::env::var(format!("CARGO_CFG_TARGET_{part}")));
    let is_served = target.each_ref().map(|part| part.as_deref().unwrap_or_default()) == ["x86_64", "linux", "gnu"];
    if !is_served || std::env::var_os("CARGO_FEATURE_NULL_AEAD").is_some() {
        return;
    }
    if let Err(obstacle) = link() {
        println!(
            "cargo::warning=packets will be sealed by ring alone, which is slower on many CPUs, because {obstacle}; \
             install libipsec-mb-dev and build again after `cargo clean`"
        );
    }
}

/// Compiles what calls the library, and has both linked; or says what is missing.
fn link() -> Result<(), String> {
    let mut compiler = cc::Build::new();
    let archive = archive(&compiler)?;
    compiler.file(CALLS).cargo_warnings(false);
    compiler.try_compile("cladnet_multi_buffer").map_err(|error| format!("{CALLS} does not compile ({error})"))?;
    if let Some(folder) = archive.parent() {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    println!("cargo::rustc-link-lib=static:-bundle=IPSec_MB");
    println!("cargo::rerun-if-changed={}", archive.display());
    println!("cargo::rustc-cfg=multi_buffer");
    Ok(())
}

/// Where the C compiler finds the library: what it does not find it answers with the bare name.
fn archive(compiler: &cc::Build) -> Result<PathBuf, String> {
    let compiler = compiler.try_get_compiler().map_err(|error| format!("there is no C compiler ({error})"))?;
    let asked = compiler.to_command().arg(format!("-print-file-name={ARCHIVE}")).output();
    let answer = asked.map_err(|error| format!("the C compiler does not run ({error})"))?.stdout;
    let path = PathBuf::from(String::from_utf8_lossy(&answer).trim_end());
    path.is_absolute().then_some(path).ok_or_else(|| format!("the C compiler does not find {ARCHIVE}"))
}
