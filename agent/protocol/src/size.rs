//! Sizes as options take them: `512k`, `100m`, `1.5g`, `2GiB`, or a bare number of bytes.
//!
//! The units are b, k, m, g and t, each 1,024 of the one before, as Docker reads them; `iB` or `B` may follow. Pure.

/// Reads a size that is more than nothing, in bytes.
pub fn parse_positive(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size; write it as 512m or 10g");
    let text_lower = text.trim().to_ascii_lowercase();
    let digits = text_lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text_lower.len());
    let (number, unit) = text_lower.split_at(digits);
    let exponent = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = number * 1024_f64.powi(exponent);
    // What a 64-bit number can count is more than any disk has.
    if !bytes.is_finite() || bytes >= u64::MAX as f64 {
        return Err(wrong());
    }
    match bytes as u64 {
        0 => Err(format!("'{text}' must be more than 0")),
        bytes => Ok(bytes),
    }
}

/// A size for people: `812 bytes`, `1.5 GiB`.
pub fn shown(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let Some(exponent) = (bytes.max(1).ilog2() / 10).checked_sub(1) else {
        return format!("{bytes} bytes");
    };
    let exponent = (exponent as usize).min(units.len() - 1);
    let number = bytes as f64 / 1024_f64.powi(exponent as i32 + 1);
    let digits = usize::from(number.fract() >= 0.05);
    format!("{number:.digits$} {}", units[exponent])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_size() {
        for (text, bytes) in [
            ("1", 1),
            ("512k", 512 << 10),
            ("100M", 100 << 20),
            ("1.5g", 3 << 29),
            ("2GiB", 2 << 30),
            ("1tb", 1 << 40),
            ("7b", 7),
        ] {
            assert_eq!(parse_positive(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_is_one() {
        for text in ["", "g", "1x", "-1", "1 g", "1.2.3", "99999999999t", "infinity"] {
            let why = format!("'{text}' is no size; write it as 512m or 10g");
            assert_eq!(parse_positive(text), Err(why));
        }
        assert_eq!(parse_positive("0"), Err("'0' must be more than 0".into()));
        assert_eq!(parse_positive("0.1b"), Err("'0.1b' must be more than 0".into()));
    }

    #[test]
    fn sizes_are_shown_as_they_are_read() {
        assert_eq!(shown(0), "0 bytes");
        assert_eq!(shown(812), "812 bytes");
        assert_eq!(shown(1 << 20), "1 MiB");
        assert_eq!(shown(3 << 29), "1.5 GiB");
        assert_eq!(shown(10 << 30), "10 GiB");
    }
}
