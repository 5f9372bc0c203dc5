//! Puts the compiled XDP program where the daemon embeds it.
//!
//! `REDIRECTOR_BPF_OBJECT` names the object; `cargo xtask build` sets it. The copy is
//! `$OUT_DIR/redirector.bpf.o`. Without the variable the copy is empty, so that plain `cargo check` needs no
//! BPF toolchain; the daemon then says that it was built without an XDP program.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=REDIRECTOR_BPF_OBJECT");
    println!("cargo::rerun-if-changed=build.rs");
    let out =
        env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("OUT_DIR is not set: run through cargo"))?;
    let embedded = Path::new(&out).join("redirector.bpf.o");
    let Some(object) = env::var_os("REDIRECTOR_BPF_OBJECT").filter(|path| !path.is_empty()) else {
        return fs::write(embedded, []);
    };
    let object = Path::new(&object);
    println!("cargo::rerun-if-changed={}", object.display());
    fs::copy(object, embedded).map(drop).map_err(|err| {
        io::Error::new(
            err.kind(),
            format!(
                "REDIRECTOR_BPF_OBJECT={}: {err}; run `cargo xtask build`, or unset the variable to build without XDP",
                object.display()
            ),
        )
    })
}
