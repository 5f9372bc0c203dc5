//! A machine that runs the compiled program one instruction after the other, and tells which it ran.
//!
//! It knows what the program needs: no more instructions, kinds of maps and helpers of the kernel than occur in it.
//! Every access is checked, so what is wrong here is an error and not a wrong figure.

use super::object::{Insn, Object};
use anyhow::{Context as _, Result, bail, ensure};
use redirector_plan::image::{TableImage, TableKind};

/// Addresses of one piece of memory are its number in the upper half, and from this on in the lower one.
const START: u64 = 0x1_0000;
/// The pieces before those of maps. The packet's addresses fit the 32 bits in which the context holds them.
const PACKET: usize = 0;
const STACK: usize = 1;
const CONTEXT: usize = 2;
const FIRST_MAP: usize = 3;
/// Bytes before the frame, and from its beginning on.
const HEADROOM: usize = 256;
const ROOM: usize = 3584;
/// Bytes of a function's stack, and calls within each other.
const FRAME: u64 = 512;
const DEPTH: usize = 8;
/// Values of counters and buckets.
const COUNTERS: usize = 1 << 17;
/// Instructions of one packet, at most.
const MOST: usize = 100_000;

/// Instructions that the kernel (6.18, x86-64) puts in a call's place: a look-up in an array, in one that is each CPU's own, and
/// the CPU's number. Other calls stay calls.
const ARRAY: usize = 7;
const PER_CPU_ARRAY: usize = 8;
const CPU_NUMBER: usize = 3;

/// The machine, with maps over the tables of an image.
pub(crate) struct Machine<'o> {
    object: &'o Object,
    memory: Vec<Vec<u8>>,
    /// Bytes from one value of a map to the next.
    strides: Vec<usize>,
}

/// What a run is at.
struct State {
    registers: [u64; 11],
    at: usize,
    /// Where calls return to, and what registers are then.
    callers: Vec<(usize, [u64; 4])>,
}

/// How a run ended.
pub(crate) struct End {
    pub(crate) action: u32,
    pub(crate) frame: Vec<u8>,
}

impl<'o> Machine<'o> {
    /// With fresh counters; the tables stay valid for ever.
    pub(crate) fn new(object: &'o Object, image: &TableImage) -> Self {
        let mut memory = vec![vec![0; HEADROOM + ROOM], vec![0; FRAME as usize * DEPTH], vec![0; 24]];
        let mut strides = Vec::new();
        for map in &object.maps {
            let stride = map.value_size.next_multiple_of(8);
            strides.push(stride);
            let table = TableKind::ALL.iter().find(|kind| kind.name() == map.name);
            memory.push(match table {
                Some(kind) => image.bytes(*kind).to_vec(),
                None if map.name == "ALIVE" => vec![0xff; stride],
                None if map.entries == 1 && stride > 64 => vec![0; stride],
                None => vec![0; stride * COUNTERS.max(map.entries)],
            });
        }
        Self { object, memory, strides }
    }

    /// Runs the program on a frame, and hands over the number of each instruction it runs, with how many it counts for.
    ///
    /// # Errors
    /// If it does what no program that the kernel takes does, or what this machine does not know.
    pub(crate) fn run(&mut self, frame: &[u8], mut note: impl FnMut(usize, usize)) -> Result<End> {
        self.memory[PACKET][HEADROOM..HEADROOM + frame.len()].copy_from_slice(frame);
        self.set_bounds(START + HEADROOM as u64, frame.len());
        let mut state = State { registers: [0; 11], at: 0, callers: Vec::new() };
        state.registers[1] = address(CONTEXT);
        state.registers[10] = address(STACK) + FRAME;
        for _ in 0..MOST {
            let insn = *self.object.code.get(state.at).context("a jump out of the program")?;
            let at = state.at;
            let place = || format!("instruction {at} ({insn:?})");
            match self.step(&mut state, insn).with_context(place)? {
                Some(count) => note(at, count),
                None => {
                    note(at, 1);
                    let (start, length) = self.bounds();
                    let start = (start - START) as usize;
                    let frame = self.memory[PACKET][start..start + length].to_vec();
                    return Ok(End { action: state.registers[0] as u32, frame });
                }
            }
        }
        bail!("more than {MOST} instructions")
    }

