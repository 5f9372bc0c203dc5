//! Following health and load within a generation: the second tier of change. Affected share groups get new records,
//! each published by one store, and everything else stays as it is.

use super::records::{Block, Records};
use crate::dataplane::{LiveTables, Reading};
use redirector_core::table::{GroupPointer, NONE, Tables};
use redirector_plan::compile::Compiled;
use redirector_plan::divert::Diversions;
use redirector_plan::model::TargetState;
use redirector_plan::shares::{records, relocate};
use std::collections::BTreeSet;
use std::io;

/// Why tables could not follow: a new generation is needed.
#[derive(Debug, thiserror::Error)]
pub enum Behind {
    /// Every record is in use, or readers take too long to be done with it.
    #[error("no room for new share records")]
    NoRoom,
    /// The kernel gives no grace period.
    #[error("no share record can be used again: membarrier: {0}")]
    Barrier(#[from] io::Error),
    /// The tables are not those of this generation.
    #[error("share group {0} is not in the tables")]
    NoGroup(u32),
}

/// What is written where in one generation's tables.
#[derive(Debug)]
pub struct Live {
    records: Records,
    /// By group: its present block; `None` if it has no usable target.
    blocks: Vec<Option<Block>>,
    pub(super) epoch: u32,
    /// Regions whose clients are served otherwise than was compiled.
    pub(super) diversions: Diversions,
}

impl Live {
    /// The state of tables as they were compiled.
    ///
    /// # Errors
    /// If there can be no thread that makes records free again.
    pub fn new(compiled: &Compiled, tables: &LiveTables) -> io::Result<Self> {
        let pointers = compiled.image.groups.iter().map(|pointer| pointer.record());
        let starts: Vec<u32> = pointers.take(compiled.groups.len()).collect();
        let mut blocks = vec![None; starts.len()];
        let mut end = compiled.records_used;
        // Blocks lie in the order of their groups, so each ends where the next one begins.
        for (block, first) in blocks.iter_mut().zip(starts).rev().filter(|(_, first)| *first != NONE) {
            *block = Some(Block { first, len: end - first });
            end = first;
        }
        let records = Records::new(compiled.records_used, tables.record_capacity(), tables.readers())?;
        Ok(Self { records, blocks, epoch: 0, diversions: Diversions::new() })
    }

    /// Number of the last change; 0 if there was none.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// How many changes had to wait for a record, because those before them came faster than records are free again.
    pub fn waits(&self) -> u64 {
        self.records.waits()
    }

    /// Makes the tables follow changes of `targets`, whose states are now as in `states`. Gives the number of groups
    /// whose records changed.
    ///
    /// # Errors
    /// If a group could not be written; it and those after it are as they were.
    pub fn follow(
        &mut self,
        compiled: &Compiled,
        tables: &LiveTables,
        targets: &[usize],
        states: &[TargetState],
    ) -> Result<usize, Behind> {
        let groups = targets.iter().filter_map(|target| compiled.target_groups.get(*target)).flatten();
        let groups: BTreeSet<u32> = groups.copied().collect();
        let epoch = self.epoch.wrapping_add(1);
        let mut changed = 0;
        for group in groups {
            if self.rewrite(compiled, tables, group, states, epoch)? {
                self.epoch = epoch;
                changed += 1;
            }
        }
        Ok(changed)
    }

