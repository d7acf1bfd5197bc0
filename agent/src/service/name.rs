//! The names of services: letters, digits and `._+-`, not beginning with `.` or `-`.

/// Longest name: what a file system takes as one.
pub const NAME_LENGTH_MAX: usize = 255;

/// Why a name cannot be a service's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' cannot be a service's name (letters, digits and ._+-, not beginning with . or -); give another with --name"
)]
pub struct BadName(String);

/// Whether a service may be called so.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let good = !name.is_empty()
        && name.len() <= NAME_LENGTH_MAX
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    if good {
        Ok(())
    } else {
        Err(BadName(name.to_owned()))
    }
}

/// `NAME` or `NAME@DIGEST`, taken apart; the digits without `sha256:`.
pub fn split(reference: &str) -> (&str, Option<&str>) {
    match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest.strip_prefix("sha256:").unwrap_or(digest))),
        None => (reference, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_files_names() {
        for good in [
            "cat",
            "greet.py",
            "g++",
            "_x",
            "7z",
            "a-b_c",
            "x86_64-linux-gnu-gcc-12",
        ] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".x",
            "-x",
            "a/b",
            "../x",
            "[",
            "a b",
            "é",
            "a@b",
            "a\n",
            &"a".repeat(256),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("[").unwrap_err().to_string().contains("--name"));
    }

    #[test]
    fn a_version_is_named_after_an_at() {
        assert_eq!(split("cat"), ("cat", None));
        assert_eq!(split("cat@0123abcd"), ("cat", Some("0123abcd")));
        assert_eq!(split("cat@sha256:0123abcd"), ("cat", Some("0123abcd")));
    }
}
