//! Ethernet, IPv4, IPv6 and UDP around the messages: what the XDP program runs on a frame.

use super::{Action, Asked, Message, Scratch, Trace, Word, cdsr, dns, set_word, text, word_of};
use crate::decide::Client;
use crate::limit::{self, Class, Limits};
use crate::lookup;
use crate::table::{LAYOUT_VERSION, SPEAKS_CDSR, SPEAKS_DNS, Tables, VipEntry};
use crate::verdict::Reason;
use crate::verifier::phase;

const ETH_TYPE: usize = 12;
const ETH: usize = 14;
/// An 802.1Q or 802.1ad tag, which stands before the EtherType.
const TAG: usize = 4;
/// Where the IP header begins behind one tag, and behind two.
const ONE_TAG: usize = ETH + TAG;
const TWO_TAGS: usize = ETH + 2 * TAG;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const UDP_PROTOCOL: u8 = 17;
const TCP_PROTOCOL: u8 = 6;
const ICMP_PROTOCOL: u8 = 1;
const ICMPV6_PROTOCOL: u8 = 58;
/// IPv6 extension headers (RFC 8200 sections 4.3 and 4.6).
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;
/// IPv6 extension headers that the fast path passes over; longer chains are punted.
const MAX_EXTENSIONS: usize = 2;
const DNS_PORT: u16 = 53;
/// Congestion notification in the first bytes of a header: 0 in replies, of which nobody follows what congestion they
/// met (RFC 8085 section 3.1.7).
const ECN_IPV4: u32 = 0x3;
const ECN_IPV6: u32 = 0x3 << 20;
/// Fresh TTL and hop limit: a copied small one would never get home.
const TTL: u8 = 64;

/// A frame as the driver hands it over.
pub trait Frame {
    /// The `N` bytes from a place on; `None` if there are fewer. One check for all words that lie in them.
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]>;
    /// The same, to be changed.
    fn block_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]>;
    /// The first `N` bytes.
    #[inline(always)]
    fn head<const N: usize>(&self) -> Option<&[u8; N]> {
        self.block(0)
    }
    /// The same, to be changed.
    #[inline(always)]
    fn head_mut<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        self.block_mut(0)
    }
    /// Word at a place (for a byte: not the first place); `None` beyond the end.
    fn load<W: Word>(&self, at: usize) -> Option<W>;
    /// Changes a word; `None` beyond the end.
    fn store<W: Word>(&mut self, at: usize, value: W) -> Option<()>;
    /// Makes the frame `len` bytes long, or leaves it as it is.
    fn resize(&mut self, len: usize) -> Option<()>;
    /// Takes the first `bytes` bytes off, or leaves it as it is.
    fn cut_front(&mut self, bytes: usize) -> Option<()>;
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Not for us: untouched.
    Pass,
    /// For a VIP, for the slow path: untouched.
    Punt,
    /// For a VIP, and over a limit: goes nowhere.
    Drop,
    /// Now an answer: back where it came from.
    Transmit,
    /// Half written: must not go anywhere. Cannot happen, and is counted.
    Abort,
}

/// Room for one frame's work; see [`Scratch`] for why it does not lie on the stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Room {
    /// Who asks which VIP, and when.
    origin: Origin,
    /// What the headers say.
    packet: Packet,
    /// The message's work, with the trace of what was decided.
    pub scratch: Scratch,
}

/// Who asks which VIP, and when.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    vip: VipEntry,
    client: Client,
    /// Nanoseconds of the clock.
    now: u64,
}

/// What the headers say, and the checksum at work.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Packet {
    /// 1 for IPv6.
    v6: u32,
    /// First two bytes of IPv4 (version, header length, type of service) or four of IPv6 (version, traffic class, flow
    /// label), of a packet without options.
    head: u32,
    /// Where the IP header begins.
    ip: usize,
    /// Where the UDP header begins.
    base: usize,
    /// Bytes of IPv4 options or IPv6 extension headers before it.
    options: usize,
    /// Protocol of what the IP header is followed by.
    next: u32,
    /// Bytes of IP payload.
    payload: usize,
    /// UDP ports as they lie in the frame.
    ports: u32,
    /// UDP checksum as it lies in the frame.
    checksum: u32,
    /// Bytes of the message.
    len: usize,
    sums: Sums,
}

