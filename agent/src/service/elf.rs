//! ELF binaries: whether this machine's kernel would start one. System V ABI, chapter 4, ELF header.
//!
//! ```text
//! 0  7f 'E' 'L' 'F'    4 class (2: 64 bits)   5 order (1: little)   16 type   18 machine   24 entry
//! ```
//! Not here: whether its interpreter and libraries are there; the shim says so when it starts it.

use crate::service::NotExecutable;

/// Beginning of every ELF file.
pub const MAGIC: &[u8] = b"\x7fELF";

/// Length of a 64-bit ELF header.
const HEADER_LENGTH: usize = 64;
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;

const TYPE_RELOCATABLE: u16 = 1;
const TYPE_EXECUTABLE: u16 = 2;
/// Shared object: a position-independent executable, or a library.
const TYPE_SHARED: u16 = 3;
const TYPE_CORE: u16 = 4;

const MACHINES: [(u16, &str); 7] = [
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
];

/// Whether this machine executes it.
pub fn check(head: &[u8]) -> Result<(), NotExecutable> {
    check_for(head, std::env::consts::ARCH)
}

fn check_for(head: &[u8], architecture: &str) -> Result<(), NotExecutable> {
    let refuse = |why: String| Err(NotExecutable(why));
    if head.len() < HEADER_LENGTH {
        return refuse("it is an ELF file that was cut short".into());
    }
    let half = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
    let machine = half(18);
    let name = MACHINES
        .iter()
        .find(|(number, _)| *number == machine)
        .map(|(_, name)| *name);
    let shown = name.map_or_else(|| format!("machine {machine}"), str::to_owned);
    if head[5] != LITTLE_ENDIAN {
        return refuse(format!(
            "it is a big-endian binary, but this cluster runs {architecture}"
        ));
    }
    if name != Some(architecture) {
        return refuse(format!(
            "it is a binary for {shown}, but this cluster runs {architecture}; build it for that"
        ));
    }
    if head[4] != CLASS_64 {
        return refuse("it is a 32-bit binary; build it for 64 bits".into());
    }
    match half(16) {
        TYPE_EXECUTABLE => Ok(()),
        TYPE_SHARED if head[24..32].iter().all(|byte| *byte == 0) => {
            refuse("it is a shared library, which cannot be started".into())
        }
        TYPE_SHARED => Ok(()),
        TYPE_RELOCATABLE => refuse("it is an object file; link it to an executable first".into()),
        TYPE_CORE => refuse("it is a core dump, which cannot be started".into()),
        other => refuse(format!(
            "it is an ELF file of type {other}, which cannot be started"
        )),
    }
}

/// Whether a 64-bit ELF file of this machine names an interpreter, which loads its libraries: a static one has none.
pub fn needs_interpreter(file: &[u8]) -> bool {
    const PROGRAM_HEADER_LENGTH: usize = 56;
    const PROGRAM_INTERPRETER: u32 = 3;
    if check(file).is_err() {
        return false;
    }
    let number = |at: usize, length: usize| {
        let bytes = file.get(at..at + length).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)) as usize
    };
    let (offset, count) = (number(32, 8), number(56, 2));
    (0..count).any(|index| {
        let at = offset.saturating_add(index * PROGRAM_HEADER_LENGTH);
        at < file.len() && number(at, 4) as u32 == PROGRAM_INTERPRETER
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u16, machine: u16, entry: u8) -> Vec<u8> {
        let mut head = vec![0; HEADER_LENGTH];
        head[..4].copy_from_slice(MAGIC);
        (head[4], head[5]) = (CLASS_64, LITTLE_ENDIAN);
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
