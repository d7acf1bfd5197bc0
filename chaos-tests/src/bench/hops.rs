//! The same line by other means: `sh` alone, socat over TCP and TLS, ssh to an sshd of our own on loopback.
//!
//! ```text
//! here: cat | socat  ->  socat | cat | socat  ->  socat | cat | socat  ->  socat: here again
//! ```
//! Three hops, as a line over three agents has three links.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::{self, Input, tool};
use crate::wait::wait_until;

/// An address of the bench's own, away from clusters'.
const ADDRESS: &str = "127.99.77.1";

/// Keys, certificates and an sshd.
pub struct Hops {
    folder: tempfile::TempDir,
    sshd: Child,
    port: u16,
}

/// A port nobody listens on now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((ADDRESS, 0))?.local_addr()?.port())
}

/// The line in `sh`.
pub fn sh() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "cat | cat | cat"]);
    command
}

impl Hops {
    /// Makes keys and starts the sshd.
    pub fn prepare() -> Result<Hops> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let run = |program: &str, arguments: &[&str]| -> Result<()> {
            let mut command = Command::new(tool(program)?);
            command.args(arguments);
            command::run(command, Input::None)?
                .success()
                .with_context(|| program.to_owned())?;
            Ok(())
        };
        let (cert, key) = (path("cert.pem"), path("key.pem"));
        run(
            "openssl",
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-subj",
                "/CN=bench",
                "-days",
                "2",
                "-keyout",
                &key,
                "-out",
                &cert,
            ],
        )?;
        for name in ["host", "user"] {
            run(
                "ssh-keygen",
                &["-q", "-t", "ed25519", "-N", "", "-f", &path(name)],
            )?;
        }
        std::fs::copy(path("user.pub"), path("authorized"))?;
        let port = free_port()?;
        let config = format!(
            "ListenAddress {ADDRESS}:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             PermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\nPrintMotd no\n",
            path("host"),
            path("authorized")
        );
        std::fs::write(path("sshd_config"), config)?;
        // sshd drops its rights in this folder; Debian's service makes it at boot.
        let _ = std::fs::create_dir_all("/run/sshd");
        let sshd = Command::new(tool("sshd")?)
            .args(["-D", "-e", "-f", &path("sshd_config")])
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(path("sshd.log"))?)
            .spawn()?;
        let hops = Hops { folder, sshd, port };
        wait_until("sshd takes a login", Duration::from_secs(10), || {
            let mut login = Command::new("sh");
            login.arg("-c").arg(format!("{} true", hops.login()));
            command::run(login, Input::None).is_ok_and(|done| done.code() == 0)
        })?;
        Ok(hops)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn login(&self) -> String {
        format!(
            "ssh -F none -q -i {} -p {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes {ADDRESS}",
            self.path("user").display(),
            self.port
        )
    }

    /// Three ssh hops.
    pub fn ssh(&self) -> Command {
        let login = self.login();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("{login} cat | {login} cat | {login} cat"));
        command
    }

    /// Three plain TCP hops.
    pub fn socat_tcp(&self) -> Result<Command> {
        self.socat(
            "TCP-LISTEN:{port},bind={address},reuseaddr",
            "TCP:{address}:{port},retry=100,interval=0.05",
        )
    }

    /// Three hops with TLS.
    pub fn socat_tls(&self) -> Result<Command> {
        let (cert, key) = (self.path("cert.pem"), self.path("key.pem"));
        let listen = format!(
            "OPENSSL-LISTEN:{{port}},bind={{address}},reuseaddr,verify=0,cert={},key={}",
            cert.display(),
            key.display()
        );
        self.socat(
            &listen,
            "OPENSSL:{address}:{port},verify=0,retry=100,interval=0.05",
        )
    }

    fn socat(&self, listen: &str, connect: &str) -> Result<Command> {
        let program = tool("socat")?;
        let ends: Vec<(String, String)> = (0..3)
            .map(|_| {
                let port = free_port()?.to_string();
                let fill = |text: &str| text.replace("{port}", &port).replace("{address}", ADDRESS);
                Ok((fill(listen), fill(connect)))
            })
            .collect::<Result<_>>()?;
        let socat = format!("{} -u -b 65536", program.display());
        let [(listen_1, to_1), (listen_2, to_2), (listen_3, to_3)] = &ends[..] else {
            anyhow::bail!("three hops");
        };
        let script = format!(
            "exec 3<&0\n\
             {socat} {listen_1} STDOUT </dev/null | cat | {socat} STDIN {to_2} &\n\
             {socat} {listen_2} STDOUT </dev/null | cat | {socat} STDIN {to_3} &\n\
             cat <&3 | {socat} STDIN {to_1} &\n\
             exec 3<&-\n\
             {socat} {listen_3} STDOUT\n"
        );
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        Ok(command)
    }
}

impl Drop for Hops {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}
