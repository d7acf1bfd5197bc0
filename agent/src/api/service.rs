//! `pipes.service.list|get|remove`.

use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::{Api, Error, value};
use crate::service;

pub(super) async fn list(api: &Api) -> Result<Value, Error> {
    Ok(value(&service::list(&api.store).await?))
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
    service::remove(&api.store, &name).await?;
    Ok(Value::from(name))
}
