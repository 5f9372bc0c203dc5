//! Objects that have servers of their own, or more than one, in the tables (P-11).
//!
//! An object is one word in a bucket of the table of objects; the servers that it is at are share groups behind those
//! of the coverages. [`Objects`] knows what stands where and tells what to change, so that the image of a generation
//! and its live tables are filled by the same code.

use crate::compile::Compiled;
use crate::model::{Network, Outcome, TargetState};
use crate::shares::{GroupSpec, Kind, Member, TierSpec, records, relocate};
use redirector_core::table::{
    GroupPointer, NONE, OBJECT_ANYWHERE, OBJECT_GROUP, OBJECT_MARK, OBJECT_WIDTH, ObjectBucket,
    TIER_PUBLISHED,
};
use redirector_core::verdict::MAX_ENDPOINTS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most objects at one time that have servers or a width of their own.
pub const MAX_OBJECTS: usize = 4096;
/// Most different sets of servers at one time that objects are at.
pub const MAX_SETS: usize = 512;
/// Most servers of one object.
pub const MAX_WIDTH: usize = MAX_ENDPOINTS;
/// Buckets of the table, where there is a service with such objects: one in sixteen places is taken at most.
const BUCKETS: usize = 8192;

/// What the tables are to know of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// [`object_hash`](redirector_core::decide::object_hash) of it: its service, and what is asked for.
    pub hash: u64,
    /// Servers that it is at, ascending; none: those of its service.
    pub targets: Vec<u16>,
    /// How many of them share its clients, 1 to [`MAX_WIDTH`].
    pub width: u8,
}

/// A change of tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A share group has these servers now; `None`: it is not used any more.
    Group(u32, Option<GroupSpec>),
    /// A place in the table of objects.
    Word {
        /// Which bucket.
        bucket: u32,
        /// Which place in it.
        entry: usize,
        /// What is to stand there.
        word: u64,
    },
}

/// Why an object is not in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// There are too many.
    #[error("{MAX_OBJECTS} objects have servers or a width of their own already; withdraw some")]
    Objects,
    /// There are too many sets of servers.
    #[error(
        "objects are at {MAX_SETS} different sets of servers already; withdraw some, or use the same sets"
    )]
    Sets,
    /// Others have taken its places.
    #[error("the table has no place left where this object can stand; withdraw others")]
    Bucket,
}

/// Whether some service's objects can have servers or a width of their own.
pub(crate) fn has_objects(network: &Network) -> bool {
    network.services.iter().any(|service| service.affinity.is_some())
}

fn able(network: &Network) -> Vec<(Member, [bool; 2])> {
    let targets = &network.targets;
    let able = |(number, target): (usize, &_)| {
        let target: &crate::model::Target = target;
        let fits = |kind: Kind| target.outcome == Outcome::Server && kind.fits(target);
        (Member::new(targets, number, 1), [Kind::Ipv4, Kind::Ipv6].map(fits))
    };
    targets.iter().enumerate().map(able).collect()
}

/// A set of servers in use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    targets: Vec<u16>,
    /// By family.
    specs: [Option<GroupSpec>; 2],
    objects: usize,
}

/// What stands where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// Each target, and whether it can serve either family.
    targets: Vec<(Member, [bool; 2])>,
    /// The first of the groups for sets of servers.
    first: u32,
    buckets: Vec<ObjectBucket>,
    sets: Vec<Option<Set>>,
    /// Sets without objects, longest unused first: a packet that has seen the one before is long done.
    unused: VecDeque<usize>,
    /// By hash: bucket and place in it.
    placed: BTreeMap<u64, (u32, usize)>,
}

impl Objects {
    /// The empty table: of full size if a service has such objects.
    pub(crate) fn new(network: &Network, first: u32) -> Self {
        let any = has_objects(network);
        let (buckets, sets) = if any { (BUCKETS, MAX_SETS) } else { (1, 0) };
        Self {
            targets: able(network),
            first,
            buckets: vec![ObjectBucket::default(); buckets],
            sets: vec![None; sets],
            unused: (0..sets).collect(),
            placed: BTreeMap::new(),
        }
    }

