//! Terms of agreements as operators write them, in the file and on the command line.

use redirector_plan::peering::Hours;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// What a rate can be counted in, and how many bits or requests in a second that is.
const BITS: [(&str, u64); 5] = [
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
    ("Tbit/s", 1_000_000_000_000),
];
/// Millionths in a unit of price.
const PRICE_SCALE: u64 = 1_000_000;

/// How much an agreement covers in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// Requests.
    Requests(u64),
    /// Bits.
    Bits(u64),
}

/// `500 requests/s`, or `2 Gbit/s` and the like.
///
/// # Errors
/// What would be right.
pub fn capacity(text: &str) -> Result<Capacity, String> {
    let wrong = || {
        format!(
            "`{text}` is not a capacity: write \"500 requests/s\", or bit/s, kbit/s, Mbit/s, Gbit/s or Tbit/s"
        )
    };
    let (number, unit) = text.split_once(' ').ok_or_else(wrong)?;
    if unit == "requests/s" {
        return number.parse().map(Capacity::Requests).map_err(|_| wrong());
    }
    let (_, scale) = BITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let bits = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*scale));
    bits.map(Capacity::Bits).ok_or_else(wrong)
}

/// `18:00-24:00`: times of day in UTC; what ends before it begins goes over midnight.
///
/// # Errors
/// What would be right.
pub fn hours(text: &str) -> Result<Hours, String> {
    let clock = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let digits = |text: &str| {
            (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| text.parse::<u32>().ok())?
        };
        let (hour, minute) = (digits(hour)?, digits(minute)?);
        (minute < 60 && hour * 60 + minute <= 24 * 60).then_some((hour * 60 + minute) * 60)
    };
    let both = text.split_once('-').and_then(|(from, until)| Some((clock(from)?, clock(until)?)));
    match both {
        Some((from, until)) if from != until && u64::from(from) < DAY && until > 0 => {
            Ok(Hours { from, until })
        }
        _ => Err(format!("`{text}` is not a part of a day: write \"18:00-24:00\" (UTC)")),
    }
}

/// A price in millionths.
///
/// # Errors
/// What would be right.
pub fn price(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a price: write a number of at least 0 with at most six decimals");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(decimals) || decimals.len() > 6 {
        return Err(wrong());
    }
    let millionths = format!("{decimals:0<6}").parse::<u64>().map_err(|_| wrong())?;
    let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(PRICE_SCALE));
    whole.and_then(|whole| whole.checked_add(millionths)).ok_or_else(wrong)
}

/// A price as operators write it.
pub fn show_price(millionths: u64) -> String {
    let text = format!("{}.{:06}", millionths / PRICE_SCALE, millionths % PRICE_SCALE);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A date, or a date and time: seconds since 1970. Without an offset it is UTC. A date alone is its first second, and
/// its end if `ends`.
///
/// # Errors
/// What would be right.
pub fn instant(text: &str, ends: bool) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a date: write 2027-12-31, or 2027-12-31T18:00:00Z");
    let parsed: toml::value::Datetime = text.parse().map_err(|_| wrong())?;
    let date = parsed.date.ok_or_else(wrong)?;
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let mut seconds = days * DAY as i64;
    match parsed.time {
        Some(time) => {
            let second = time.second.unwrap_or_default();
            seconds += i64::from(time.hour) * 3600 + i64::from(time.minute) * 60 + i64::from(second);
        }
        None if ends => seconds += DAY as i64,
        None => {}
    }
    if let Some(toml::value::Offset::Custom { minutes }) = parsed.offset {
        seconds -= i64::from(minutes) * 60;
    }
    u64::try_from(seconds).map_err(|_| wrong())
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the day that may be missing is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Seconds since 1970 as a date and time in UTC.
pub fn show_instant(seconds: u64) -> String {
    let (days, second) = ((seconds / DAY) as i64 + 719_468, seconds % DAY);
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * march + 2) / 5 + 1, if march < 10 { march + 3 } else { march - 9 });
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Bits in a second in the largest unit that is exact.
pub fn show_bits(bits: u64) -> String {
    let fits = |(_, scale): &&(&str, u64)| bits.is_multiple_of(*scale);
    let (unit, scale) = BITS.iter().rev().find(fits).unwrap_or(&BITS[0]);
    format!("{} {unit}", bits / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn capacities_are_requests_or_bits_in_a_second() {
        assert_eq!(capacity("500 requests/s"), Ok(Capacity::Requests(500)));
        assert_eq!(capacity("2 Gbit/s"), Ok(Capacity::Bits(2_000_000_000)));
        for wrong in ["", "500", "2 GB/s", "-1 requests/s", "1.5 Gbit/s", "2  Gbit/s", "99999999999 Tbit/s"] {
            assert!(capacity(wrong).is_err(), "{wrong}");
        }
        assert_eq!((show_bits(2_000_000_000), show_bits(1500)), ("2 Gbit/s".into(), "1500 bit/s".into()));
    }

    #[test]
    fn hours_are_parts_of_a_day() {
        assert_eq!(hours("18:00-24:00"), Ok(Hours { from: 64_800, until: 86_400 }));
        assert_eq!(hours("22:30-06:00"), Ok(Hours { from: 81_000, until: 21_600 }));
        for wrong in
            ["", "18-24", "18:00", "18:00-25:00", "24:00-06:00", "18:60-19:00", "06:00-06:00", "6:00-7:00"]
        {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prices_are_exact_to_a_millionth() {
        assert_eq!(
            (price("3"), price("0.012"), price("1.000001")),
            (Ok(3_000_000), Ok(12_000), Ok(1_000_001))
        );
        for wrong in ["", "-1", "1e3", ".5", "1.0000001", "99999999999999999999"] {
            assert!(price(wrong).is_err(), "{wrong}");
        }
        assert_eq!((show_price(3_000_000), show_price(12_000)), ("3".into(), "0.012".into()));
    }

    #[test]
    fn dates_begin_and_end_and_times_have_offsets() {
        assert_eq!(instant("1970-01-02", false), Ok(86_400));
        assert_eq!(instant("1970-01-02", true), Ok(172_800));
        assert_eq!(instant("2024-02-29T12:00:00Z", true), Ok(1_709_208_000));
        assert_eq!(instant("2024-02-29T14:00:00+02:00", false), Ok(1_709_208_000));
        for wrong in ["", "tomorrow", "18:00:00", "2023-02-29", "1969-12-31"] {
            assert!(instant(wrong, false).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn an_instant_shown_and_read_is_the_same(seconds in 0u64..253_402_300_800) {
            prop_assert_eq!(instant(&show_instant(seconds), false), Ok(seconds));
        }

        #[test]
        fn any_text_is_refused_or_read(text in "[0-9:.T Z+-]{0,24}|\\PC{0,24}") {
            let _ = (capacity(&text), hours(&text), price(&text), instant(&text, true));
        }
    }
}
