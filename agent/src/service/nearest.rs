//! The known name that somebody probably meant.

use strsim::osa_distance;

/// Of a name's letters, one in this many may be wrong.
const LETTERS_A_SLIP: usize = 3;

/// The name of `known` that is nearest to `name`; none where all are too far. A path counts by its file's name, a version
/// by its service.
pub fn nearest(name: &str, known: &[String]) -> Option<String> {
    let name = name.split('@').next().unwrap_or(name);
    let wanted = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let slips_max = (wanted.chars().count() / LETTERS_A_SLIP).max(1);
    let close = known
        .iter()
        .map(|candidate| (osa_distance(&wanted, &candidate.to_lowercase()), candidate));
    let found = close.filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count());
    found.min().map(|(_, candidate)| candidate.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        let known: Vec<String> = ["cat", "greet.py", "sort", "tr", "head"]
            .map(str::to_owned)
            .to_vec();
        let meant = |name: &str| nearest(name, &known);
        assert_eq!(meant("cta").as_deref(), Some("cat"), "swapped");
        assert_eq!(meant("gret.py").as_deref(), Some("greet.py"), "left out");
        assert_eq!(meant("SORT").as_deref(), Some("sort"), "case");
        assert_eq!(meant("./greet.py").as_deref(), Some("greet.py"), "a path");
        assert_eq!(
            meant("sort@01234567").as_deref(),
            Some("sort"),
            "an unknown version"
        );
        assert_eq!(meant("awk"), None, "too far");
        assert_eq!(meant("x"), None, "every letter wrong is no slip");
        assert_eq!(nearest("cat", &[]), None);
    }

    #[test]
    fn distances_are_counted_in_slips() {
        assert_eq!(osa_distance("", "abc"), 3);
        assert_eq!(osa_distance("abc", "abc"), 0);
        assert_eq!(osa_distance("abcd", "acbd"), 1);
        assert_eq!(osa_distance("kitten", "sitting"), 3);
    }
}