/// Answers a frame in place, or leaves it untouched. What is over a limit is dropped, or answered by less.
#[inline(always)]
pub fn process<F: Frame, T: Tables, L: Limits>(
    frame: &mut F,
    tables: &T,
    limits: &mut L,
    room: &mut Room,
) -> Exit {
    let Room { origin, packet, scratch } = room;
    scratch.trace = Trace::default();
    let read = headers(frame, tables, origin, packet, &mut scratch.trace);
    phase();
    scratch.limit.now = origin.now;
    match read {
        Ok(()) => answer(frame, tables, limits, origin, packet, scratch),
        Err(Exit::Punt) if is_budgeted(packet, scratch.trace.reason) => {
            match punt(tables, limits, &origin.client, scratch) {
                Action::Punt => Exit::Punt,
                _ => Exit::Drop,
            }
        }
        Err(end) => end,
    }
}

/// Reads everything up to the message.
#[inline(always)]
fn headers<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    origin: &mut Origin,
    packet: &mut Packet,
    trace: &mut Trace,
) -> Result<(), Exit> {
    let kind: Option<u16> = frame.head::<ETH>().and_then(|head| word_of(head, ETH_TYPE));
    match kind.map(u16::from_be) {
        Some(EtherType::IPV4) => ipv4::<_, _, ETH, { ETH + IPV4 }>(frame, tables, origin, packet, trace),
        Some(EtherType::IPV6) => ipv6::<_, _, ETH, { ETH + IPV6 }>(frame, tables, origin, packet, trace),
        Some(EtherType::TAG | EtherType::SERVICE_TAG) => tagged(frame, tables, origin, packet, trace),
        _ => Err(exit(trace, Reason::PassEtherType, Exit::Pass)),
    }?;
    phase();
    if packet.options != 0 || packet.next != UDP_PROTOCOL as u32 {
        pass_over(frame, packet, trace)?;
    }
    phase();
    udp(frame, packet, trace)
}

/// Whether a punt counts against the budgets. TCP and ICMP are the kernel's to limit, and the slow path must get
/// everything once the fast path has ended.
#[inline(always)]
fn is_budgeted(packet: &Packet, reason: Reason) -> bool {
    let next = packet.next;
    let kernels =
        next == TCP_PROTOCOL as u32 || next == ICMP_PROTOCOL as u32 || next == ICMPV6_PROTOCOL as u32;
    reason != Reason::PuntStale && !(reason == Reason::PuntNotUdp && kernels)
}

/// Takes a punt from the budgets of its client's prefix and of the CPU: [`Action::Punt`], or [`Action::Drop`] if one of
/// them is used up.
#[inline(always)]
fn punt<T: Tables, L: Limits>(tables: &T, limits: &mut L, client: &Client, scratch: &mut Scratch) -> Action {
    let Scratch { limit, trace, .. } = scratch;
    let Some(meta) = tables.meta() else { return Action::Punt };
    limit.begin::<L>(client, &meta.keys);
    if !limit.admits(limits, meta, Class::Punts) {
        trace.over_limit(Reason::LimitPunt);
        return Action::Drop;
    }
    if !limit.admits_punt_of_all(limits, meta) {
        trace.over_limit(Reason::LimitPuntAll);
        return Action::Drop;
    }
    Action::Punt
}

/// What a frame carries (IEEE 802 numbers).
struct EtherType;

impl EtherType {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    /// 802.1Q.
    const TAG: u16 = 0x8100;
    /// 802.1ad: the outer one of two.
    const SERVICE_TAG: u16 = 0x88a8;
}

/// Reads on behind one tag or two; a frame with more is left alone. The code for each place of the IP header is made
/// apart, so that frames without tags pay nothing for it.
#[inline(always)]
fn tagged<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    origin: &mut Origin,
    packet: &mut Packet,
    trace: &mut Trace,
) -> Result<(), Exit> {
    match frame.load::<u16>(ETH_TYPE + TAG).map(u16::from_be) {
        Some(EtherType::IPV4) => {
            return ipv4::<_, _, ONE_TAG, { ONE_TAG + IPV4 }>(frame, tables, origin, packet, trace);
        }
        Some(EtherType::IPV6) => {
            return ipv6::<_, _, ONE_TAG, { ONE_TAG + IPV6 }>(frame, tables, origin, packet, trace);
        }
        Some(EtherType::TAG | EtherType::SERVICE_TAG) => {}
        _ => return Err(exit(trace, Reason::PassEtherType, Exit::Pass)),
    }
    match frame.load::<u16>(ETH_TYPE + 2 * TAG).map(u16::from_be) {
        Some(EtherType::IPV4) => {
            ipv4::<_, _, TWO_TAGS, { TWO_TAGS + IPV4 }>(frame, tables, origin, packet, trace)
        }
        Some(EtherType::IPV6) => {
            ipv6::<_, _, TWO_TAGS, { TWO_TAGS + IPV6 }>(frame, tables, origin, packet, trace)
        }
        _ => Err(exit(trace, Reason::PassEtherType, Exit::Pass)),
    }
}

