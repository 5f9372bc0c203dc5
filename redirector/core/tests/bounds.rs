//! What a message costs (P-21, A-5, invariant 6): no memory, and work that its length bounds, whatever it says.

use redirector_core::decide::Client;
use redirector_core::limit::Unlimited;
use redirector_core::table::Tables;
use redirector_core::verdict::Reason;
use redirector_core::wire::frame::{Room, process};
use redirector_core::wire::{Action, Asked, Buffer, Message, Scratch, Word, cdsr, dns};
use redirector_tests::frames::{Flow, VecFrame};
use redirector_tests::generate::{Generator, Random};
use redirector_tests::invariants::{IMAGE, flow};
use redirector_tests::networks::rich;
use redirector_tests::questions::{CdsrRequest, DnsQuery, Edns, Opinion, rr};
use redirector_tests::slow::{self, DNS_PORT};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
struct Counting;

// SAFETY: everything is left to the system's allocator; the count allocates nothing and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps to the trait's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` asks for memory.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Messages of every kind, sound and damaged, and the most laborious that the protocols allow.
fn messages() -> Vec<(Flow, Vec<u8>)> {
    let (network, _) = rich();
    let mut random = Random::new(21);
    let generated = Generator::new(&network, &*IMAGE, 20).take(6_000).map(|case| (case.flow, case.payload));
    let mut messages: Vec<(Flow, Vec<u8>)> = generated.collect();
    let damaged = messages.clone().into_iter().map(|(flow, mut message)| {
        let place = random.below(message.len());
        message[place] ^= 1 << random.below(8);
        (flow, message)
    });
    messages.extend(damaged.collect::<Vec<_>>());
    messages.extend(laborious());
    messages
}

/// The longest and most divided names and URLs, every option, every server failed, and the deepest choices.
fn laborious() -> Vec<(Flow, Vec<u8>)> {
    let labels = ["a"; 120].join(".") + ".acme.net";
    let long = [&*"x".repeat(63), &"y".repeat(63), &"z".repeat(63), &"w".repeat(40)].join(".") + ".acme.net";
    let options = (0..250).fold(Edns::new(true), |edns, code| edns.option(100 + code, b""));
    let mut found = Vec::new();
    for v6 in [false, true] {
        for name in [&labels, &long, "x.vast.cdn.acme.net", "x.later.cdn.acme.net", "x.nothing.cdn.acme.net"]
        {
            for qtype in [rr::A, rr::AAAA, rr::ANY, rr::TXT] {
                let query = DnsQuery::new(name, qtype).edns(options.clone());
                found.push((flow(v6, DNS_PORT), query.encode()));
            }
        }
        let slashes = "/".repeat(900);
        let dots = ["a"; 120].join(".");
        for host in [&*dots, "vast.acme.net", "later.acme.net", "abc.web.cdn.acme.net", "fallback.acme.net"] {
            for opinion in [Opinion::Failed, Opinion::Preferred] {
                let url = &format!("http://{host}{slashes}")[..1024.min(7 + host.len() + 900)];
                found.push((flow(v6, cdsr::PORT), exhausting(url, opinion, v6)));
            }
        }
    }
    found
}

/// A request that names eight servers of the answers before it: all that a request can hold.
fn exhausting(url: &str, opinion: Opinion, v6: bool) -> Vec<u8> {
    let mut servers: Vec<(IpAddr, Opinion)> = Vec::new();
    while servers.len() < 8 {
        let request = CdsrRequest { servers: servers.clone(), length: 1400, ..CdsrRequest::new(url) };
        let outcome = slow::answer(&*IMAGE, &flow(v6, cdsr::PORT), &request.encode()).expect("CDSR");
        let reply = redirector_tests::questions::CdsrReply::read(outcome.reply().expect("a reply"));
        let fresh: Vec<IpAddr> =
            reply.expect("a sound reply").endpoints.iter().map(|end| end.address).collect();
        let known = |address: &IpAddr| servers.iter().any(|server| server.0 == *address);
        match fresh.into_iter().find(|address| !known(address)) {
            Some(address) => servers.push((address, opinion)),
            None => servers.push(([192, 0, 2, 200 + servers.len() as u8].into(), opinion)),
        }
    }
    let request = CdsrRequest { servers, max_endpoints: 8, length: 1400, ..CdsrRequest::new(url) };
    request.encode()
}

