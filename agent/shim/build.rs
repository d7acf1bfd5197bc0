//! Links the shim statically, whatever else is built beside it.
//!
//! A container's entry point may not lean on a C library that the image lacks. `-C target-feature=+crt-static` would do, but
//! it cannot be given to one package of a workspace (RUSTFLAGS would rebuild everything, and break what preloads
//! into the others). rustc ends a linker line with `-Wl,-Bdynamic -lgcc_s -lc`, which finds shared libraries even
//! under `-static-pie`. So a folder that is searched first holds a `libc.so`, `libgcc_s.so`, ... that are not libraries but
//! linker scripts (as glibc's own `libc.so` is), each naming the static archive in its place.
//!
//! ```text
//! -lc      finds OUT_DIR/static/libc.so      GROUP ( -l:libc.a )
//! -lgcc_s  finds OUT_DIR/static/libgcc_s.so  GROUP ( -l:libgcc_eh.a -l:libgcc.a -l:libc.a )
//! ```
//!
//! `tests/main.rs` holds the outcome: no interpreter, nothing needed, under 2 MB when optimized.

use std::path::PathBuf;
use std::{env, fs, io};

/// What the standard library asks for on Linux with glibc, and the archives in its place.
const LIBRARIES: [(&str, &str); 7] = [
    ("c", "-l:libc.a"),
    ("m", "-l:libm.a"),
    ("dl", "-l:libdl.a"),
    ("rt", "-l:librt.a"),
    ("util", "-l:libutil.a"),
    ("pthread", "-l:libpthread.a"),
    // Unwinding, which the shared libgcc_s does; it needs the C library in turn.
    ("gcc_s", "-l:libgcc_eh.a -l:libgcc.a -l:libc.a"),
];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let is_glibc = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "gnu");
    let is_static =
        env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|features| features.contains("crt-static"));
    if !is_glibc || is_static {
        // musl, or somebody asked for it in the usual way: static already.
        return Ok(());
    }
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo gave no OUT_DIR"))?;
    let folder = PathBuf::from(out).join("static");
    fs::create_dir_all(&folder)?;
    for (name, archives) in LIBRARIES {
        fs::write(
            folder.join(format!("lib{name}.so")),
            format!("GROUP ( {archives} )\n"),
        )?;
    }
    println!("cargo::rustc-link-arg-bins=-L{}", folder.display());
    println!("cargo::rustc-link-arg-bins=-static-pie");
    Ok(())
}
