//! Instructions of a packet, by stage of its way: `cargo xtask bench fastpath --stages`.
//!
//! The compiled program runs on a [`machine`] that counts, over the tables and frames of the benchmark; what it answers must
//! be what the slow path answers. An instruction belongs to the stage whose function it was compiled from, which the object
//! tells by source lines. Functions that serve everybody ([`SHARED`]) belong to the stage that was at work.

mod machine;
mod object;

use crate::ours;
use crate::workload::{CASES, Case, Keys, Workload};
use anyhow::{Context as _, Result, ensure};
use machine::Machine;
use object::{Line, Object};
use redirector_plan::image::TableImage;
use redirector_plan::model::Network;
use redirector_tests::agreement::{self, Action};
use redirector_tests::slow::AtTime;
use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs};

/// Frames of a case that are run.
const FRAMES: usize = 512;

/// Stages with what belongs to them, the first match counts: ends of a file's path, with a function behind a colon or all of
/// them.
const STAGES: &[(&str, &[&str])] = &[
    ("counters", &["maps.rs:count", "maps.rs:add"]),
    (
        "headers of Ethernet, IP and UDP, VIP, age of the tables",
        &[
            "main.rs",
            "wire/frame.rs:process",
            "wire/frame.rs:headers",
            "wire/frame.rs:tagged",
            "wire/frame.rs:find_vip",
            "wire/frame.rs:ipv4",
            "wire/frame.rs:ipv6",
            "wire/frame.rs:is_mapped",
            "wire/frame.rs:udp",
            "lookup.rs:vip",
            "lookup.rs:mapped",
            "table.rs:copy_to",
        ],
    ),
    (
        "region, and the buckets of the rate limits",
        &[
            "decide.rs:look_ahead",
            "decide.rs:region",
            "decide.rs:region_v4",
            "decide.rs:region_v6",
            "limit.rs:begin",
        ],
    ),
    ("EDNS", &["dns/edns.rs", "dns/cookie.rs", "dns/subnet.rs", "siphash.rs"]),
    (
        "end of the name or host, and its suffix",
        &["read.rs:find_tail", "read.rs:behind_zero", "tail.rs", "cdsr.rs:find_zone"],
    ),
    (
        "labels before the suffix, and their hashes",
        &["read.rs:read_short_name", "text.rs:short", "text.rs:short_host", "text.rs:delimiters"],
    ),
    (
        "header of the message",
        &[
            "dns/read.rs",
            "dns/mod.rs:respond_within",
            "cdsr.rs:read",
            "cdsr.rs:scheme",
            "cdsr.rs:check_host_end",
            "cdsr.rs:read_servers",
            "cdsr.rs:endpoints_within",
            "cdsr.rs:above",
        ],
    ),
    (
        "rule",
        &[
            "find.rs:rule",
            "lookup.rs:begin",
            "lookup.rs:first_shape",
            "lookup.rs:go_on",
            "lookup.rs:has_shape",
            "lookup.rs:codepoint_slot",
            "lookup.rs:find",
            "lookup.rs:find_rule",
            "cdsr.rs:find_url",
        ],
    ),
    (
        "path: segments and their rule",
        &[
            "cdsr.rs:scan_path",
            "cdsr.rs:path_start",
            "cdsr.rs:content",
            "text.rs:path",
            "text.rs:all",
            "lookup.rs:path",
        ],
    ),
    (
        "service, type, family, what is chosen by",
        &[
            "find.rs:targets",
            "find.rs:for_whom",
            "find.rs:content",
            "find.rs:codepoint_hash",
            "cdsr.rs:answer",
            "cdsr.rs:family",
            "decide.rs:choice_key",
        ],
    ),
    ("choice: cell, group, share record, target", &["decide.rs"]),
    ("rate limit", &["limit.rs", "dns/mod.rs:is_within", "cdsr.rs:respond_within"]),
    (
        "addresses, lengths and checksums of the frame",
        &["frame.rs:turn_round", "frame.rs:write_ip", "frame.rs:pair", "frame.rs:fold", "frame.rs:answer"],
    ),
    (
        "reply: length, header, records or endpoints",
        &[
            "dns/write.rs",
            "cdsr.rs:write",
            "cdsr.rs:write_endpoint",
            "frame.rs:begin_reply",
            "frame.rs:forget_tail",
        ],
    ),
];

