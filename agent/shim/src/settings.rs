//! What the executor tells a shim, in its environment.

use std::ffi::{CStr, OsString, c_char};
use std::path::PathBuf;

use anyhow::{Context, bail};
use pipes_flow as flow;

/// Invocations at once, whatever the executor says: each costs three pipes and a window.
const SLOTS_MAX: usize = 1024;

/// The settings of one replica.
pub struct Settings {
    /// The agent's socket for stages.
    pub socket: PathBuf,
    /// This replica's id: its name at the router.
    pub replica: String,
    /// What it proves that name with.
    pub token: Token,
    /// CLUSTER_ID/NODE_ID, for the stages.
    pub node: String,
    /// The node's number, for the names of the procedures.
    pub node_number: u64,
    /// The service's name: `argv[0]` of the stages.
    pub service: String,
    /// The service's executable.
    pub executable: PathBuf,
    /// Where folders for invocations are made.
    pub scratch: PathBuf,
    /// Invocations at once.
    pub slots: usize,
    /// Bytes that the window of a pipe may grow to.
    pub window: usize,
    /// The replica's cgroup (version 2), where it has one.
    pub cgroup: Option<PathBuf>,
    /// PATH for the stages.
    pub path: OsString,
}

impl Settings {
    /// Reads the settings, and wipes the token from the environment.
    pub fn take() -> anyhow::Result<Settings> {
        let token = Token(text("PIPES_TOKEN")?);
        wipe(c"PIPES_TOKEN");
        let service = text("PIPES_SERVICE")?;
        if service.is_empty() || service.contains('/') {
            bail!("PIPES_SERVICE is no service's name: {service:?}");
        }
        let executable = PathBuf::from(value("PIPES_EXECUTABLE")?);
        if !executable.is_absolute() {
            bail!("PIPES_EXECUTABLE must be an absolute path, since stages start in folders of their own");
        }
        Ok(Settings {
            socket: value("PIPES_SOCKET")?.into(),
            replica: text("PIPES_REPLICA")?,
            token,
            node: text("PIPES_NODE")?,
            node_number: number("PIPES_NODE_NUMBER")?,
            service,
            executable,
            scratch: value("PIPES_SCRATCH")?.into(),
            slots: (number("PIPES_SLOTS")? as usize).clamp(1, SLOTS_MAX),
            window: (number("PIPES_WINDOW")? as usize).clamp(flow::WINDOW_FIRST, flow::WINDOW_MAX),
            cgroup: std::env::var_os("PIPES_CGROUP")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from),
            path: value("PATH")?,
        })
    }
}

/// A secret, overwritten when it is dropped.
pub struct Token(String);

impl Token {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        // SAFETY: zeros are valid UTF-8.
        overwrite(unsafe { self.0.as_bytes_mut() });
    }
}

fn value(name: &str) -> anyhow::Result<OsString> {
    std::env::var_os(name).with_context(|| format!("{name} is not set: a shim is started by an agent"))
}

fn text(name: &str) -> anyhow::Result<String> {
    value(name)?
        .into_string()
        .map_err(|_| anyhow::anyhow!("{name} is not text"))
}

fn number(name: &str) -> anyhow::Result<u64> {
    let text = text(name)?;
    text.parse()
        .with_context(|| format!("{name} is no number: {text:?}"))
}

/// Zeros that the compiler may not leave out.
fn overwrite(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: a valid reference is a valid place to write to.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
}

/// Overwrites a variable's value where the kernel put it: /proc/PID/environ shows that memory.
fn wipe(name: &CStr) {
    unsafe extern "C" {
        fn getenv(name: *const c_char) -> *mut c_char;
    }
    // SAFETY: `main` runs alone, before any thread or child; the value is a C string in memory that is ours to write.
    unsafe {
        let value = getenv(name.as_ptr());
        if !value.is_null() {
            let length = CStr::from_ptr(value).to_bytes().len();
            overwrite(std::slice::from_raw_parts_mut(value.cast(), length));
        }
    }
}
