//! Links Intel's Multi-Buffer Crypto library where it is installed: on a CPU with AVX-512 it seals full packets in two
//! thirds of ring's time. Elsewhere the tunnel does without.

use std::path::PathBuf;

const ARCHIVE: &str = "libIPSec_MB.a";
const CALLS: &str = "src/datapath/aead/multi_buffer.c";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={CALLS}");
    println!("cargo::rustc-check-cfg=cfg(multi_buffer)");
    let target = |part: &str| std::env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    if target("ARCH") != "x86_64" || target("OS") != "linux" {
        return;
    }
    let mut compiler = cc::Build::new();
    let Some(archive) = archive(&compiler) else {
        println!(
            "cargo::warning=Intel's Multi-Buffer Crypto library is not installed, so packets are sealed by ring alone, \
             which is slower on CPUs with AVX-512; for more speed: apt install libipsec-mb-dev && \
             cargo clean -p cladnet-tunnel"
        );
        return;
    };
    compiler.file(CALLS).warnings_into_errors(true).compile("cladnet_multi_buffer");
    if let Some(folder) = archive.parent() {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    println!("cargo::rustc-link-lib=static:-bundle=IPSec_MB");
    println!("cargo::rerun-if-changed={}", archive.display());
    println!("cargo::rustc-cfg=multi_buffer");
}

/// Where the C compiler finds the library, if it does: what it does not find it answers with the bare name.
fn archive(compiler: &cc::Build) -> Option<PathBuf> {
    let mut question = compiler.try_get_compiler().ok()?.to_command();
    let answer = question.arg(format!("-print-file-name={ARCHIVE}")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim_end());
    path.is_absolute().then_some(path)
}
