//! The shim's executable, which every replica is started with: found beside the agent's own, and checked.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use object::LittleEndian;
use object::elf::{FileHeader64, PT_INTERP, ProgramHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// The shim beside this agent's own executable. It must be static: it also runs where there are no libraries.
pub fn find() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where this agent's executable lies cannot be told")?;
    let path = own.with_file_name("pipes-shim");
    check(&path)?;
    Ok(path)
}

fn check(path: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| {
        format!(
            "no shim at {}; build the workspace's binaries with: cargo build --release --workspace --bins",
            path.display()
        )
    })?;
    if needs_interpreter(&bytes) {
        bail!(
            "the shim {} is not static; build it with: cargo rustc --release -p pipes-shim --bin pipes-shim -- -C target-feature=+crt-static",
            path.display()
        );
    }
    Ok(())
}

/// Whether a 64-bit ELF file names an interpreter, which loads its libraries: a static one has none.
fn needs_interpreter(file: &[u8]) -> bool {
    let header = FileHeader64::<LittleEndian>::parse(file);
    let programs = header.and_then(|header| header.program_headers(LittleEndian, file));
    let names_one = |program: &ProgramHeader64<_>| program.p_type(LittleEndian) == PT_INTERP;
    programs.is_ok_and(|programs| programs.iter().any(names_one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_that_is_missing_or_not_static_is_told_with_what_to_do() {
        let error = check(Path::new("/nowhere/pipes-shim")).unwrap_err();
        assert!(format!("{error:#}").contains("cargo build"));
        let own = std::env::current_exe().unwrap();
        assert!(check(&own).unwrap_err().to_string().contains("crt-static"));
    }
}
