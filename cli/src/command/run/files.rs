//! `--file PATH[=NAME]`: the bytes are sent before the request, which names them by their digest.

use std::path::Path;

use pipes_protocol::stage;
use rmpv::Value;

use crate::client::Client;
use crate::error::Error;
use crate::upload;
use crate::upload::content;

/// Makes the cluster have the files; gives what the request says of them, nothing where there are none.
pub async fn send(client: &mut Client, files: &[String]) -> Result<Option<Value>, Error> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut sent = Vec::new();
    for file in files {
        sent.push(send_one(client, file).await?);
    }
    Ok(Some(Value::Array(sent)))
}

/// Makes the cluster have a file; gives back its digest, its name in the stages, and whether it may be executed.
async fn send_one(client: &mut Client, file: &str) -> Result<Value, Error> {
    let (path, name) = match file.rsplit_once('=') {
        // A path may hold the sign itself.
        Some((path, name)) if !Path::new(file).exists() => (path, name.to_owned()),
        _ => (
            file,
            Path::new(file)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        ),
    };
    // Before it is read, which may take its time.
    if let Some(why) = stage::unfit_name(&name) {
        return Err(Error::Usage(format!("--file: {why}")));
    }
    let content = content::of(Path::new(path))?;
    upload::blob(client, Path::new(path), &content).await?;
    let executable = content.may_be_executed.into();
    Ok(Value::Array(vec![content.digest.into(), name.into(), executable]))
}
