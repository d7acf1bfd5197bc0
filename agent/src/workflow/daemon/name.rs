//! The names of daemon workflows: `[a-z0-9-]`, at most 63; made of the line where none is given. Pure.

use crate::workflow::daemon::error::Error;

/// Longest name: a label of the DNS.
pub const NAME_LENGTH_MAX: usize = 63;

/// What one is called whose first service has no letter or digit in its name.
const NAMELESS: &str = "workflow";

/// What a number behind a name may take: `-` and as many digits as workflows need.
const NUMBER_LENGTH_MAX: usize = 8;

/// Refuses what cannot be a daemon workflow's name.
pub fn check(name: &str) -> Result<(), Error> {
    let is_good = !name.is_empty()
        && name.len() <= NAME_LENGTH_MAX
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    match is_good {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "'{name}' cannot be a workflow's name: small letters, digits and - are allowed, {NAME_LENGTH_MAX} at most"
        ))),
    }
}

/// A name made of a service's, that is not among those taken.
pub fn made_of(service: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9') => c,
        _ => '-',
    };
    let name: String = service.chars().map(plain).collect();
    let name: String = name
        .trim_matches('-')
        .chars()
        .take(NAME_LENGTH_MAX - NUMBER_LENGTH_MAX)
        .collect();
    let name = match name.is_empty() {
        true => NAMELESS.to_owned(),
        false => name,
    };
    if !is_taken(&name) {
        return name;
    }
    // As many are taken as there are workflows, and no more.
    let numbered = (2_u64..).map(|number| format!("{name}-{number}"));
    let mut free = numbered.filter(|name| !is_taken(name));
    free.next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_small_letters_digits_and_dashes() {
        for good in ["a", "words", "a-1", "0", &"x".repeat(63)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a b", "a.b", "a/b", "ä", "../x", &"x".repeat(64)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_made_of_the_first_service() {
        let free = |_: &str| false;
        assert_eq!(made_of("cat", free), "cat");
        assert_eq!(made_of("greet.py", free), "greet-py");
        assert_eq!(made_of("G++", free), "g");
        assert_eq!(made_of("+_+", free), "workflow");
        assert_eq!(made_of(&"x".repeat(200), free).len(), 55);
    }

    #[test]
    fn a_name_that_is_taken_is_made_unique() {
        let taken = ["cat", "cat-2", "cat-4"];
        assert_eq!(made_of("cat", |name| taken.contains(&name)), "cat-3");
        assert_eq!(made_of("tac", |name| taken.contains(&name)), "tac");
    }
}
