//! Has the assets embedded anew when they are built anew. Cargo itself builds none: `scripts/web-assets` does.

use std::path::Path;

fn main() {
    // A folder that is not there yet cannot be watched; the one around it can.
    let watched = if Path::new("dist").exists() { "dist" } else { "." };
    println!("cargo:rerun-if-changed={watched}");
}