#[inline(always)]
fn exit(trace: &mut Trace, reason: Reason, exit: Exit) -> Exit {
    trace.reason = reason;
    exit
}

/// Finds the VIP that a frame is for.
#[inline(always)]
fn find_vip<T: Tables>(
    tables: &T,
    address: [u64; 2],
    origin: &mut Origin,
    trace: &mut Trace,
) -> Result<(), Exit> {
    match tables.meta() {
        Some(meta) if meta.layout == LAYOUT_VERSION => match lookup::vip(tables, &meta.keys, address) {
            Some(found) => {
                found.copy_to(&mut origin.vip);
                trace.vip = origin.vip.counter as u32;
                let (now, end) = tables.now_and_end();
                origin.now = now;
                if now > end {
                    return Err(exit(trace, Reason::PuntStale, Exit::Punt));
                }
                Ok(())
            }
            None => Err(exit(trace, Reason::NotVip, Exit::Pass)),
        },
        _ => Err(exit(trace, Reason::PuntLayout, Exit::Pass)),
    }
}

#[inline(always)]
fn ipv4<F: Frame, T: Tables, const IP: usize, const END: usize>(
    frame: &F,
    tables: &T,
    origin: &mut Origin,
    packet: &mut Packet,
    trace: &mut Trace,
) -> Result<(), Exit> {
    let Some(head) = frame.head::<END>() else { return Err(exit(trace, Reason::PuntShort, Exit::Pass)) };
    let (Some(first), Some(second), Some(source), Some(destination)) = (
        word_of::<u64, END>(head, IP),
        word_of::<u16, END>(head, IP + 8),
        word_of::<u32, END>(head, IP + 12),
        word_of::<u32, END>(head, IP + 16),
    ) else {
        return Err(exit(trace, Reason::PuntShort, Exit::Pass));
    };
    origin.client = Client { high: 0, low: u32::from_be(source) as u64, v6: 0 };
    find_vip(tables, lookup::mapped(destination), origin, trace)?;
    let first = u64::from_be(first);
    let total = (first >> 32) as usize & 0xffff;
    let client = u32::from_be(source);
    // Words of the header: five, and options.
    let words = (first >> 56) as usize;
    if !(0x45..0x50).contains(&words) {
        return Err(exit(trace, Reason::PuntLength, Exit::Punt));
    }
    let options = (words - 0x45) * 4;
    // More fragments, or a fragment offset; don't-fragment and reserved bits do not matter.
    if first & 0x3fff != 0 {
        return Err(exit(trace, Reason::PuntFragment, Exit::Punt));
    }
    packet.next = u16::from_be(second) as u32 & 0xff;
    if packet.next != UDP_PROTOCOL as u32 {
        return Err(exit(trace, Reason::PuntNotUdp, Exit::Punt));
    }
    // 0/8, 127/8 and everything from 224/4 on has no client behind it.
    if client >> 24 == 0 || client >> 24 == 127 || client >> 29 == 7 {
        return Err(exit(trace, Reason::PuntSource, Exit::Punt));
    }
    (packet.v6, packet.head) = (0, 0x4500 | (first >> 48) as u32 & 0xff);
    packet.options = options;
    (packet.ip, packet.base) = (IP, IP + IPV4 + options);
    packet.payload = total.wrapping_sub(IPV4 + options);
    Ok(())
}

