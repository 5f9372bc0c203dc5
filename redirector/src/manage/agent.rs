//! The agent: configuration, health and load become the tables that packets are answered from.
//!
//! A new configuration becomes a new generation, published in one step; changes of health and load are followed within
//! the generation ([`crate::state::live`]). Whatever fails, the last good generation goes on.

use super::built::BuildReport;
use super::view::View;
use crate::accounts::keeper::Keeper;
use crate::config::{self, BoxSettings, Config, ConfigErrors};
use crate::dataplane::{self, Dataplane, Mode, TestRun};
use crate::feed::health::{Prober, Report, WatchId};
use crate::front::{BindError, Front, Ports, Shared};
use crate::state::agreements::{Book, Decisions, unix_now};
use crate::state::disk::{LastGood, StateDir};
use crate::state::facts::{self, Fact};
use crate::state::forces::Forces;
use crate::state::live::{Behind, Live};
use crate::state::{Current, Generation, new_slots};
use arc_swap::ArcSwap;
use redirector_plan::compile::{Compiled, compile};
use redirector_plan::counters::CounterSlots;
use redirector_plan::model::Outcome::OwnServers;
use redirector_plan::refusal::Refusal;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

/// How long a generation waits for the first outcomes of checks that are new in it. A target without one by then is
/// taken to be up until it has one.
const FIRST_CHECKS: Duration = Duration::from_secs(2);
/// Reports of changed health that wait to be taken in; probes wait when there are more.
const REPORTS: usize = 1024;
/// How often the fast path is told that this process is well; the shortest `max_age` is three of these.
const TEND: Duration = Duration::from_secs(1);
/// How long connections may take to end their request when the box ends.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a run was told on its command line.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration.
    pub config: PathBuf,
    /// Where state is kept between runs.
    pub state: PathBuf,
    /// Sockets alone, whatever the configuration says.
    pub no_xdp: bool,
}

/// Why a configuration did not become the current generation.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// It is more than tables can hold.
    #[error("{}", lines(.0))]
    Compile(Vec<Refusal>),
    /// The tables could not be put in place, or the sockets not be opened.
    #[error("{0}")]
    Publish(#[from] io::Error),
}

fn lines(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("\n")
}

impl LoadError {
    /// One line for each finding: file, line and column where there are some, what is wrong, what would be right.
    pub fn findings(&self) -> Vec<String> {
        self.to_string().lines().map(str::to_owned).collect()
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Agent {
    options: Options,
    /// What the fast path was started with.
    started: BoxSettings,
    pub(super) disk: StateDir,
    pub(super) current: Current,
    /// What the sockets share, counters among it.
    pub(super) shared: Arc<Shared>,
    /// One change of generation at a time, and the sockets that follow it; `None` before the first and after the end.
    pub(super) front: tokio::sync::Mutex<Option<Front>>,
    inner: Mutex<Inner>,
    /// One change of what operators say at a time: what is on disk is what holds.
    pub(super) saying: Mutex<()>,
    /// The tables could not follow; a new generation is wanted.
    behind: Notify,
    /// Who keeps accounts, once the box is up.
    pub(super) keeper: OnceLock<Keeper>,
}

pub(super) struct Inner {
    pub(super) dataplane: Box<dyn Dataplane>,
    prober: Prober,
    pub(super) slots: CounterSlots,
    pub(super) facts: Vec<Fact>,
    pub(super) book: Book,
    pub(super) forces: Forces,
    /// Why what operators said in earlier runs is not known.
    pub(super) forces_lost: Option<String>,
    /// Target of each series of probes.
    watches: HashMap<WatchId, usize>,
    pub(super) live: Live,
    refused: Vec<String>,
    built: BuildReport,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("mode", &self.dataplane.mode()).field("live", &self.live).finish()
    }
}

/// A configuration with what was decided at run time, and how long it took to read it.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) read: Duration,
    pub(super) book: Book,
}

