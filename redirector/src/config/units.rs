//! Durations and keys as operators write them.

use super::read::Value;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Milliseconds in each unit, longest first.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const DURATION_FORM: &str =
    "write a whole number and a unit (ms, s, m, h or d), for example \"500ms\" or \"2s\"";

/// A duration such as `2s`: a whole number and `ms`, `s`, `m`, `h` or `d`; `None` if it is anything else or too long
/// for 64 bits of milliseconds.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale).map(Duration::from_millis)
}

/// A duration on a command line.
///
/// # Errors
/// How durations are written.
pub fn duration_of(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| DURATION_FORM.to_owned())
}

/// The shortest way to write a duration of whole milliseconds.
pub(super) fn write_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let fits = |(_, scale): &&(&str, u64)| millis.is_multiple_of(u128::from(*scale)) && millis > 0;
    match UNITS.iter().find(fits) {
        Some((unit, scale)) => format!("{}{unit}", millis / u128::from(*scale)),
        None => "0s".to_owned(),
    }
}

/// A duration within `range`.
pub(super) fn duration(value: &Value<'_>, range: RangeInclusive<Duration>) -> Option<Duration> {
    let text = value.text("\"2s\"")?;
    let Some(duration) = parse_duration(text.text) else {
        text.place.error(format!("`{}` is not a duration", text.text), DURATION_FORM);
        return None;
    };
    if range.contains(&duration) {
        return Some(duration);
    }
    let (low, high) = (write_duration(*range.start()), write_duration(*range.end()));
    text.place.error(format!("`{}` is out of range", text.text), format!("it can be {low} to {high}"));
    None
}

/// A lifetime in whole seconds, 0 to `longest`.
pub(super) fn seconds(value: &Value<'_>, longest: Duration) -> Option<u32> {
    let lifetime = duration(value, Duration::ZERO..=longest)?;
    if lifetime.subsec_millis() == 0 {
        return u32::try_from(lifetime.as_secs()).ok();
    }
    let up = write_duration(Duration::from_secs(lifetime.as_secs() + 1));
    value.place.error("lifetimes are whole seconds", format!("for example \"{up}\""));
    None
}

/// 16 bytes written as 32 hexadecimal digits.
pub(super) fn parse_key(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_whole_number_and_a_known_unit() {
        assert_eq!(parse_duration("2s"), Some(Duration::from_secs(2)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("1d"), Some(Duration::from_secs(86_400)));
        for wrong in ["", "2", "s", "-1s", "1.5s", "2 s", "2S", "2sec", "+2s", "99999999999999999999s", "٣s"]
        {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(parse_duration(&format!("{}d", u64::MAX)), None);
    }

    #[test]
    fn keys_are_32_hex_digits() {
        let key = parse_key("000102030405060708090A0b0c0d0e0f");
        assert_eq!(key, Some([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
        for wrong in ["", "00", "+00102030405060708090a0b0c0d0e0f", "000102030405060708090a0b0c0d0e0g"] {
            assert_eq!(parse_key(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_written_and_read_is_the_same(millis in 0u64..=1 << 50) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&write_duration(duration)), Some(duration));
        }

        #[test]
        fn any_text_as_duration_or_key_is_refused_or_read(text in "\\PC{0,40}") {
            let _ = (parse_duration(&text), parse_key(&text));
        }
    }
}