#[inline(always)]
fn ipv6<F: Frame, T: Tables, const IP: usize, const END: usize>(
    frame: &F,
    tables: &T,
    origin: &mut Origin,
    packet: &mut Packet,
    trace: &mut Trace,
) -> Result<(), Exit> {
    let Some(head) = frame.head::<END>() else { return Err(exit(trace, Reason::PuntShort, Exit::Pass)) };
    let word = |place: usize| word_of::<u64, END>(head, IP + place);
    let (Some(first), Some(high), Some(low), Some(to_high), Some(to_low)) =
        (word(0), word(8), word(16), word(24), word(32))
    else {
        return Err(exit(trace, Reason::PuntShort, Exit::Pass));
    };
    let client = Client { high: u64::from_be(high), low: u64::from_be(low), v6: 1 };
    origin.client = client;
    find_vip(tables, [to_high, to_low], origin, trace)?;
    let first = u64::from_be(first);
    if first >> 60 != 6 {
        return Err(exit(trace, Reason::PuntLength, Exit::Punt));
    }
    let next = (first >> 8) as u8;
    packet.next = next as u32;
    if next != UDP_PROTOCOL && next != HOP_BY_HOP && next != DESTINATION_OPTIONS {
        return Err(exit(trace, Reason::PuntNotUdp, Exit::Punt));
    }
    // Unspecified, loopback, IPv4-mapped and multicast addresses have no client behind them.
    if client.high >> 56 == 0xff || (client.high == 0 && client.low >> 48 == 0) || is_mapped(&client) {
        return Err(exit(trace, Reason::PuntSource, Exit::Punt));
    }
    (packet.v6, packet.head) = (1, (first >> 32) as u32);
    packet.options = 0;
    (packet.ip, packet.base, packet.payload) = (IP, IP + IPV6, (first >> 16) as usize & 0xffff);
    Ok(())
}

#[inline(always)]
fn is_mapped(client: &Client) -> bool {
    client.high == 0 && client.low >> 32 == 0xffff
}

/// Finds the UDP header behind IPv4 options or IPv6 extension headers that change nothing: padding, and router alerts.
/// Whatever else there is to obey or to refuse in them is left to the kernel.
#[inline(always)]
fn pass_over<F: Frame>(frame: &F, packet: &mut Packet, trace: &mut Trace) -> Result<(), Exit> {
    if packet.v6 != 0 {
        return pass_over_extensions(frame, packet, trace);
    }
    let start = packet.base.wrapping_sub(packet.options);
    for word in 0..10 {
        if word * 4 >= packet.options {
            break;
        }
        let Some(option) = frame.load::<u32>(start.wrapping_add(word * 4)).map(u32::from_be) else {
            return Err(exit(trace, Reason::PuntShort, Exit::Punt));
        };
        // Bytes of 0 or 1: the list's end and what follows it, and no-operation (RFC 791). Router alert: RFC 2113.
        if option & !0x0101_0101 != 0 && option != 0x9404_0000 {
            return Err(exit(trace, Reason::PuntIpOptions, Exit::Punt));
        }
    }
    Ok(())
}

#[inline(always)]
fn pass_over_extensions<F: Frame>(frame: &F, packet: &mut Packet, trace: &mut Trace) -> Result<(), Exit> {
    for _ in 0..MAX_EXTENSIONS {
        let Some(header) = frame.load::<u64>(packet.base).map(u64::from_be) else {
            return Err(exit(trace, Reason::PuntShort, Exit::Punt));
        };
        // Eight bytes: what follows, no more words, and six bytes of padding, as one option or as six.
        let padding = header << 8 >> 8;
        let (this, next) = (packet.next, (header >> 56) as u32);
        if padding != 0x0000_0104_0000_0000 && padding != 0 {
            break;
        }
        packet.next = next;
        packet.options = packet.options.wrapping_add(8);
        packet.base = packet.base.wrapping_add(8);
        packet.payload = packet.payload.wrapping_sub(8);
        // Each occurs once, in this order (RFC 8200 section 4.1).
        if this != HOP_BY_HOP as u32 || next != DESTINATION_OPTIONS as u32 {
            break;
        }
    }
    if packet.next != UDP_PROTOCOL as u32 {
        return Err(exit(trace, Reason::PuntNotUdp, Exit::Punt));
    }
    Ok(())
}