/// What a new generation is made of.
struct Prepared {
    config: Config,
    built: BuildReport,
    compiled: Compiled,
    slots: CounterSlots,
    facts: Vec<Fact>,
    book: Book,
    forces: Forces,
}

impl Agent {
    /// Makes the first generation: of the configuration, or of the last good state if that cannot be used.
    ///
    /// # Errors
    /// If neither can, or the fast path that the configuration insists on cannot be had.
    pub async fn start(options: Options) -> Result<Arc<Self>, LoadError> {
        let disk = StateDir::open(&options.state)?;
        let last = disk.load().unwrap_or_else(|problem| {
            error!("the last good state is ignored: {problem}");
            None
        });
        let book = Book::new(disk.load_decisions().unwrap_or_else(|problem| {
            error!("what was decided about agreements at run time is ignored: {problem}");
            Decisions::new()
        }));
        let (forces, forces_lost) = super::forces::load(&disk);
        let slots = last.as_ref().map_or_else(new_slots, |last| last.slots.clone());
        let number = last.as_ref().map_or(0, |last| last.generation) + 1;
        let (sender, reports) = mpsc::channel(REPORTS);
        let prober = Prober::new(sender);
        let loaded = load(&options, last.as_ref().map(|last| last.network().clone()), book.clone()).await;
        let prepared = match loaded {
            Ok(loaded) => prepare(loaded, &[], forces.clone(), false, &prober, slots.clone(), number).await,
            Err(refused) => Err(refused),
        };
        let new_slots = last.is_none();
        if let (Ok(prepared), Some(last)) = (&prepared, &last) {
            keep_slots(&disk, last, &prepared.slots);
        }
        let (prepared, failure) = match (prepared, last) {
            (Ok(prepared), _) => (prepared, None),
            (Err(refused), None) => return Err(refused),
            (Err(refused), Some(last)) => {
                error!(
                    "the configuration is refused; running on the last good state, of generation {}",
                    last.generation
                );
                let config = last.config();
                let mut book = book;
                book.keep(&config.network);
                let loaded = Loaded { config, read: Duration::ZERO, book };
                (prepare(loaded, &[], forces, false, &prober, slots, number).await?, Some(refused))
            }
        };
        let agent = Arc::new(Self::publish_first(options, disk, prober, prepared, new_slots)?);
        let (front, unbound) = Front::start(Arc::clone(&agent.shared)).await;
        *agent.front.lock().await = Some(front);
        agent.inner().forces_lost = forces_lost;
        if let Some(refused) = &failure {
            agent.note_refusal(refused);
        }
        agent.note_unbound(&unbound);
        // Of the last good state, too: numbers of generations grow.
        agent.save().await;
        agent.keep_accounts()?;
        tokio::spawn(Arc::clone(&agent).follow_reports(reports));
        tokio::spawn(Arc::clone(&agent).catch_up());
        tokio::spawn(Arc::clone(&agent).tend());
        tokio::spawn(Arc::clone(&agent).keep_agreements());
        tokio::spawn(Arc::clone(&agent).keep_forces());
        Ok(agent)
    }

