//! Placement of entries in tables whose readers look into two buckets.

/// Buckets that are searched for a free place before the table is declared too full.
const MOST_SEARCHED: usize = 1000;
const EMPTY: u32 = u32::MAX;

/// Finds a bucket for every item: `choices` are each item's two buckets (below `buckets`), `room` the places of a
/// bucket. Items go to their first bucket while there is room, so that readers seldom need the second; if both are full,
/// others move to their second choice. Answers the items by place, `room` places a bucket; `None` if the table is too full. Equal input gives equal places.
pub(crate) fn place(choices: &[[u32; 2]], buckets: usize, room: usize) -> Option<Vec<Option<usize>>> {
    let mut table = Table { choices, room, held: vec![EMPTY; buckets * room] };
    for (item, buckets) in choices.iter().enumerate() {
        let place = table.make_room(*buckets)?;
        table.held[place] = item as u32;
    }
    Some(table.held.into_iter().map(|item| (item != EMPTY).then_some(item as usize)).collect())
}

struct Table<'c> {
    choices: &'c [[u32; 2]],
    room: usize,
    held: Vec<u32>,
}

/// A bucket on the way to a free place.
struct Step {
    bucket: u32,
    /// The step before, and the place in its bucket whose item could move to this one.
    via: Option<(usize, usize)>,
}

impl Table<'_> {
    fn places(&self, bucket: u32) -> std::ops::Range<usize> {
        let from = bucket as usize * self.room;
        from..from + self.room
    }

    /// A free place in one of two buckets, made by the fewest moves of other items to their second choice.
    fn make_room(&mut self, starts: [u32; 2]) -> Option<usize> {
        let mut steps: Vec<Step> = starts.map(|bucket| Step { bucket, via: None }).into();
        let mut at = 0;
        while at < steps.len().min(MOST_SEARCHED) {
            let places = self.places(steps[at].bucket);
            if let Some(free) = places.clone().find(|place| self.held[*place] == EMPTY) {
                return Some(self.shift(&steps, at, free));
            }
            for place in places {
                let [first, second] = self.choices[self.held[place] as usize];
                let bucket = if first == steps[at].bucket { second } else { first };
                if steps.iter().all(|step| step.bucket != bucket) {
                    steps.push(Step { bucket, via: Some((at, place)) });
                }
            }
            at += 1;
        }
        None
    }

    /// Moves every item on the way to `free` one step on; answers the place that is free then.
    fn shift(&mut self, steps: &[Step], mut at: usize, mut free: usize) -> usize {
        while let Some((before, place)) = steps[at].via {
            self.held[free] = self.held[place];
            self.held[place] = EMPTY;
            (at, free) = (before, place);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redirector_core::hash::splitmix;

    fn choices(items: usize, buckets: u64) -> Vec<[u32; 2]> {
        let pick = |n: u64| (splitmix(n) % buckets) as u32;
        (0..items as u64).map(|n| [pick(2 * n), pick(2 * n + 1)]).collect()
    }

    #[test]
    fn every_item_lies_once_in_one_of_its_buckets() {
        for (items, buckets, room) in [(400, 256, 2), (3 << 12, 1 << 12, 4), (0, 1, 4), (4, 1, 4)] {
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