/// Reads the UDP header.
#[inline(always)]
fn udp<F: Frame>(frame: &F, packet: &mut Packet, trace: &mut Trace) -> Result<(), Exit> {
    let base = packet.base;
    // The checksum stays as its bytes lie in memory: all that ones' complement sums need (RFC 1071 section 2.B).
    let Some(head) = frame.block::<UDP>(base) else { return Err(exit(trace, Reason::PuntShort, Exit::Punt)) };
    let (Some(ports), Some(length), Some(checksum)) =
        (word_of::<u32, UDP>(head, 0), word_of::<u16, UDP>(head, 4), word_of::<u16, UDP>(head, 6))
    else {
        return Err(exit(trace, Reason::PuntShort, Exit::Punt));
    };
    let length = u16::from_be(length) as usize;
    // The kernel and we must see the same payload: the UDP length fills the IP payload.
    let is_whole = frame.load::<u8>(base.wrapping_add(length).wrapping_sub(1)).is_some();
    if length != packet.payload || !(UDP..=1500).contains(&length) || !is_whole {
        return Err(exit(trace, Reason::PuntLength, Exit::Punt));
    }
    if u32::from_be(ports) >> 16 == 0 {
        return Err(exit(trace, Reason::PuntSource, Exit::Punt));
    }
    if checksum == 0 && packet.v6 != 0 {
        return Err(exit(trace, Reason::PuntChecksum, Exit::Punt));
    }
    (packet.ports, packet.checksum, packet.len) = (ports, checksum as u32, length - UDP);
    packet.sums = Sums::default();
    Ok(())
}

/// Lets the protocol of the port answer the message.
#[inline(always)]
fn answer<F: Frame, T: Tables, L: Limits>(
    frame: &mut F,
    tables: &T,
    limits: &mut L,
    origin: &Origin,
    packet: &mut Packet,
    scratch: &mut Scratch,
) -> Exit {
    let ports = u32::from_be(packet.ports);
    let Origin { vip, client, .. } = origin;
    let asked = Asked { vip, client: *client, port: (ports >> 16) as u16, room: dns::UDP_LIMIT as usize };
    let mut message = Datagram { frame, packet };
    let is_dns = ports as u16 == DNS_PORT && vip.speaks & SPEAKS_DNS != 0;
    let mut action = if is_dns {
        dns::respond_within::<_, T, L, false>(&mut message, &asked, tables, limits, scratch)
    } else if ports as u16 == cdsr::PORT && vip.speaks & SPEAKS_CDSR != 0 {
        cdsr::respond_within::<_, T, L, false>(&mut message, &asked, tables, limits, scratch)
    } else {
        scratch.trace.with(Reason::PuntPort, Action::Punt)
    };
    phase();
    if action == Action::Punt {
        action = punt(tables, limits, client, scratch);
        if action == Action::Drop && is_dns && may_turn_away(tables, limits, scratch.trace.reason) {
            action = match dns::turn_away(&mut message) {
                Some(()) => scratch.trace.with(Reason::LimitPuntSlip, Action::Reply),
                None => Action::Drop,
            };
        }
    }
    phase();
    match action {
        Action::Reply if turn_round(frame, packet).is_some() => Exit::Transmit,
        Action::Punt => Exit::Punt,
        Action::Drop => Exit::Drop,
        Action::Reply | Action::Ignore => exit(&mut scratch.trace, Reason::Internal, Exit::Abort),
    }
}

/// Whether a query over a budget for punts is sent back. Whose prefix is within its own is always told, for it need not be
/// one that floods: a flood of punts from everywhere must not cost it the way to TCP. What a prefix is sent so is bounded by
/// its own budget.
#[inline(always)]
fn may_turn_away<T: Tables, L: Limits>(tables: &T, limits: &mut L, reason: Reason) -> bool {
    // The reason is one of two neighbours: 0 for the budget of all, 1 for the prefix's own.
    let own = Reason::LimitPuntAll as u64 - reason as u64;
    tables.meta().is_some_and(|meta| limit::is_told(limits, meta, own))
}

/// Takes IPv4 options and IPv6 extension headers out of the frame: what stands before them moves up to the UDP header.
#[inline(always)]
fn drop_options<F: Frame>(frame: &mut F, packet: &mut Packet) -> Option<()> {
    let mut at = packet.base.wrapping_sub(packet.options);
    for _ in 0..(TWO_TAGS + IPV6) / 2 {
        if at == 0 {
            break;
        }
        at = at.wrapping_sub(2);
        let word: u16 = frame.load(at)?;
        frame.store(at.wrapping_add(packet.options), word)?;
    }
    packet.base = packet.base.wrapping_sub(packet.options);
    frame.cut_front(packet.options)
}

