//! Wall clocks of agents that can be stepped, one apart from the other; their monotonic clocks go on.
//!
//! `pipes` starts the agent that lies beside it. In a folder with a copy of `pipes`, a script of the agent's name starts
//! the real one under libfaketime, which reads the node's own file every second:
//!
//! ```text
//! b/pipes             a copy                       b/pipes-agent   #!/bin/sh ... exec /real/pipes-agent "$@"
//! NODE/clock          +3600                        an hour ahead of this machine
//! ```

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where Debian has the library, by architecture.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];
/// In a node's folder: its distance from this machine's clock.
const FILE: &str = "clock";

/// The clocks of a cluster's agents.
pub struct Clocks {
    folder: PathBuf,
}

impl Clocks {
    /// Of agents out of `binaries`; `folder` is made.
    pub fn new(binaries: &Path, folder: &Path) -> Result<Clocks> {
        let library = LIBRARIES.iter().find(|path| Path::new(path).is_file());
        let library = library.context("libfaketime is not installed: scripts/tools chaos installs it")?;
        std::fs::create_dir(folder)?;
        std::fs::copy(binaries.join("pipes"), folder.join("pipes"))?;
        let agent = binaries.join("pipes-agent").canonicalize()?;
        let script = format!(
            "#!/bin/sh\n\
             # pipes-agent --config NODE/agent.toml\n\
             export FAKETIME_TIMESTAMP_FILE=\"${{2%/*}}/{FILE}\" FAKETIME_CACHE_DURATION=1 NO_FAKE_STAT=1\n\
             export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1 LD_PRELOAD={library}\n\
             [ -e \"$FAKETIME_TIMESTAMP_FILE\" ] || echo +0 >\"$FAKETIME_TIMESTAMP_FILE\"\n\
             exec '{}' \"$@\"\n",
            agent.display()
        );
        let path = folder.join("pipes-agent");
        std::fs::write(&path, script)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Clocks {
            folder: folder.to_owned(),
        })
    }

    /// The folder with `pipes` and the script.
    pub fn binaries(&self) -> PathBuf {
        self.folder.clone()
    }

    /// Sets the clock of the node in this folder so many seconds before or after this machine's.
    pub fn step(&self, node: &Path, seconds: i64) -> Result<()> {
        let (next, path) = (node.join("clock.next"), node.join(FILE));
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        std::fs::rename(next, &path).with_context(|| format!("write {}", path.display()))
    }
}
