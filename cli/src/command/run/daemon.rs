//! `pipes run -d`: a workflow that stays up; its name on stdout, where it is reached on stderr.

use std::net::SocketAddr;

use pipes_protocol::uris;
use serde::Deserialize;

use super::{Arguments, files, line};
use crate::client::{self, Client};
use crate::command::build;
use crate::context::Contexts;
use crate::error::Error;
use crate::exit::{self, Outcome};
use crate::object;
use crate::output;

/// What the agent made of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Started {
    name: String,
    addresses: Vec<String>,
    bind: Option<String>,
    has_token: bool,
    token: Option<String>,
}

/// Has the workflow kept up.
pub fn run(arguments: &Arguments) -> Outcome {
    let given = line::given(arguments.from.as_deref(), &arguments.line);
    let shown = given.as_deref().unwrap_or_default().to_owned();
    let started = given.and_then(|shown| start(arguments, &shown));
    match started.and_then(|started| started.show()) {
        Ok(()) => exit::SUCCESS,
        Err(error) => {
            output::error::show_for_line(&error, &shown);
            exit::of_run_error(&error)
        }
    }
}

fn start(arguments: &Arguments, shown: &str) -> Result<Started, Error> {
    if let Some(option) = arguments.of_a_run() {
        return Err(Error::Usage(format!(
            "{option} is of a run in the foreground: leave out {option} or -d"
        )));
    }
    let line = line::read(arguments.from.as_deref(), shown)?;
    let mut kwargs = vec![("line", line.as_str().into())];
    kwargs.extend(arguments.name.as_deref().map(|name| ("name", name.into())));
    kwargs.extend(arguments.common.options()?);
    kwargs.extend(arguments.served.options()?);
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        if arguments.common.build {
            build::build_changed(&mut client, &line::services(&line)).await?;
        }
        let files = files::send(&mut client, &arguments.common.file).await?;
        kwargs.extend(files.map(|files| ("file", files)));
        object::parse(client.call(uris::WORKFLOW_START, kwargs).await?)
    })
}

impl Started {
    /// Its name on stdout; on stderr its addresses, its token where one was made, and who can reach it.
    pub fn show(&self) -> Result<(), Error> {
        output::print(&format!("{}\n", self.name))?;
        for address in &self.addresses {
            output::error::note(address);
        }
        if let Some(token) = &self.token {
            output::error::note(&format!("token: {token}"));
        }
        if let Some(sentence) = self.reach() {
            output::error::note(&sentence);
        }
        Ok(())
    }

    /// Its name alone, its token where one was made, and whether that can be seen by others.
    pub fn show_change(&self) -> Result<(), Error> {
        output::print(&format!("{}\n", self.name))?;
        if let Some(token) = &self.token {
            output::error::note(&format!("token: {token}"));
        }
        if let Some(sentence) = self.reach().filter(|_| self.has_token) {
            output::error::note(&sentence);
        }
        Ok(())
    }

    /// One line on who can reach it, where that is not those alone who have its token.
    fn reach(&self) -> Option<String> {
        let bind = self.bind.as_deref().and_then(|bind| bind.parse().ok());
        let hosts = self.addresses.iter().filter_map(|address| host(address));
        let is_near = bind.into_iter().chain(hosts).all(|host| host.is_loopback());
        let is_secure = self
            .addresses
            .iter()
            .all(|address| address.starts_with("https://"));
        match (self.has_token, is_near) {
            (true, _) if is_secure => None,
            (true, true) => None,
            (true, false) => Some(
                "the token travels unencrypted to these addresses: whoever sees the traffic can use it as well; see: --tls"
                    .into(),
            ),
            (false, true) => {
                Some("without a token, every user and program of this machine can use it; see: --token".into())
            }
            (false, false) => {
                Some("without a token, whoever reaches these addresses can use it; see: --token".into())
            }
        }
    }
}

/// The address in `http://ADDRESS:PORT/...` or `https://ADDRESS:PORT/...`.
fn host(address: &str) -> Option<std::net::IpAddr> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split('/').next()?;
    authority.parse::<SocketAddr>().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(address: &str, bind: Option<&str>, has_token: bool) -> String {
        let started = Started {
            addresses: vec![address.to_owned()],
            bind: bind.map(str::to_owned),
            has_token,
            ..Started::default()
        };
        started.reach().unwrap_or_default()
    }

    #[test]
    fn who_can_reach_it_is_said_where_that_is_not_those_with_the_token() {
        let (near, far) = ("http://127.77.0.1:7100/", "http://10.0.0.1:7080/words/");
        assert!(reach(near, None, false).contains("of this machine"));
        assert!(reach(near, Some("0.0.0.0"), false).contains("whoever reaches"));
        assert!(reach(far, None, false).contains("whoever reaches"));
        assert!(reach(far, None, true).contains("unencrypted"));
        assert!(reach("https://10.0.0.1:7100/", None, true).is_empty());
        assert!(reach("https://10.0.0.1:7100/", None, false).contains("whoever reaches"));
        assert!(reach("http://[::1]:7100/", None, true).is_empty());
    }
}