    fn publish_first(
        options: Options,
        disk: StateDir,
        mut prober: Prober,
        prepared: Prepared,
        new_slots: bool,
    ) -> Result<Self, LoadError> {
        let Prepared { config, mut built, mut compiled, slots, mut facts, book, forces } = prepared;
        let diversions = forces.diversions(&config.network);
        let (dataplane, tables) = compiled.with_diverted(&diversions, |image| {
            dataplane::start(&config.box_, options.no_xdp, new_slots, image)
        })?;
        let live = Live::new(&compiled, &tables)?.with_diverted(diversions);
        let refused = config.refused.iter().map(ToString::to_string).collect();
        let watches = watch_all(&mut facts, &mut prober);
        let started = config.box_.clone();
        built.publish(&compiled.image, dataplane.times());
        let generation = Generation::new(config, compiled, tables);
        announce(&generation, &built, &dataplane.mode());
        let inner = Inner {
            dataplane,
            prober,
            slots,
            facts,
            book,
            forces,
            forces_lost: None,
            watches,
            live,
            refused,
            built,
        };
        let current = Arc::new(ArcSwap::from_pointee(generation));
        Ok(Self {
            options,
            started,
            disk,
            shared: Shared::new(Arc::clone(&current), Ports::default()),
            current,
            front: tokio::sync::Mutex::default(),
            inner: Mutex::new(inner),
            saying: Mutex::default(),
            behind: Notify::new(),
            keeper: OnceLock::new(),
        })
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock is left half done by a panic that could be worse than stopping to follow health.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that reports need, at one moment.
    ///
    /// # Errors
    /// If the fast path's counters cannot be read.
    pub fn view(&self) -> io::Result<View> {
        let inner = self.inner();
        let lost = inner.forces_lost.iter();
        Ok(View {
            generation: self.current.load_full(),
            epoch: inner.live.epoch(),
            record_waits: inner.live.waits(),
            facts: inner.facts.clone(),
            book: inner.book.clone(),
            slots: inner.slots.clone(),
            mode: inner.dataplane.mode(),
            fast: inner.dataplane.counters()?,
            slow: self.shared.counters.snapshot(),
            forces: inner.forces.clone(),
            refused: lost.chain(&inner.refused).cloned().collect(),
            built: inner.built,
        })
    }

    /// What the fast path makes of a frame; `None` if it is off.
    ///
    /// # Errors
    /// If the test run fails.
    pub fn test_run(&self, frame: &[u8]) -> io::Result<Option<TestRun>> {
        self.inner().dataplane.test_run(frame)
    }

    /// Reads the configuration again and makes it the current generation; gives its number.
    ///
    /// # Errors
    /// Why it was refused; the generation before stays.
    pub async fn reload(&self) -> Result<u64, LoadError> {
        let mut front = self.front.lock().await;
        let last = self.current.load_full();
        let (book, mut network) = (self.inner().book.clone(), last.config.network.clone());
        // What was decided at run time is put into it anew.
        network.peering.agreements = book.written(&network);
        let adopted = match load(&self.options, Some(network), book).await {
            Ok(loaded) => self.adopt(loaded, false, &mut front).await,
            Err(refused) => Err(refused),
        };
        match &adopted {
            Ok(_) => {
                self.save().await;
                self.save_decisions().await;
            }
            Err(refused) => {
                error!("the configuration is refused; generation {} goes on", last.number);
                self.note_refusal(refused);
            }
        }
        drop(last);
        give_back_memory().await;
        adopted
    }

    /// Publishes a configuration as the next generation.
    pub(super) async fn adopt(
        &self,
        loaded: Loaded,
        keep_load: bool,
        front: &mut Option<Front>,
    ) -> Result<u64, LoadError> {
        let number = self.current.load().number + 1;
        let prepared = {
            let inner = self.inner();
            let (forces, slots) = (inner.forces.clone(), inner.slots.clone());
            prepare(loaded, &inner.facts, forces, keep_load, &inner.prober, slots, number)
        };
        let prepared = prepared.await?;
        self.keep_slots(&prepared.slots).await;
        self.publish(prepared)?;
        if let Some(front) = front {
            let unbound = front.rebind(&self.current.load_full()).await;
            self.note_unbound(&unbound);
        }
        Ok(number)
    }

    fn publish(&self, prepared: Prepared) -> Result<(), LoadError> {
        let Prepared { config, mut built, mut compiled, slots, mut facts, mut book, .. } = prepared;
        let mut guard = self.inner();
        let inner = &mut *guard;
        let diversions = inner.forces.diversions(&config.network);
        let tables = compiled.with_diverted(&diversions, |image| inner.dataplane.publish(image))?;
        let compiled_with = facts::states(&facts);
        // What was learnt while the tables were being made.
        for fact in &mut facts {
            if let Some(known) = fact.watch.and_then(|watch| inner.facts.get(*inner.watches.get(&watch)?)) {
                *fact = Fact { factor: fact.factor, ..known.clone() };
            }
        }
        book.take_flows(&inner.book);
        book.apply(&config.network, &mut facts, unix_now());
        inner.forces.apply(&config.network, &mut facts);
        let states = facts::states(&facts);
        let changed: Vec<usize> = (0..states.len()).filter(|n| states[*n] != compiled_with[*n]).collect();
        let mut live = Live::new(&compiled, &tables)?.with_diverted(diversions);
        let followed = live.follow(&compiled, &tables, &changed, &states);
        let ended = std::mem::take(&mut inner.watches);
        inner.watches = watch_all(&mut facts, &mut inner.prober);
        for watch in ended.into_keys().filter(|watch| !inner.watches.contains_key(watch)) {
            inner.prober.end(watch);
        }
        inner.refused = config.refused.iter().map(ToString::to_string).collect();
        inner.refused.extend(waits_for_start(&self.started, &config.box_));
        (inner.slots, inner.facts, inner.live, inner.book) = (slots, facts, live, book);
        built.publish(&compiled.image, inner.dataplane.times());
        let generation = Arc::new(Generation::new(config, compiled, tables));
        announce(&generation, &built, &inner.dataplane.mode());
        inner.built = built;
        self.current.store(generation);
        self.note_follow(followed);
        Ok(())
    }

    /// Ends what answers clients.
    pub async fn stop(self: &Arc<Self>) {
        if let Some(front) = self.front.lock().await.take() {
            front.stop(PATIENCE).await;
        }
        let agent = Arc::clone(self);
        let ending = spawn_blocking(move || agent.keeper.get().map(Keeper::end));
        if let Err(panic) = ending.await {
            error!("what was counted last is not booked: {panic}");
        }
    }

    /// Sets the load factor of a target (0..=256) until the next reload.
    ///
    /// # Errors
    /// If there is no such target, or the factor is out of range.
    pub fn set_factor(&self, target: &str, factor: u16) -> Result<(), String> {
        if factor > facts::FULL {
            return Err(format!("factor {factor}: use 0 (no new clients) to {} (full share)", facts::FULL));
        }
        let mut inner = self.inner();
        let Some(index) = inner.facts.iter().position(|fact| fact.name == target) else {
            return Err(format!("there is no target {target:?}; `redirector stats` lists them"));
        };
        if self.current.load().config.network.targets.get(index).is_some_and(|one| one.outcome == OwnServers)
        {
            return Err(format!(
                "{target} stands for an agreement or network: `redirector agreement` is for those"
            ));
        }
        inner.facts[index].factor = factor;
        info!("target {target}: load factor {factor}/256");
        self.follow(&mut inner, &[index]);
        Ok(())
    }

    /// Takes changes of health in.
    fn learn(&self, reports: Vec<Report>) {
        let mut inner = self.inner();
        let mut changed = Vec::new();
        for Report { watch, outcome } in reports {
            // Probes of a generation before may report late.
            let Some(index) = inner.watches.get(&watch).copied() else { continue };
            let fact = &mut inner.facts[index];
            match &outcome {
                Ok(_) if fact.up => {}
                Ok(_) => info!("target {} is up", fact.name),
                Err(error) => warn!("target {} is down: {error}", fact.name),
            }
            fact.learn(outcome);
            changed.push(index);
        }
        self.follow(&mut inner, &changed);
    }

    pub(super) fn follow(&self, inner: &mut Inner, targets: &[usize]) {
        let current = self.current.load();
        let states = facts::states(&inner.facts);
        let followed = inner.live.follow(&current.compiled, &current.tables, targets, &states);
        self.note_follow(followed);
    }

    pub(super) fn note_follow(&self, followed: Result<usize, Behind>) {
        if let Err(behind) = followed {
            warn!("tables cannot follow health and load: {behind}; making a new generation");
            self.behind.notify_one();
        }
    }

    fn note_refusal(&self, refused: &LoadError) {
        let findings = refused.findings();
        for finding in &findings {
            error!("{finding}");
        }
        self.inner().refused = findings;
    }

    fn note_unbound(&self, errors: &[BindError]) {
        for error in errors {
            error!("{error}");
        }
        self.inner().refused.extend(errors.iter().map(ToString::to_string));
    }

    /// Keeps the current generation for the next run. A failure is logged: this run goes on without.
    pub(super) async fn save(&self) {
        let generation = self.current.load_full();
        let (disk, slots) = (self.disk.clone(), self.inner().slots.clone());
        let saving =
            spawn_blocking(move || disk.save(&LastGood::new(generation.number, &generation.config, &slots)));
        match saving.await.map_err(io::Error::other) {
            Ok(Ok(())) => {}
            Ok(Err(problem)) | Err(problem) => error!("the last good state is not kept: {problem}"),
        }
    }

    /// Keeps new names' counter slots before anything is counted in them: whatever happens then, what they counted is
    /// theirs.
    async fn keep_slots(&self, slots: &CounterSlots) {
        if self.inner().slots == *slots {
            return;
        }
        let (disk, generation, slots) = (self.disk.clone(), self.current.load_full(), slots.clone());
        let saving =
            spawn_blocking(move || disk.save(&LastGood::new(generation.number, &generation.config, &slots)));
        match saving.await.map_err(io::Error::other) {
            Ok(Ok(())) => {}
            Ok(Err(problem)) | Err(problem) => error!("names of counters are not kept: {problem}"),
        }
    }

    /// Keeps what was decided about agreements at run time. A failure is logged: this run goes on without.
    pub(super) async fn save_decisions(&self) {
        let (disk, decisions) = (self.disk.clone(), self.inner().book.decisions().clone());
        let saving = spawn_blocking(move || disk.save_decisions(&decisions));
        match saving.await.map_err(io::Error::other) {
            Ok(Ok(())) => {}
            Ok(Err(problem)) | Err(problem) => error!("decisions about agreements are not kept: {problem}"),
        }
    }

    async fn follow_reports(self: Arc<Self>, mut reports: mpsc::Receiver<Report>) {
        loop {
            let mut batch = Vec::new();
            if reports.recv_many(&mut batch, REPORTS).await == 0 {
                return;
            }
            let agent = Arc::clone(&self);
            if let Err(panic) = spawn_blocking(move || agent.learn(batch)).await {
                error!("health reports were lost: {panic}");
            }
        }
    }

    /// Keeps the fast path answering while this process is well.
    async fn tend(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TEND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let agent = Arc::clone(&self);
            match spawn_blocking(move || agent.inner().dataplane.tend()).await.map_err(io::Error::other) {
                Ok(Ok(())) => {}
                Ok(Err(problem)) | Err(problem) => {
                    error!("the fast path cannot be kept answering: {problem}")
                }
            }
        }
    }

