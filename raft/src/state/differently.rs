//! A switch for tests: some entries are applied differently here than elsewhere.

use crate::Op;
use crate::command::Command;

/// Keys, and what a put to each writes here.
#[derive(Debug, Default)]
pub(super) struct Differently(pub(super) Vec<(Vec<u8>, Vec<u8>)>);

impl Differently {
    /// The command as it is applied here.
    pub(super) fn change(&self, mut command: Command) -> Command {
        if let Command::Txn(txn) = &mut command {
            for op in &mut txn.success {
                if let Op::Put { key, value, .. } = op
                    && let Some((_, other)) = self.0.iter().find(|(differing, _)| differing == key)
                {
                    value.clone_from(other);
                }
            }
        }
        command
    }
}
