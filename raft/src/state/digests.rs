//! The digests of the last entries, for whoever compares.

use std::collections::VecDeque;

use crate::mvcc::Digest;

/// How many are kept: a member that lags further behind than this is not compared until it has caught up.
const KEPT: usize = 10_000;

/// The digests of the last entries, without a gap.
#[derive(Debug, Default)]
pub(super) struct Digests {
    /// One more than the index of the last.
    end: u64,
    kept: VecDeque<Digest>,
}

impl Digests {
    /// Takes that of the entry `index`; where there is none, or one before is missing, those before are forgotten.
    pub(super) fn push(&mut self, index: u64, digest: Option<Digest>) {
        if self.end != index || digest.is_none() {
            self.kept.clear();
        }
        self.end = index + 1;
        self.kept.extend(digest);
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }

    /// The newest, with its index.
    pub(super) fn newest(&self) -> Option<(u64, Digest)> {
        let digest = *self.kept.back()?;
        Some((self.end - 1, digest))
    }

    /// That of the entry `index`.
    pub(super) fn at(&self, index: u64) -> Option<Digest> {
        let begin = self.end - self.kept.len() as u64;
        let place = index.checked_sub(begin)?;
        self.kept.get(usize::try_from(place).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_thousand_are_known_by_their_index() {
        let mut digests = Digests::default();
        assert_eq!((digests.newest(), digests.at(0)), (None, None));
        let of = |index: u64| Digest::beginning(index as u32);
        for index in 5..5 + KEPT as u64 + 10 {
            digests.push(index, Some(of(index)));
        }
        let last = 4 + KEPT as u64 + 10;
        assert_eq!(digests.newest(), Some((last, of(last))));
        assert_eq!(digests.at(last + 1), None);
        assert_eq!(digests.at(15), Some(of(15)));
        assert_eq!(digests.at(14), None);
        digests.push(20_000, Some(of(1)));
        assert_eq!(digests.at(last), None, "nothing is known across a gap");
        assert_eq!(digests.at(20_000), Some(of(1)));
        digests.push(20_001, None);
        assert_eq!(digests.newest(), None);
    }
}
