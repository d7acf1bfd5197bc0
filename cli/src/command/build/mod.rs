//! `pipes build PATH|NAME...`

mod executable;

use pipes_protocol::uris;

use crate::client::{self, Client};
use crate::context::Contexts;
use crate::error::{self, Error};
use crate::object::{self, Service};
use crate::output;
use crate::upload;
use crate::upload::content;
use executable::{Executable, Places};

/// Makes services of executables
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A path, else NAME on PATH, else ./NAME
    #[arg(required = true, value_name = "PATH|NAME")]
    executables: Vec<String>,
    /// What to call the service; otherwise as its file
    #[arg(long, value_name = "SERVICE")]
    name: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Error> {
    let found = find_all(&arguments)?;
    client::block_on(async {
        let mut client = Client::connect(&Contexts::open()?.target()?).await?;
        for executable in &found {
            let service = build(&mut client, executable).await?;
            let Service {
                name, digest, size, ..
            } = &service;
            let line = [name.clone(), digest.clone(), size.map(|size| size.to_string())];
            output::print(&format!("{}\n", line.map(Option::unwrap_or_default).join(" ")))?;
        }
        Ok(())
    })
}

/// All of them, each once, before any is built.
fn find_all(arguments: &Arguments) -> Result<Vec<Executable>, Error> {
    if arguments.name.is_some() && arguments.executables.len() > 1 {
        return Err(Error::Usage(
            "--name is for one executable; build the others by themselves".into(),
        ));
    }
    let places = places(true)?;
    let mut found: Vec<Executable> = Vec::new();
    for called in &arguments.executables {
        let executable = executable::find(called, arguments.name.as_deref(), &places)?;
        if executable.is_only_here {
            output::error::note(&format!("{called} is not on PATH: ./{called} is meant"));
        }
        let same = |other: &&Executable| other.name == executable.name;
        match found.iter().find(same) {
            Some(other) if other.path.canonicalize().ok() == executable.path.canonicalize().ok() => {}
            Some(other) => {
                return Err(Error::Usage(format!(
                    "{} and {} would both be service {}; build them one by one, one of them with --name",
                    other.path.display(),
                    executable.path.display(),
                    executable.name
                )));
            }
            None => found.push(executable),
        }
    }
    Ok(found)
}

fn places(is_here_too: bool) -> Result<Places, Error> {
    let folder = std::env::current_dir().map_err(|error| {
        Error::Local(format!(
            "the working directory cannot be used: {}",
            error::plain(&error)
        ))
    })?;
    Ok(Places {
        folder,
        search: executable::search_path(),
        is_here_too,
    })
}

async fn build(client: &mut Client, executable: &Executable) -> Result<Service, Error> {
    let content = content::of(&executable.path)?;
    let put = upload::service(client, &executable.name, &executable.path, &content).await;
    let put = put.map_err(|error| match error {
        Error::Refused {
            uri,
            message,
            arguments,
        } => {
            let message = format!("cannot build {}: {message}", executable.path.display());
            Error::Refused {
                uri,
                message,
                arguments,
            }
        }
        other => other,
    });
    object::parse(put?)
}

/// Builds each of these services whose executable is on PATH, and is missing in the cluster or another there.
pub async fn build_changed(client: &mut Client, names: &[String]) -> Result<(), Error> {
    let places = places(false)?;
    let known = client.list(uris::SERVICE_LIST, Vec::new()).await?;
    let known: Vec<Service> = super::objects(known)?;
    let mut done: Vec<&str> = Vec::new();
    for name in names {
        // A version that is named is meant as it is.
        if name.contains('@') || done.contains(&name.as_str()) {
            continue;
        }
        done.push(name);
        let there = known.iter().find(|service| service.name.as_ref() == Some(name));
        let executable = match executable::find(name, None, &places) {
            Ok(executable) => executable,
            // Not here, but built before.
            Err(_) if there.is_some() => continue,
            Err(error) => return Err(error),
        };
        let content = content::of(&executable.path)?;
        if there.and_then(|service| service.digest.as_ref()) != Some(&content.digest) {
            upload::service(client, name, &executable.path, &content).await?;
        }
    }
    Ok(())
}