    /// Runs one instruction; gives how many it counts for, or `None` at the end.
    fn step(&mut self, state: &mut State, insn: Insn) -> Result<Option<usize>> {
        let (to, from) = (insn.to as usize, insn.from as usize);
        let constant = i64::from(insn.value) as u64;
        let operand = if insn.code & 8 != 0 { state.registers[from] } else { constant };
        let at = state.at;
        state.at += 1;
        match insn.code & 7 {
            0 if insn.code == 0x18 => {
                let high = self.object.code.get(state.at).context("half a constant")?.value;
                state.at += 1;
                state.registers[to] = match self.object.map_of.get(&at) {
                    Some(map) => address(FIRST_MAP + map),
                    None => u64::from(insn.value as u32) | u64::from(high as u32) << 32,
                };
            }
            1 if insn.code & 0xe0 == 0x60 => {
                let place = state.registers[from].wrapping_add_signed(insn.offset.into());
                state.registers[to] = self.load(place, size(insn.code))?;
            }
            2 | 3 if insn.code & 0xe0 == 0x60 => {
                let place = state.registers[to].wrapping_add_signed(insn.offset.into());
                let value = if insn.code & 7 == 2 { constant } else { state.registers[from] };
                self.store(place, size(insn.code), value)?;
            }
            4 if insn.code & 0xf0 == 0xd0 => state.registers[to] = order(insn, state.registers[to])?,
            4 => state.registers[to] = narrow(insn, state.registers[to] as u32, operand as u32)?,
            7 => state.registers[to] = wide(insn, state.registers[to], operand)?,
            5 if insn.code == 0x85 => return self.call(state, insn, at).map(Some),
            5 if insn.code == 0x95 => match state.callers.pop() {
                Some((back, saved)) => {
                    state.at = back;
                    state.registers[6..10].copy_from_slice(&saved);
                    state.registers[10] -= FRAME;
                }
                None => return Ok(None),
            },
            5 | 6 => {
                let (a, b) = (state.registers[to], operand);
                let taken = if insn.code & 7 == 5 {
                    jumps(insn.code, a, b, a as i64, b as i64)?
                } else {
                    jumps(
                        insn.code,
                        (a as u32).into(),
                        (b as u32).into(),
                        (a as i32).into(),
                        (b as i32).into(),
                    )?
                };
                if taken {
                    state.at = state
                        .at
                        .checked_add_signed(insn.offset.into())
                        .context("a jump to before the program")?;
                }
            }
            _ => bail!("not known"),
        }
        Ok(Some(1))
    }

    fn call(&mut self, state: &mut State, insn: Insn, at: usize) -> Result<usize> {
        if insn.from == 1 {
            // LLVM leaves out what a function before it in the same section needs no relocation for.
            let beside = state.at.checked_add_signed(insn.value as isize);
            let target = self.object.calls.get(&at).copied().or(beside).context("a call to nowhere")?;
            ensure!(state.callers.len() + 1 < DEPTH, "too many calls within each other");
            let saved = std::array::from_fn(|n| state.registers[6 + n]);
            state.callers.push((state.at, saved));
            state.registers[10] += FRAME;
            state.at = target;
            return Ok(1);
        }
        let [_, first, second, ..] = state.registers;
        let mut count = 1;
        // Numbers of helpers: `enum bpf_func_id` in Linux, include/uapi/linux/bpf.h.
        state.registers[0] = match insn.value {
            1 => {
                let map = (first >> 32) as usize - FIRST_MAP;
                let is_per_cpu = self.object.maps.get(map).context("a look-up in no map")?.is_per_cpu;
                count = if is_per_cpu { PER_CPU_ARRAY } else { ARRAY };
                self.look_up(map, second)?
            }
            5 | 160 => 1,
            7 => 4,
            8 => {
                count = CPU_NUMBER;
                0
            }
            44 => {
                let (start, length) = self.bounds();
                let cut = second as i32;
                self.set_bounds(
                    start.wrapping_add_signed(cut.into()),
                    length.wrapping_add_signed(-cut as isize),
                );
                0
            }
            65 => {
                let (start, length) = self.bounds();
                self.set_bounds(start, length.wrapping_add_signed(second as i32 as isize));
                0
            }
            other => bail!("helper {other} is not known"),
        };
        Ok(count)
    }

