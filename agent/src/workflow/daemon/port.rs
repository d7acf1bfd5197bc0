//! Each daemon workflow's own port. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::workflow::daemon::error::Error;

/// Ports that are given to those that ask for none in particular.
pub const GIVEN: RangeInclusive<u16> = 7100..=7999;

/// What was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Port {
    /// The next free one of [`GIVEN`], or none where all are taken.
    #[default]
    Next,
    /// This one.
    Own(u16),
    /// None: the common port alone.
    None,
}

impl Port {
    /// Which it comes to. `taken` are others' ports, with their names; `reserved` are the agents' own.
    pub fn choose(self, taken: &BTreeMap<u16, &str>, reserved: &[u16]) -> Result<Option<u16>, Error> {
        match self {
            Port::None => Ok(None),
            Port::Next => {
                let mut free = GIVEN.filter(|port| !taken.contains_key(port) && !reserved.contains(port));
                Ok(free.next())
            }
            Port::Own(port) => {
                if let Some(name) = taken.get(&port) {
                    return Err(Error::Usage(format!(
                        "--port {port}: it is workflow {name}'s; give another, or leave it out for the next free one"
                    )));
                }
                if reserved.contains(&port) {
                    return Err(Error::Usage(format!(
                        "--port {port}: the agents use it themselves; give another, or leave it out for the next free one"
                    )));
                }
                Ok(Some(port))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_free_port_is_given_and_none_where_all_are_taken() {
        let taken = BTreeMap::from([(7100, "a"), (7102, "b")]);
        assert_eq!(Port::Next.choose(&taken, &[7101]).unwrap(), Some(7103));
        let all = GIVEN.map(|port| (port, "a")).collect();
        assert_eq!(Port::Next.choose(&all, &[]).unwrap(), None);
        assert_eq!(Port::None.choose(&taken, &[]).unwrap(), None);
    }

    #[test]
    fn a_port_that_somebody_has_is_refused_with_who_has_it() {
        let taken = BTreeMap::from([(7100, "words")]);
        let refused = |port| Port::Own(port).choose(&taken, &[7071]).unwrap_err().to_string();
        assert!(
            refused(7100).contains("it is workflow words's"),
            "{}",
            refused(7100)
        );
        assert!(refused(7071).contains("the agents use it"));
        assert_eq!(Port::Own(80).choose(&taken, &[7071]).unwrap(), Some(80));
    }
}
