//! ELF binaries: whether this machine's kernel would start one. System V ABI, chapter 4, ELF header.
//!
//! ```text
//! 0  7f 'E' 'L' 'F'    4 class (2: 64 bits)   5 order (1: little)   16 type   18 machine   24 entry
//! ```
//! Not here: whether its interpreter and libraries are there; the shim says so when it starts it.

use object::LittleEndian;
use object::elf::{self, FileHeader64, Machine};

use crate::service::kind::NotExecutable;

/// Beginning of every ELF file.
pub(super) const MAGIC: &[u8] = &elf::ELFMAG;

/// Machines by their names in Rust's targets, for sentences.
const MACHINES: [(Machine, &str); 7] = [
    (elf::EM_386, "x86"),
    (elf::EM_MIPS, "mips"),
    (elf::EM_PPC, "powerpc"),
    (elf::EM_ARM, "arm"),
    (elf::EM_X86_64, "x86_64"),
    (elf::EM_AARCH64, "aarch64"),
    (elf::EM_RISCV, "riscv64"),
];

/// Whether this machine executes it.
pub(super) fn check(head: &[u8]) -> Result<(), NotExecutable> {
    check_for(head, std::env::consts::ARCH)
}

fn check_for(head: &[u8], architecture: &str) -> Result<(), NotExecutable> {
    let refuse = |why: String| Err(NotExecutable(why));
    let Ok((header, _)) = object::from_bytes::<FileHeader64<LittleEndian>>(head) else {
        return refuse("it is an ELF file that was cut short".into());
    };
    if header.e_ident.data != elf::ELFDATA2LSB {
        return refuse(format!(
            "it is a big-endian binary, but this cluster runs {architecture}"
        ));
    }
    let machine = header.e_machine.get(LittleEndian);
    let name = MACHINES
        .iter()
        .find(|(number, _)| *number == machine)
        .map(|(_, name)| *name);
    if name != Some(architecture) {
        let shown = name.map_or_else(|| format!("machine {}", machine.0), str::to_owned);
        return refuse(format!(
            "it is a binary for {shown}, but this cluster runs {architecture}; build it for that"
        ));
    }
    if header.e_ident.class != elf::ELFCLASS64 {
        return refuse("it is a 32-bit binary; build it for 64 bits".into());
    }
    match header.e_type.get(LittleEndian) {
        elf::ET_EXEC => Ok(()),
        elf::ET_DYN if header.e_entry.get(LittleEndian) == 0 => {
            refuse("it is a shared library, which cannot be started".into())
        }
        elf::ET_DYN => Ok(()),
        elf::ET_REL => refuse("it is an object file; link it to an executable first".into()),
        elf::ET_CORE => refuse("it is a core dump, which cannot be started".into()),
        other => refuse(format!(
            "it is an ELF file of type {}, which cannot be started",
            other.0
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u16, machine: u16, entry: u8) -> Vec<u8> {
        let mut head = vec![0; size_of::<FileHeader64<LittleEndian>>()];
        head[..4].copy_from_slice(MAGIC);
        (head[4], head[5]) = (elf::ELFCLASS64.0, elf::ELFDATA2LSB.0);
        head[16..18].copy_from_slice(&kind.to_le_bytes());
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head[24] = entry;
        head
    }

    #[test]
    fn executables_of_this_machine_are_taken() {
        assert_eq!(check_for(&header(2, 62, 1), "x86_64"), Ok(()));
        assert_eq!(
            check_for(&header(3, 62, 1), "x86_64"),
            Ok(()),
            "position-independent"
        );
        assert_eq!(check_for(&header(2, 183, 1), "aarch64"), Ok(()));
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(check(&own[..256]), Ok(()));
    }

    #[test]
    fn everything_else_is_refused_by_its_name() {
        let why = |head: &[u8]| check_for(head, "x86_64").unwrap_err().to_string();
        assert_eq!(
            why(&header(2, 183, 1)),
            "it is a binary for aarch64, but this cluster runs x86_64; build it for that"
        );
        assert!(why(&header(2, 999, 1)).contains("machine 999"));
        assert!(why(&header(1, 62, 0)).contains("object file"));
        assert!(why(&header(4, 62, 0)).contains("core dump"));
        assert!(why(&header(3, 62, 0)).contains("shared library"));
        assert!(why(&header(9, 62, 1)).contains("type 9"));
        assert!(why(&header(2, 62, 1)[..63]).contains("cut short"));
        let mut narrow = header(2, 62, 1);
        narrow[4] = 1;
        assert!(why(&narrow).contains("32-bit"));
        let mut big = header(2, 62, 1);
        big[5] = 2;
        assert!(why(&big).contains("big-endian"));
    }
}