    /// Publishes the current configuration anew when tables could not follow.
    async fn catch_up(self: Arc<Self>) {
        loop {
            self.behind.notified().await;
            let mut front = self.front.lock().await;
            let (config, book) = (self.current.load().config.clone(), self.inner().book.clone());
            let loaded = Loaded { config, read: Duration::ZERO, book };
            match self.adopt(loaded, true, &mut front).await {
                Ok(_) => self.save().await,
                Err(problem) => error!("no new generation, health and load are not followed: {problem}"),
            }
            give_back_memory().await;
        }
    }
}

/// As [`Agent::keep_slots`], before the first generation.
fn keep_slots(disk: &StateDir, last: &LastGood, slots: &CounterSlots) {
    if last.slots != *slots
        && let Err(problem) = disk.save(&last.with_slots(slots))
    {
        error!("names of counters are not kept: {problem}");
    }
}

/// Starts probes for the facts that have none; gives the targets of all.
fn watch_all(facts: &mut [Fact], prober: &mut Prober) -> HashMap<WatchId, usize> {
    let mut watches = HashMap::new();
    for (index, fact) in facts.iter_mut().enumerate() {
        if let Some(subject) = &fact.subject {
            let (up, round_trip) = (fact.up, fact.round_trip);
            let watch = *fact.watch.get_or_insert_with(|| prober.watch(subject.clone(), up, round_trip));
            watches.insert(watch, index);
        }
    }
    watches
}