    /// The whole table.
    pub(crate) fn buckets(&self) -> &[ObjectBucket] {
        &self.buckets
    }

    /// Share groups that are kept for sets of servers.
    pub(crate) fn groups(&self) -> usize {
        2 * self.sets.len()
    }

    /// Whether an object is in the table.
    pub fn has(&self, hash: u64) -> bool {
        self.placed.contains_key(&hash)
    }

    /// Objects in the table.
    pub fn len(&self) -> usize {
        self.placed.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.placed.is_empty()
    }

    /// Who is in a group, if it is one of these.
    pub fn spec(&self, group: u32) -> Option<&GroupSpec> {
        let place = group.checked_sub(self.first)? as usize;
        self.sets.get(place / 2)?.as_ref()?.specs[place % 2].as_ref()
    }

    /// Groups with a target.
    pub fn groups_of(&self, target: u16) -> impl Iterator<Item = u32> {
        let used = self.sets.iter().enumerate();
        let with = used.filter(move |(_, set)| set.as_ref().is_some_and(|set| set.targets.contains(&target)));
        with.flat_map(|(place, _)| [0, 1].map(|family| self.first + 2 * place as u32 + family))
    }

    /// Whether there is room for an object that is at these servers.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn check(&self, object: &Object) -> Result<(), Full> {
        let known = self.placed.get(&object.hash);
        if known.is_none() && self.placed.len() >= MAX_OBJECTS {
            return Err(Full::Objects);
        }
        if !object.targets.is_empty() && self.set(&object.targets).is_none() && self.unused.is_empty() {
            return Err(Full::Sets);
        }
        let (bucket, _) = self.place(object.hash);
        let is_free = |words: &ObjectBucket| words.words.contains(&0);
        match known.is_some() || self.buckets.get(bucket as usize).is_some_and(is_free) {
            true => Ok(()),
            false => Err(Full::Bucket),
        }
    }

    /// Makes these the objects of the table. Gives the changes in the order in which they are to be made, and what could
    /// not be taken in.
    pub fn settle(&mut self, wanted: &[Object]) -> (Vec<Change>, Vec<(Object, Full)>) {
        let (mut changes, mut left) = (Vec::new(), Vec::new());
        let names: BTreeSet<u64> = wanted.iter().map(|one| one.hash).collect();
        let gone: Vec<_> = self.placed.keys().filter(|known| !names.contains(known)).copied().collect();
        for name in gone {
            self.remove(name, &mut changes);
        }
        for object in wanted {
            if let Err(full) = self.put(object, &mut changes) {
                left.push((object.clone(), full));
            }
        }
        (changes, left)
    }

    fn put(&mut self, object: &Object, changes: &mut Vec<Change>) -> Result<(), Full> {
        let name = object.hash;
        self.check(object)?;
        let group = match self.set(&object.targets) {
            _ if object.targets.is_empty() => OBJECT_ANYWHERE,
            Some(place) => u64::from(self.first) + 2 * place as u64,
            None => self.open(&object.targets, changes)?,
        };
        let (bucket, mark) = self.place(name);
        let width = u64::from(object.width.clamp(1, MAX_WIDTH as u8) - 1);
        let word = mark | width << OBJECT_WIDTH | group;
        let words = &mut self.buckets[bucket as usize].words;
        let held = self.placed.get(&name).map(|(_, entry)| *entry);
        let entry = held.or_else(|| words.iter().position(|word| *word == 0)).ok_or(Full::Bucket)?;
        let before = std::mem::replace(&mut words[entry], word);
        if before == word {
            return Ok(());
        }
        self.placed.insert(name, (bucket, entry));
        changes.push(Change::Word { bucket, entry, word });
        self.count(group, 1);
        if before != 0 {
            self.count(before & OBJECT_GROUP, -1);
            self.close(before & OBJECT_GROUP, changes);
        }
        Ok(())
    }

    fn remove(&mut self, name: u64, changes: &mut Vec<Change>) {
        let Some((bucket, entry)) = self.placed.remove(&name) else { return };
        let word = std::mem::take(&mut self.buckets[bucket as usize].words[entry]);
        changes.push(Change::Word { bucket, entry, word: 0 });
        self.count(word & OBJECT_GROUP, -1);
        self.close(word & OBJECT_GROUP, changes);
    }

    /// Bucket and mark of an object.
    fn place(&self, hash: u64) -> (u32, u64) {
        (hash as u32 & (self.buckets.len() as u32 - 1), hash & OBJECT_MARK)
    }

    fn set(&self, targets: &[u16]) -> Option<usize> {
        self.sets.iter().position(|set| set.as_ref().is_some_and(|set| set.targets == targets))
    }

    fn of_group(&mut self, group: u64) -> Option<(usize, &mut Option<Set>)> {
        let place = (group.checked_sub(self.first.into())? / 2) as usize;
        Some((place, self.sets.get_mut(place)?))
    }

    fn count(&mut self, group: u64, more: isize) {
        if let Some((_, Some(set))) = self.of_group(group) {
            set.objects = set.objects.saturating_add_signed(more);
        }
    }

    /// A set that is not in use yet: its number.
    fn open(&mut self, targets: &[u16], changes: &mut Vec<Change>) -> Result<u64, Full> {
        let place = self.unused.pop_front().ok_or(Full::Sets)?;
        let specs = [Kind::Ipv4, Kind::Ipv6].map(|kind| self.group_spec(targets, kind));
        let group = self.first + 2 * place as u32;
        for (family, spec) in (0..).zip(&specs) {
            changes.push(Change::Group(group + family, spec.clone()));
        }
        self.sets[place] = Some(Set { targets: targets.to_vec(), specs, objects: 0 });
        Ok(group.into())
    }

    /// Ends a set that no object is at any more.
    fn close(&mut self, group: u64, changes: &mut Vec<Change>) {
        let first = self.first;
        let Some((place, set)) = self.of_group(group) else { return };
        if set.take_if(|set| set.objects == 0).is_some() {
            self.unused.push_back(place);
            changes.extend([0, 1].map(|family| Change::Group(first + 2 * place as u32 + family, None)));
        }
    }

    fn group_spec(&self, targets: &[u16], kind: Kind) -> Option<GroupSpec> {
        let family = usize::from(kind == Kind::Ipv6);
        let found = targets.iter().filter_map(|target| self.targets.get(*target as usize));
        let members: Vec<Member> =
            found.filter(|(_, able)| able[family]).map(|(member, _)| *member).collect();
        let tier = |members: Vec<Member>| TierSpec::plain(TIER_PUBLISHED, members.into());
        (!members.is_empty()).then(|| GroupSpec { tiers: vec![tier(members)], spills: false })
    }
}

impl Compiled {
    /// Puts objects into the image, under the states that it was compiled with. Gives those for which there is no room.
    pub fn place_objects(&mut self, wanted: &[Object], states: &[TargetState]) -> Vec<(Object, Full)> {
        let (changes, left) = self.objects.settle(wanted);
        for change in changes {
            match change {
                Change::Word { bucket, entry, word } => {
                    self.image.objects[bucket as usize].words[entry] = word;
                }
                Change::Group(group, spec) => {
                    let block = spec.and_then(|spec| records(&spec, states));
                    let pointer = match block {
                        Some(mut block) => {
                            let first = self.records_used;
                            relocate(&mut block, first);
                            self.image.records[first as usize..][..block.len()].copy_from_slice(&block);
                            self.records_used += block.len() as u32;
                            first
                        }
                        None => NONE,
                    };
                    self.image.groups[group as usize] = GroupPointer::new(pointer, 0);
                }
            }
        }
        left
    }
}
