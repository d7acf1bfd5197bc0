//! What several clients read and wrote is explained by one order of all they did.

use anyhow::Result;

use super::Seen;
use crate::linearizable::violation;

pub(super) fn look(seen: Seen<'_>) -> Result<Vec<String>> {
    let told = seen.history.told();
    let of_each = told.registers.iter();
    Ok(of_each
        .filter_map(|(register, history)| Some(format!("register {register}: {}", violation(history)?)))
        .collect())
}
