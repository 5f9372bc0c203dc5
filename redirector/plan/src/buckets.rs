//! Placement of entries in tables whose readers look into two buckets.

use redirector_core::hash::splitmix;

/// Moves after which an insertion is given up and the table declared too full.
const MOST_MOVES: u64 = 500;
const EMPTY: u32 = u32::MAX;

/// Finds a bucket for every item: `choices` are each item's two buckets (below `buckets`), `room` the entries of a
/// bucket. Items go to the emptier of their buckets; if both are full, others move to their second choice. Answers each
/// bucket's items, `room` places a bucket; `None` if the table is too full. Equal input gives equal places.
pub(crate) fn place(choices: &[[u32; 2]], buckets: usize, room: usize) -> Option<Vec<Option<usize>>> {
    let mut held = vec![EMPTY; buckets * room];
    let free = |held: &[u32], bucket: u32| {
        let places = &held[bucket as usize * room..][..room];
        places.iter().filter(|item| **item == EMPTY).count()
    };
    for item in 0..choices.len() {
        let [first, second] = choices[item];
        let mut homeless = item as u32;
        let mut bucket = if free(&held, second) > free(&held, first) { second } else { first };
        let mut moves = 0;
        loop {
            let places = &mut held[bucket as usize * room..][..room];
            if let Some(place) = places.iter_mut().find(|place| **place == EMPTY) {
                *place = homeless;
                break;
            }
            if moves == MOST_MOVES {
                return None;
            }
            // Which one moves out must vary, or a few items could chase each other for ever.
            std::mem::swap(&mut places[splitmix(moves) as usize % room], &mut homeless);
            let [first, second] = choices[homeless as usize];
            bucket = if bucket == first { second } else { first };
            moves += 1;
        }
    }
    Some(held.into_iter().map(|item| (item != EMPTY).then_some(item as usize)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(items: usize, buckets: u64) -> Vec<[u32; 2]> {
        let pick = |n: u64| (splitmix(n) % buckets) as u32;
        (0..items as u64).map(|n| [pick(2 * n), pick(2 * n + 1)]).collect()
    }

    #[test]
    fn every_item_lies_once_in_one_of_its_buckets() {
        for (items, buckets, room) in [(400, 256, 2), (2 << 12, 1 << 12, 4), (0, 1, 4), (4, 1, 4)] {
            let choices = choices(items, buckets as u64);
            let held = place(&choices, buckets, room).expect("fits");
            let mut seen = vec![0; items];
            for (at, item) in held.iter().enumerate() {
                if let Some(item) = *item {
                    seen[item] += 1;
                    assert!(choices[item].contains(&((at / room) as u32)));
                }
            }
            assert!(seen.iter().all(|count| *count == 1));
        }
    }

    #[test]
    fn overfull_table_is_refused() {
        assert_eq!(place(&choices(5, 1), 1, 4), None);
        assert_eq!(place(&[[3, 3]; 3], 256, 2), None);
    }
}