async fn load(
    options: &Options,
    last: Option<redirector_plan::model::Network>,
    mut book: Book,
) -> Result<Loaded, LoadError> {
    let began = Instant::now();
    let path = options.config.clone();
    let loaded = spawn_blocking(move || config::load_keeping(&path, last.as_ref()));
    let mut config = loaded.await.map_err(io::Error::other)??;
    for name in book.read(&mut config.network, config.box_.quota) {
        info!("the configuration says something new of agreement {name}: it decides from now on");
    }
    let config = config.with_stand_ins();
    for finding in config.warnings.iter().chain(&config.refused) {
        warn!("{finding}");
    }
    Ok(Loaded { config, read: began.elapsed(), book })
}

/// Waits for the first outcomes of new checks, and compiles. Not an `async fn`, so that the caller's locks are free
/// while it waits.
fn prepare(
    Loaded { config, read, book }: Loaded,
    known: &[Fact],
    forces: Forces,
    keep_load: bool,
    prober: &Prober,
    mut slots: CounterSlots,
    number: u64,
) -> impl Future<Output = Result<Prepared, LoadError>> + Send + use<> {
    let mut facts = facts::carry_over(&config, known, keep_load);
    book.apply(&config.network, &mut facts, unix_now());
    forces.apply(&config.network, &mut facts);
    let unknown = facts.iter().enumerate().filter(|(_, fact)| fact.watch.is_none());
    let unknown = unknown.filter_map(|(index, fact)| Some((index, fact.subject.clone()?))).collect();
    let outcomes = prober.first_outcomes(unknown, FIRST_CHECKS);
    async move {
        let checking = Instant::now();
        for (index, outcome) in outcomes.await {
            if let Err(error) = &outcome {
                warn!("target {} is down: {error}", facts[index].name);
            }
            facts[index].learn(outcome);
        }
        let checks = checking.elapsed();
        let compiling = spawn_blocking(move || {
            let began = Instant::now();
            let mut compiled = compile(&config.network, &facts::states(&facts), number, &mut slots)?;
            compiled.image.meta.limits = config.limits.rates.rates();
            let built = BuildReport::prepared(read, checks, began.elapsed());
            Ok(Prepared { config, built, compiled, slots, facts, book, forces })
        });
        compiling.await.map_err(io::Error::other)?.map_err(LoadError::Compile)
    }
}