    fn look_up(&mut self, map: usize, key: u64) -> Result<u64> {
        let index = self.load(key, 4)? as usize;
        let stride = self.strides[map];
        let entries = self.memory[FIRST_MAP + map].len() / stride;
        Ok(if index < entries { address(FIRST_MAP + map) + (index * stride) as u64 } else { 0 })
    }

    fn bounds(&self) -> (u64, usize) {
        let word = |at| self.load(address(CONTEXT) + at, 4).unwrap_or_default();
        (word(0), (word(4) - word(0)) as usize)
    }

    fn set_bounds(&mut self, start: u64, length: usize) {
        let bounds = [start as u32, start as u32 + length as u32];
        self.memory[CONTEXT][..8].copy_from_slice(&bounds.map(u32::to_le_bytes).concat());
    }

    fn place(&self, at: u64, size: usize) -> Result<(usize, usize)> {
        let (piece, offset) = ((at >> 32) as usize, (at & 0xffff_ffff).wrapping_sub(START) as usize);
        let length = self.memory.get(piece).map_or(0, Vec::len);
        ensure!(offset < length && offset + size <= length, "{size} bytes at {at:#x}");
        Ok((piece, offset))
    }

    fn load(&self, at: u64, size: usize) -> Result<u64> {
        let (piece, offset) = self.place(at, size)?;
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.memory[piece][offset..offset + size]);
        Ok(u64::from_le_bytes(bytes))
    }

    fn store(&mut self, at: u64, size: usize, value: u64) -> Result<()> {
        let (piece, offset) = self.place(at, size)?;
        self.memory[piece][offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
        Ok(())
    }
}

fn address(piece: usize) -> u64 {
    (piece as u64) << 32 | START
}

/// Bytes that a load or store moves.
fn size(code: u8) -> usize {
    match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        0x10 => 1,
        _ => 8,
    }
}

fn jumps(code: u8, a: u64, b: u64, signed_a: i64, signed_b: i64) -> Result<bool> {
    Ok(match code & 0xf0 {
        0x00 => true,
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => signed_a > signed_b,
        0x70 => signed_a >= signed_b,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => signed_a < signed_b,
        0xd0 => signed_a <= signed_b,
        _ => bail!("not known"),
    })
}

/// Arithmetic on 64 bits.
fn wide(insn: Insn, a: u64, b: u64) -> Result<u64> {
    let shift = b as u32 & 63;
    Ok(match insn.code & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 => (a as i64 >> shift) as u64,
        _ => bail!("not known"),
    })
}

/// The lower bytes of a number, in network order or in that of x86-64 and arm64.
fn order(insn: Insn, a: u64) -> Result<u64> {
    Ok(match (insn.code & 8 != 0, insn.value) {
        (true, 16) => (a as u16).swap_bytes().into(),
        (true, 32) => (a as u32).swap_bytes().into(),
        (true, 64) => a.swap_bytes(),
        (false, 16) => (a as u16).into(),
        (false, 32) => (a as u32).into(),
        (false, 64) => a,
        _ => bail!("not known"),
    })
}

/// Arithmetic on 32 bits, whose results have zeros above.
fn narrow(insn: Insn, a: u32, b: u32) -> Result<u64> {
    let shift = b & 31;
    Ok(u64::from(match insn.code & 0xf0 {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0x80 => a.wrapping_neg(),
        0xa0 => a ^ b,
        0xb0 => b,
        0xc0 => (a as i32 >> shift) as u32,
        _ => bail!("not known"),
    }))
}