    /// Publishes new records of a group if they differ from its present ones.
    fn rewrite(
        &mut self,
        compiled: &Compiled,
        tables: &LiveTables,
        group: u32,
        states: &[TargetState],
        epoch: u32,
    ) -> Result<bool, Behind> {
        let (Some(spec), Some(present)) =
            (compiled.groups.get(group as usize), self.blocks.get(group as usize).copied())
        else {
            return Err(Behind::NoGroup(group));
        };
        let next = match records(spec, states) {
            None if present.is_none() => return Ok(false),
            None => None,
            Some(mut block) => {
                if present.is_some_and(|present| holds(&tables.read(), present, &block)) {
                    return Ok(false);
                }
                let place = self.records.take(block.len() as u32)?.ok_or(Behind::NoRoom)?;
                relocate(&mut block, place.first);
                tables.write_records(place.first, &block).ok_or(Behind::NoRoom)?;
                Some(place)
            }
        };
        let first = next.map_or(NONE, |block| block.first);
        tables.point(group, GroupPointer::new(first, epoch)).ok_or(Behind::NoGroup(group))?;
        self.blocks[group as usize] = next;
        if let Some(replaced) = present {
            self.records.retire(replaced);
        }
        Ok(true)
    }
}

/// Whether `place` holds these records already.
fn holds(tables: &Reading<'_>, place: Block, block: &[redirector_core::table::ShareRecord]) -> bool {
    let mut block = block.to_vec();
    relocate(&mut block, place.first);
    block.len() == place.len as usize
        && (place.first..).zip(&block).all(|(index, record)| tables.record(index) == Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::{Dataplane, MemoryDataplane};
    use crate::state::new_slots;
    use redirector_core::decide::{Client, Query, decide};
    use redirector_core::verdict::{Reason, Verdict};
    use redirector_plan::compile::compile;
    use redirector_plan::model::{
        ChooseBy, Coverage, DnsAnswer, Network, Pool, Region, Service, Target, Tier,
    };
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    const TARGETS: usize = 24;
    const NEAR: usize = 20;

    /// One service; clients of region `fr` go to targets 0 to 19 (a tree of records), all others to 20 to 23.
    fn network() -> Network {
        let origin = redirector_plan::model::Origin::default;
        let target = |n: usize| Target {
            name: format!("t{n:02}"),
            site: String::new(),
            ipv4: Some(Ipv4Addr::new(192, 0, 2, n as u8 + 1)),
            ipv6: None,
            host: None,
            outcome: redirector_plan::model::Outcome::default(),
            http_port: 80,
            https_port: 443,
            rtsp_port: 554,
            network: 0,
            origin: origin(),
        };
        let pool = |name: &str, members: std::ops::Range<usize>| Pool {
            name: name.into(),
            members: members.map(|target| (target, 1 + target as u32 % 3)).collect(),
            origin: origin(),
        };
        let tier = |region, pool| Tier {
            region,
            pools: vec![(pool, 1)],
            ttl: None,
            within: Some(5000),
            origin: origin(),
        };
        let fr = ["198.51.100.0/24".parse().expect("prefix")].into();
        Network {
            key: [7; 16],
            cdns: vec!["acme".into()],
            regions: vec![Region { name: "fr".into(), prefixes: fr, origin: origin() }],
            targets: (0..TARGETS).map(target).collect(),
            pools: vec![pool("far", NEAR..TARGETS), pool("near", 0..NEAR)],
            coverages: vec![Coverage {
                name: "all".into(),
                tiers: vec![tier(Some(0), 1), tier(None, 0)],
                origin: origin(),
            }],
            services: vec![Service {
                name: "web".into(),
                class: String::new(),
                cdn: 0,
                coverage: 0,
                ttl: 0,
                hint_lifetime: 30,
                choose_by: ChooseBy::Client,
                dns: DnsAnswer::Server,
                https: None,
                srv: None,
                answers: 1,
                policy_class: 0,
                fallback: Vec::new(),
                authorised: None,
                location: None,
                origin: origin(),
            }],
            ..Network::default()
        }
    }

    struct Following {
        compiled: Compiled,
        tables: Arc<LiveTables>,
        live: Live,
        states: Vec<TargetState>,
    }

    impl Following {
        fn new(states: Vec<TargetState>) -> Self {
            let compiled = compile(&network(), &states, 1, &mut new_slots()).expect("compiles");
            let tables = MemoryDataplane::new("test").publish(&compiled.image).expect("memory");
            let live = Live::new(&compiled, &tables).expect("a thread");
            Self { compiled, tables, live, states }
        }

        fn change(&mut self, target: usize, state: TargetState) -> Result<usize, Behind> {
            self.states[target] = state;
            self.live.follow(&self.compiled, &self.tables, &[target], &self.states)
        }

        /// Reason and targets for clients of the region, then for others.
        fn answers(&self) -> Vec<(Reason, Vec<u32>)> {
            let inside = (0..=255).map(|n| Ipv4Addr::new(198, 51, 100, n));
            let outside = (0..=255).map(|n| Ipv4Addr::new(203, 0, n, 9));
            let tables = self.tables.read();
            let service = tables.service(0).expect("service");
            let ask = |client: Ipv4Addr| {
                let client = Client::new(IpAddr::V4(client));
                let query = Query { client, want: 4, ..Query::default() };
                let mut verdict = Verdict::default();
                decide::<_, true>(&query, service, &tables, &mut verdict);
                (verdict.reason, verdict.targets[..verdict.count as usize].to_vec())
            };
            inside.chain(outside).map(ask).collect()
        }

        fn firsts(&self) -> Vec<u32> {
            self.answers().into_iter().map(|(_, targets)| targets[0]).collect()
        }
    }

    const UP: TargetState = TargetState { up: true, factor: 256, round_trip: None };
    const DOWN: TargetState = TargetState { up: false, factor: 256, round_trip: None };

    #[test]
    fn boxes_with_different_histories_answer_alike() {
        let mut old = Following::new(vec![UP; TARGETS]);
        let mut chance = 1u32;
        for _ in 0..400 {
            // Numerical Recipes' generator: any history will do, the same each time.
            chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let state = TargetState {
                up: chance >> 16 & 3 != 0,
                factor: [256, 0, 64][(chance >> 20) as usize % 3],
                round_trip: [None, Some(1000), Some(30_000)][(chance >> 12) as usize % 3],
            };
            old.change((chance >> 24) as usize % TARGETS, state).expect("room");
        }
        let fresh = Following::new(old.states.clone());
        assert_eq!(old.answers(), fresh.answers());
        assert!(old.live.epoch() > 200, "the history was followed, not recompiled");
    }

    #[test]
    fn a_target_that_dies_moves_its_clients_alone_and_they_come_back() {
        let mut one = Following::new(vec![UP; TARGETS]);
        let before = one.firsts();
        let victim = before[0];
        one.change(victim as usize, DOWN).expect("room");
        let after = one.firsts();
        for (was, is) in before.iter().zip(&after) {
            assert_eq!(was == is, *was != victim, "{was} became {is}, {victim} died");
        }
        one.change(victim as usize, UP).expect("room");
        assert_eq!(one.firsts(), before);
    }

    #[test]
    fn the_same_image_published_twice_gives_the_same_answers() {
        let one = Following::new(vec![UP; TARGETS]);
        let again = MemoryDataplane::new("test").publish(&one.compiled.image).expect("memory");
        let before = one.answers();
        assert_eq!(Following { tables: again, ..one }.answers(), before);
    }

    #[test]
    fn a_change_that_no_answer_depends_on_writes_nothing() {
        let mut one = Following::new(vec![UP; TARGETS]);
        assert_eq!(one.live.follow(&one.compiled, &one.tables, &[0], &one.states).expect("room"), 0);
        assert_eq!(one.live.epoch(), 0);
    }

    #[test]
    fn without_room_the_answers_stay_and_the_caller_is_told() {
        let mut one = Following::new(vec![UP; TARGETS]);
        let tables = Arc::clone(&one.tables);
        // Nothing that this reader may look at is used again.
        let _reader = tables.read();
        let mut flips = 0;
        let refused = loop {
            one.states[0] = if flips % 2 == 0 { DOWN } else { UP };
            let before = one.answers();
            match one.live.follow(&one.compiled, &one.tables, &[0], &one.states) {
                Ok(_) => flips += 1,
                Err(error) => {
                    assert_eq!(one.answers(), before);
                    break error;
                }
            }
            assert!(flips < 10_000, "room without end");
        };
        assert!(matches!(refused, Behind::NoRoom), "{refused}");
        assert!(flips >= 2, "every block has room to be written anew twice");
        assert_eq!(one.live.waits(), 1, "the last change alone waited");
    }

    #[test]
    fn a_group_without_usable_targets_says_so_until_one_is_back() {
        let mut one = Following::new(vec![UP; TARGETS]);
        for target in 0..TARGETS {
            one.change(target, DOWN).expect("room");
        }
        assert!(one.answers().iter().all(|(reason, _)| *reason == Reason::NothingUsable));
        one.change(NEAR, UP).expect("room");
        assert!(one.firsts().iter().all(|target| *target == NEAR as u32));
    }
}
