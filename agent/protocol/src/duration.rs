//! Durations as options take them: `1.5s`, `10m`, `500ms`, `24h`, `1h30m`.
//!
//! A number and a unit, or several together; the units are ms, s, m, h and d. A bare number is refused: `10` may mean
//! seconds to one and minutes to another; and so are w and M, which is a month to some. Pure.

use std::time::Duration;

/// Reads a duration.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration; write it as 1.5s, 10m or 24h");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        let end = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        let (unit, after) = unit.split_at(end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(total)
}

/// As [`parse`], for what must take time at all.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err(format!("'{text}' must be more than 0")),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration() {
        let read = |text| parse(text).unwrap().as_millis();
        assert_eq!(read("1.5s"), 1_500);
        assert_eq!(read("10m"), 600_000);
        assert_eq!(read("500ms"), 500);
        assert_eq!(read("24h"), 86_400_000);
        assert_eq!(read("1h30m"), 5_400_000);
        assert_eq!(read("2d"), 172_800_000);
        assert_eq!(read("0s"), 0);
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in [
            "",
            "10",
            "s",
            "1.2.3s",
            "-1s",
            "5 m",
            "1w",
            "99999999999999999999999d",
        ] {
            let refused = parse(text).unwrap_err();
            assert_eq!(
                refused,
                format!("'{text}' is no duration; write it as 1.5s, 10m or 24h")
            );
        }
    }

    #[test]
    fn a_timeout_of_nothing_is_refused() {
        assert_eq!(parse_positive("0s").unwrap_err(), "'0s' must be more than 0");
    }
}