/// Answers as the slow path does.
fn respond<M: Message, T: Tables>(message: &mut M, flow: &Flow, tables: &T, scratch: &mut Scratch) -> Action {
    let Some(vip) = slow::vip(&*IMAGE, flow.vip.ip()) else { return Action::Ignore };
    let asked = Asked {
        vip: &vip,
        client: Client::new(flow.client.ip()),
        port: flow.client.port(),
        room: dns::UDP_LIMIT.into(),
    };
    match flow.vip.port() {
        DNS_PORT => dns::respond::<_, _, true>(message, &asked, tables, scratch),
        _ => cdsr::respond::<_, _, true>(message, &asked, tables, scratch),
    }
}

#[test]
fn no_message_makes_the_program_allocate() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0; 7]))), 1, "the count counts");
    let (mut scratch, mut room) = (Box::<Scratch>::default(), Box::<Room>::default());
    let mut answered = 0;
    for (flow, message) in messages() {
        let mut bytes = [&message[..], &[0; dns::MAX_REPLY]].concat();
        let mut buffer = Buffer::new(&mut bytes, message.len());
        let slow = allocations(|| {
            answered += usize::from(respond(&mut buffer, &flow, &*IMAGE, &mut scratch) == Action::Reply);
        });
        let mut frame = VecFrame::new(&[&flow.frame(&message)[..], &[0; 2048]].concat());
        let fast = allocations(|| {
            process(&mut frame, &*IMAGE, &mut Unlimited, &mut room);
        });
        assert_eq!((slow, fast), (0, 0), "{message:02x?}");
    }
    assert!(answered > 10_000, "{answered} answered");
}

/// Tables that count how often they are asked.
struct Watched(Cell<usize>);

macro_rules! watched {
    ($($name:ident($($index:ident)?) -> $value:ty;)+) => {
        impl Tables for Watched {
            fn unix_seconds(&self) -> u32 {
                IMAGE.unix_seconds()
            }
            $(fn $name(&self $(, $index: u32)?) -> Option<$value> {
                self.0.set(self.0.get() + 1);
                IMAGE.$name($($index)?)
            })+
        }
    };
}
redirector_tests::each_table!(watched);

/// A message that counts how often it is read or written.
struct Touched<'b>(Buffer<'b>, Cell<usize>);

impl Touched<'_> {
    fn note(&self) {
        self.1.set(self.1.get() + 1);
    }
}

impl Message for Touched<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        self.note();
        self.0.load(at)
    }
    fn begin_reply(&mut self, keep: usize, len: usize) -> Result<(), Reason> {
        self.note();
        self.0.begin_reply(keep, len)
    }
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.note();
        self.0.block(at)
    }
    fn replace_head(&mut self, old: [u32; 3], new: [u32; 3]) -> Option<()> {
        self.note();
        self.0.replace_head(old, new)
    }
    fn append_words<const BYTES: usize, const WORDS: usize>(
        &mut self,
        at: usize,
        words: [u64; WORDS],
    ) -> Option<()> {
        self.note();
        self.0.append_words::<BYTES, WORDS>(at, words)
    }
    fn replace<W: Word>(&mut self, at: usize, old: W, new: W) -> Option<()> {
        self.note();
        self.0.replace(at, old, new)
    }
    fn append<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        self.note();
        self.0.append(at, value)
    }
}

/// Table look-ups for one message at most.
const LOOKUPS: usize = 300;
/// Reads and writes of a message beside those that its length and its reply's explain.
const TOUCHES: usize = 16;

/// The bounds are those of the slow path; the fast path's are the verifier's to prove.
#[test]
fn work_for_a_message_is_bounded_by_its_length() {
    let mut most = (0, 0);
    let mut scratch = Box::<Scratch>::default();
    for (flow, message) in messages() {
        let mut bytes = [&message[..], &[0; dns::MAX_REPLY]].concat();
        let mut touched = Touched(Buffer::new(&mut bytes, message.len()), Cell::default());
        let watched = Watched(Cell::default());
        respond(&mut touched, &flow, &watched, &mut scratch);
        let explained = message.len().max(touched.len());
        let (lookups, touches) = (watched.0.get(), touched.1.get());
        most = (most.0.max(lookups), most.1.max(touches.saturating_sub(explained)));
        assert!(lookups <= LOOKUPS, "{lookups} look-ups for {message:02x?}");
        assert!(touches <= explained + TOUCHES, "{touches} reads and writes of {message:02x?}");
    }
    println!("at most {} look-ups, and {} reads and writes more than bytes", most.0, most.1);
}