/// Swaps MAC addresses, IP addresses and ports, and writes the lengths and checksums of the reply.
#[inline(always)]
fn turn_round<F: Frame>(frame: &mut F, packet: &mut Packet) -> Option<()> {
    if packet.options != 0 {
        drop_options(frame, packet)?;
    }
    let Packet { ports, len, sums, .. } = *packet;
    let checksum = packet.checksum as u16;
    let macs = frame.head_mut::<12>()?;
    let (first, last): (u64, u32) = (word_of(macs, 0)?, word_of(macs, 8)?);
    // Both MAC addresses, six bytes each.
    let (first, last) = (u64::from_be(first), u32::from_be(last));
    set_word(macs, 0, (first << 48 | (last as u64) << 16 | first >> 48).to_be())?;
    set_word(macs, 8, ((first >> 16) as u32).to_be())?;
    let udp_length = (len + UDP) as u16;
    let pseudo = match packet.ip {
        ETH => write_ip::<_, ETH, { ETH + IPV4 }, { ETH + IPV6 }>(frame, packet, udp_length)?,
        ONE_TAG => write_ip::<_, ONE_TAG, { ONE_TAG + IPV4 }, { ONE_TAG + IPV6 }>(frame, packet, udp_length)?,
        _ => write_ip::<_, TWO_TAGS, { TWO_TAGS + IPV4 }, { TWO_TAGS + IPV6 }>(frame, packet, udp_length)?,
    };
    let length_sum = udp_length.to_be() as u64;
    // Kept parts come by the old checksum; new messages are summed from the start.
    let total = if sums.rebuilt != 0 {
        pseudo + (UDP_PROTOCOL as u16).to_be() as u64 + 2 * length_sum + ports.sum() + sums.total
    } else {
        (!checksum) as u64 + sums.total + 2 * length_sum + 2 * (!sums.old_length) as u64
    };
    let new = match !fold(total) as u16 {
        // The query had none (RFC 768): what was kept of it is not vouched for.
        _ if checksum == 0 && sums.rebuilt == 0 => 0,
        0 => 0xffff,
        some => some,
    };
    let [[a, b], [c, d]] = [udp_length.to_be_bytes(), new.to_ne_bytes()];
    frame.store(packet.base, pair(ports.rotate_left(16), u32::from_ne_bytes([a, b, c, d])))
}

/// Two words as they lie one behind the other in memory: one store instead of two.
#[inline(always)]
fn pair(first: u32, second: u32) -> u64 {
    let (first, second) = (u32::from_be(first) as u64, u32::from_be(second) as u64);
    (first << 32 | second).to_be()
}

/// Swaps IP addresses and makes the rest of the IP header anew. Gives the sum of the addresses.
#[inline(always)]
fn write_ip<F: Frame, const IP: usize, const END_IPV4: usize, const END_IPV6: usize>(
    frame: &mut F,
    packet: &Packet,
    udp_length: u16,
) -> Option<u64> {
    if packet.v6 != 0 {
        let head = frame.head_mut::<END_IPV6>()?;
        let sources: [u64; 4] = [
            word_of(head, IP + 8)?,
            word_of(head, IP + 16)?,
            word_of(head, IP + 24)?,
            word_of(head, IP + 32)?,
        ];
        for (place, word) in [sources[2], sources[3], sources[0], sources[1]].into_iter().enumerate() {
            set_word(head, IP + 8 + place * 8, word)?;
        }
        let class = (packet.head & !ECN_IPV6) as u64;
        let rest = (udp_length as u64) << 16 | (UDP_PROTOCOL as u64) << 8 | TTL as u64;
        set_word(head, IP, (class << 32 | rest).to_be())?;
        Some(sources.into_iter().map(Word::sum).sum())
    } else {
        let head = frame.head_mut::<END_IPV4>()?;
        let addresses: u64 = word_of(head, IP + 12)?;
        let first = ((packet.head & !ECN_IPV4) << 16 | (udp_length as u32 + IPV4 as u32)).to_be();
        // Identification 0 and don't-fragment: an atomic datagram (RFC 6864 section 4).
        let second = 0x4000u32.to_be();
        let third = ((TTL as u32) << 24 | (UDP_PROTOCOL as u32) << 16).to_be();
        let sum = first.sum() + second.sum() + third.sum() + addresses.sum();
        let [high, low] = (!fold(sum) as u16).to_ne_bytes();
        let third = third | u32::from_ne_bytes([0, 0, high, low]);
        set_word(head, IP, pair(first, second))?;
        set_word(head, IP + 8, third)?;
        set_word(head, IP + 12, addresses.rotate_left(32))?;
        Some(addresses.sum())
    }
}

