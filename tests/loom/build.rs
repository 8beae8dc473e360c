//! Sets `cfg(loom)` here and for nothing that this package depends on.

fn main() {
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