/// What serves every stage: ends of a file's path, with a function or all of them.
const SHARED: &[&str] = &[
    "hash.rs",
    "verifier.rs",
    "packet.rs",
    "wire/mod.rs",
    "maps.rs",
    "verdict.rs",
    "text.rs:word_at",
    "text.rs:matches",
    "text.rs:before",
    "text.rs:bytes_before",
    "text.rs:first_zero",
    "wire/frame.rs",
];

/// Counts and prints a table: one column for each case.
///
/// # Errors
/// If the program is not to be read or does not answer as the slow path.
pub(crate) fn report(network: &Network) -> Result<String> {
    let path = env::var_os("REDIRECTOR_BPF_OBJECT")
        .context("REDIRECTOR_BPF_OBJECT is not set: run this by `cargo xtask bench`")?;
    let object = Object::parse(&fs::read(path)?)?;
    let stages = stages(&object);
    let image = ours::image(network)?;
    let mut workload = Workload::new(network, Keys::Hot);
    let mut columns = Vec::new();
    for case in CASES {
        let frames = workload.ring(case, &image)?;
        columns.push(count(case, &frames, &object, &stages, &image).with_context(|| case.name)?);
    }
    Ok(markdown(&columns))
}

/// Instructions of a packet on average, by stage.
fn count(
    case: &Case,
    frames: &[Vec<u8>],
    object: &Object,
    stages: &[Option<usize>],
    image: &TableImage,
) -> Result<Vec<f64>> {
    let mut machine = Machine::new(object, image);
    let mut counts = vec![0; STAGES.len()];
    let frames = frames.get(..FRAMES).context("too few frames")?;
    for frame in frames {
        // The first instruction is the entry's.
        let mut stage = 1;
        let end = machine.run(frame, |at, count| {
            stage = stages[at].unwrap_or(stage);
            counts[stage] += count;
        })?;
        let action = Action::from_code(end.action);
        agreement::judge(&AtTime(image, 0), frame, action, &end.frame).map_err(anyhow::Error::msg)?;
        ensure!(action == case.action, "{action:?} instead of {:?}", case.action);
    }
    Ok(counts.into_iter().map(|count| count as f64 / frames.len() as f64).collect())
}

/// Stage of each instruction; `None`: that of the one before it.
fn stages(object: &Object) -> Vec<Option<usize>> {
    let mut sources = BTreeMap::new();
    object.lines.iter().map(|line| stage(line.as_ref()?, &mut sources)).collect()
}

fn stage(line: &Line, sources: &mut BTreeMap<String, Vec<String>>) -> Option<usize> {
    let text = sources.entry(line.file.clone()).or_insert_with(|| source(&line.file));
    let function = function(text, line.line as usize);
    let is = |place: &&str| {
        let (file, wanted) = place.split_once(':').map_or((*place, None), |(file, name)| (file, Some(name)));
        Path::new(&line.file).ends_with(file) && wanted.is_none_or(|name| Some(name) == function)
    };
    let found =
        STAGES.iter().position(|(_, places)| places.iter().any(|place| place.contains(':') && is(place)));
    if found.is_some() || SHARED.iter().any(|place| is(place)) {
        return found;
    }
    STAGES.iter().position(|(_, places)| places.iter().any(|place| is(place)))
}

/// Lines of a source file; none if it is not there: the standard library's need not be.
fn source(file: &str) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../redirector-ebpf");
    let text = fs::read_to_string(program.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Name of the function that a line stands in.
fn function(text: &[String], line: usize) -> Option<&str> {
    let before = text.get(..line)?.iter().rev();
    before.filter(|line| !line.trim_start().starts_with("//")).find_map(|line| {
        let (_, rest) = line.split_once("fn ")?;
        rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
    })
}

fn markdown(columns: &[Vec<f64>]) -> String {
    let mut text = String::from("Instructions of a packet by stage, rounded:\n\n| stage |");
    for case in CASES {
        text += &format!(" {} |", case.name);
    }
    text += "\n|---|";
    text += &"--:|".repeat(CASES.len());
    for (stage, (name, _)) in STAGES.iter().enumerate() {
        text += &format!("\n| {name} |");
        for column in columns {
            text += &format!(" {:.0} |", column[stage]);
        }
    }
    text += "\n| all |";
    for column in columns {
        text += &format!(" {:.0} |", column.iter().sum::<f64>());
    }
    text + "\n"
}