/// Folds a sum of 32-bit or 16-bit words, below 2^48, to 16 bits with end-around carry.
#[inline(always)]
fn fold(sum: u64) -> u64 {
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}

/// Ones' complement sum of what was taken from a datagram and what was written.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    total: u64,
    /// UDP length before, in network order.
    old_length: u16,
    /// 1: nothing of the old payload was kept.
    rebuilt: u16,
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, at: usize, sum: u64) {
        // From an odd place on, each byte has the weight of its neighbour (RFC 1071 section 2.B).
        self.total += sum << (8 * (at & 1));
    }
}

/// Words of old payload behind the kept part that the fast path takes out of the checksum; longer ones are punted.
const TAIL_WORDS: usize = 12;

/// The UDP payload of a frame.
struct Datagram<'f, F> {
    frame: &'f mut F,
    packet: &'f mut Packet,
}

impl<F: Frame> Datagram<'_, F> {
    /// Where a byte of the payload lies in the frame. Headers have even lengths, so parity is that of the payload.
    #[inline(always)]
    fn place(&self, at: usize) -> usize {
        self.packet.base + UDP + at
    }

    /// Takes the bytes from `keep` to the end out of the sums.
    #[inline(always)]
    fn forget_tail(&mut self, keep: usize) -> Result<(), Reason> {
        let mut at = keep;
        for _ in 0..TAIL_WORDS {
            let left = self.packet.len.wrapping_sub(at);
            if left == 0 || left > self.packet.len {
                return Ok(());
            }
            let (word, _) = text::word_at(self, at, left).ok_or(Reason::PuntShort)?;
            self.packet.sums.add(at, (!word.to_le()).sum());
            at += 8;
        }
        if at >= self.packet.len { Ok(()) } else { Err(Reason::PuntEdns) }
    }
}

impl<F: Frame> Message for Datagram<'_, F> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.packet.len
    }
    #[inline(always)]
    fn load<W: Word>(&self, at: usize) -> Option<W> {
        self.frame.load(self.place(at))
    }
    #[inline(always)]
    fn begin_reply(&mut self, keep: usize, len: usize) -> Result<(), Reason> {
        self.packet.sums.old_length = ((self.packet.len + UDP) as u16).to_be();
        self.packet.sums.rebuilt = (keep == 0) as u16;
        if keep != 0 && self.packet.checksum != 0 {
            self.forget_tail(keep)?;
        }
        self.frame.resize(self.place(len)).ok_or(Reason::PuntResize)?;
        self.packet.len = len;
        Ok(())
    }
    #[inline(always)]
    fn block<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.frame.block(self.place(at))
    }
    #[inline(always)]
    fn replace_head(&mut self, old: [u32; 3], new: [u32; 3]) -> Option<()> {
        let sum = |words: [u32; 3]| words[0].sum() + words[1].sum() + words[2].sum();
        self.packet.sums.total += sum(old.map(Word::complement)) + sum(new);
        let head = self.frame.block_mut::<12>(self.place(0))?;
        set_word(head, 0, new[0])?;
        set_word(head, 4, new[1])?;
        set_word(head, 8, new[2])
    }
    #[inline(always)]
    fn append_words<const BYTES: usize, const WORDS: usize>(
        &mut self,
        at: usize,
        words: [u64; WORDS],
    ) -> Option<()> {
        const { assert!(BYTES == WORDS * size_of::<u64>()) };
        let room = self.frame.block_mut::<BYTES>(self.place(at))?;
        let mut sum = 0;
        for (index, word) in words.into_iter().enumerate() {
            sum += word.sum();
            set_word(room, index * 8, word)?;
        }
        self.packet.sums.add(at, sum);
        Some(())
    }
    #[inline(always)]
    fn replace<W: Word>(&mut self, at: usize, old: W, new: W) -> Option<()> {
        self.packet.sums.add(at, old.complement().sum());
        self.append(at, new)
    }
    #[inline(always)]
    fn append<W: Word>(&mut self, at: usize, value: W) -> Option<()> {
        self.packet.sums.add(at, value.sum());
        self.frame.store(self.place(at), value)
    }
}
