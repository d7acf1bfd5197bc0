//! `pipes.service.put|list|get|remove`.

use pipes_job::blobs::Naming;
use pipes_protocol::uris;
use pipes_wamp::client::Reader;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::streaming::{self, Caller};
use crate::api::upload::Announced;
use crate::api::{Answer, Api, Error, error, value};
use crate::blob::Digest;
use crate::listing::Page;
use crate::service::{self, Kind, Record};
use crate::workflow::daemon::kept;
use pipes_router::OwnSession;

/// Times a build is named anew when its blob was being collected, or the service was built elsewhere.
const NAMING_TRIES: u32 = 10;

/// Makes a service of an executable; serves one call, on a session of its own.
pub(super) async fn put(api: &Api, own: OwnSession) {
    let Some((mut chunks, mut caller, asked)) = streaming::accept(api, uris::SERVICE_PUT, own.stream).await
    else {
        return;
    };
    let built = build(api, asked, &mut chunks, &mut caller).await;
    let answer = built.map(|record| PayloadBuf::of_values(vec![value(&record)], None));
    caller.end(answer).await;
}

async fn build(
    api: &Api,
    asked: Result<Arguments, Error>,
    chunks: &mut Reader,
    caller: &mut Caller,
) -> Result<Record, Error> {
    let mut arguments = asked?;
    let name = arguments.text("name")?;
    service::check_name(&name).map_err(|error| Error::Usage(error.to_string()))?;
    let announced = Announced::of(&mut arguments)?;
    let naming = match announced.digest {
        Some(digest) => {
            let begun = async { Ok(Naming::begin(&api.store, &[digest.to_string()]).await?) };
            Some(error::decided(&api.quorum, begun).await?)
        }
        None => None,
    };
    // Bytes may come for minutes, in which nothing is decided.
    let received = announced.receive(api, chunks, caller).await?;
    let kind = Kind::of(&received.head).map_err(|error| Error::CannotStart(error.to_string()))?;
    let named = async {
        let digest = received.upload.finish(announced.digest).await?;
        let record = Record::new(&name, digest, announced.size, kind);
        name_it(api, digest, &record, naming).await?;
        Ok(record)
    };
    error::decided(&api.quorum, named).await
}

/// Makes the blob the newest version of a service.
async fn name_it(
    api: &Api,
    digest: Digest,
    record: &Record,
    mut naming: Option<Naming>,
) -> Result<(), Error> {
    for _ in 0..NAMING_TRIES {
        let right = match naming.take() {
            Some(right) => right,
            None => Naming::of(&api.store, &api.blobs, &[digest.to_string()]).await?,
        };
        match service::put(&api.store, record, &right).await {
            Err(service::Error::Moved(_)) => {}
            named => return Ok(named?),
        }
    }
    Err(service::Error::Moved(digest).into())
}

pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Answer, Error> {
    let after = arguments.after()?;
    let services = service::list(&api.store).await?.into_iter();
    let placed = services.map(|service| (service.name.clone(), service));
    Ok(Answer::page(&Page::of(placed, after.as_deref()), Vec::new()))
}

pub(super) async fn get(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    match service::find(&api.store, &name).await? {
        Some(record) => Ok(value(&record)),
        None => {
            let nearest = service::nearest(&name, &service::names(&api.store).await?);
            Err(service::Error::Unknown { name, nearest }.into())
        }
    }
}

pub(super) async fn remove(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    kept::remove_service(&api.store, &name).await?;
    Ok(Value::from(name))
}
