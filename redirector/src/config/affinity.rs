//! `affinity` of a service: how far an object's requests stay together (P-11).

use super::read::{Section, Value};
use super::terms::{Capacity, capacity};
use redirector_plan::model::{Affinity, ChooseBy};
use redirector_plan::objects::MAX_WIDTH;

const EXAMPLE: &str = "{ widen_at = \"500 requests/s\", at_most = 4, factor = 1.25 }";
const KEYS: &[&str] = &["widen_at", "at_most", "factor"];
/// Servers of one object, unless written.
const AT_MOST: u64 = 4;
/// Percent.
const BOUNDS: std::ops::RangeInclusive<u16> = 105..=1000;

/// `Some(None)` if it is not written, `None` if there is an error.
pub(super) fn read(section: &Section<'_>, choose_by: Option<ChooseBy>) -> Option<Option<Affinity>> {
    let Some(value) = section.get("affinity") else { return Some(None) };
    let inner = value.section(KEYS, EXAMPLE)?;
    let widen_at = inner.get("widen_at").map_or(Some(None), |value| rate(&value).map(Some));
    let at_most = inner.get("at_most").map_or(Some(AT_MOST), |value| value.integer(1..=MAX_WIDTH as u64));
    let bound = inner.get("factor").map_or(Some(None), |value| factor(&value).map(Some));
    if choose_by.is_some_and(|choose_by| choose_by != ChooseBy::Content) {
        value.place.error(
            "requests for an object stay together where servers are chosen by content alone",
            "write choose_by = \"content\", or leave `affinity` out",
        );
        return None;
    }
    let at_most = at_most.and_then(|most| u8::try_from(most).ok())?;
    Some(Some(Affinity { widen_at: widen_at?, at_most, bound: bound? }))
}

fn rate(value: &Value<'_>) -> Option<u32> {
    let text = value.word("\"500 requests/s\"")?;
    match capacity(text.text) {
        Ok(Capacity::Requests(rate)) if rate > 0 && u32::try_from(rate).is_ok() => u32::try_from(rate).ok(),
        _ => {
            text.place.error(
                format!("`{}` is not a rate that an object is widened at", text.text),
                "write a whole number of requests from 1 on, for example \"500 requests/s\"",
            );
            None
        }
    }
}

/// A factor as percent.
fn factor(value: &Value<'_>) -> Option<u16> {
    let text = value.scalar("1.25")?;
    let percent = text.text.parse::<f64>().ok().map(|factor| (factor * 100.0).round());
    let percent = percent.filter(|percent| percent.is_finite()).map(|percent| percent as u16);
    let bound = percent.filter(|percent| BOUNDS.contains(percent));
    if bound.is_none() {
        let help = "write a number from 1.05 to 10: 1.25 lets a target get a quarter more than its share";
        text.place.error(format!("`{}` is not a factor of shares", text.text), help);
    }
    bound
}
