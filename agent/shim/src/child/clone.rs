//! A process that shares our memory until it executes something, as `vfork`, but on a stack of its own.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::exec::{Plan, become_program};

/// Far more than a few system calls need.
const STACK: usize = 128 * 1024;

/// Where children live until they execute something; one at a time, since the parent waits.
pub struct Stack(*mut libc::c_void);

impl Stack {
    /// Memory below which an overrun is caught.
    pub fn new() -> io::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: new memory, belonging to nobody else; its lowest page is made unreachable.
        unsafe {
            let memory = libc::mmap(
                std::ptr::null_mut(),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            if memory == libc::MAP_FAILED || libc::mprotect(memory, 4096, libc::PROT_NONE) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Stack(memory))
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length; no child lives on it between starts.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

/// Makes a child that follows the plan, in the cgroup whose folder is given. Returns when it has executed or ended.
pub fn clone(stack: &mut Stack, plan: &mut Plan, group: Option<BorrowedFd<'_>>) -> io::Result<libc::pid_t> {
    if let Some(group) = group {
        match clone_into(stack, plan, group) {
            Ok(pid) => return Ok(pid),
            // An older kernel, or a filter of system calls: the child enters by itself.
            Err(_) => plan.group = Some(group.as_raw_fd()),
        }
    }
    // SAFETY: the child runs `become_program` on its own stack and returns from it never; the parent waits meanwhile, as
    // CLONE_VFORK says, so that plan and stack outlive it.
    let pid = unsafe {
        libc::clone(
            start,
            self_top(stack),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            std::ptr::from_mut(plan).cast(),
        )
    };
    if pid < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(pid)
    }
}

extern "C" fn start(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone` passes a plan and waits.
    unsafe { become_program(plan.cast()) }
}

fn self_top(stack: &Stack) -> *mut libc::c_void {
    // SAFETY: one past the end of the same memory.
    unsafe { stack.0.byte_add(STACK) }
}

/// `struct clone_args` of linux/sched.h, up to `cgroup`.
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `CLONE_INTO_CGROUP` of linux/sched.h.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn clone_into(stack: &mut Stack, plan: &mut Plan, group: BorrowedFd<'_>) -> io::Result<libc::pid_t> {
    let args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.0.addr() as u64,
        stack_size: STACK as u64,
        cgroup: group.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    let result: isize;
    // SAFETY: the C library has no wrapper of clone3. The child begins behind the system call with 0 and the new stack, calls
    // `become_program` and never comes back; the parent waits until then (CLONE_VFORK) and goes on with the result.
    // Both hold the plan and the function in registers that the kernel keeps.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") plan,
            in("r13") become_program as unsafe extern "C" fn(*mut Plan) -> libc::c_int,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &args => result,
            in("x1") size_of::<CloneArgs>(),
            in("x20") plan,
            in("x21") become_program as unsafe extern "C" fn(*mut Plan) -> libc::c_int,
        );
    }
    if result < 0 {
        Err(io::Error::from_raw_os_error(-result as i32))
    } else {
        Ok(result as libc::pid_t)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn clone_into(_: &mut Stack, _: &mut Plan, _: BorrowedFd<'_>) -> io::Result<libc::pid_t> {
    let _ = (CLONE_INTO_CGROUP, CloneArgs::default());
    Err(io::ErrorKind::Unsupported.into())
}