/// Gives back to the system what the making of a generation needed for a while: it is as much as the tables, and the
/// allocator keeps it.
async fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: gives back pages that no allocation lies in, and takes a number alone.
    let trimming = spawn_blocking(|| unsafe { libc::malloc_trim(0) });
    #[cfg(target_env = "gnu")]
    // Whether there was anything to give back.
    let _ = trimming.await;
}

/// What of a new configuration's `[box]` the running box cannot take in.
fn waits_for_start(running: &BoxSettings, written: &BoxSettings) -> Option<String> {
    let same = (running.xdp, &running.interfaces) == (written.xdp, &written.interfaces);
    let finding =
        "[box]: `xdp` and `interfaces` are as they were when the box started; restart it to change them";
    (!same).then(|| {
        warn!("{finding}");
        finding.to_owned()
    })
}

fn announce(generation: &Generation, built: &BuildReport, mode: &Mode) {
    let network = &generation.config.network;
    info!(
        "generation {}: {} services, {} zones, {} regions, {} targets",
        generation.number,
        network.services.len(),
        network.zones.len(),
        network.regions.len(),
        network.targets.len()
    );
    info!("{built}");
    match mode {
        Mode::Native => info!("fast path: XDP in the network driver"),
        Mode::Generic => warn!("fast path: XDP in the kernel's generic hook, slower than in the driver"),
        Mode::Off(reason) => warn!("fast path: none, sockets alone: {reason}"),
    }
}
