//! Time and memory of compiling the reference network at full size, table by table.
//!
//! `cargo run --release -p redirector-plan --example compile_reference`

use redirector_plan::compile;
use redirector_plan::counters::CounterSlots;
use redirector_plan::image::TableKind;
use redirector_plan::model::TargetState;
use redirector_plan::reference::{Scale, reference};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let network = reference(Scale::FULL);
    println!(
        "reference network made in {:.2} s, peak memory {}",
        started.elapsed().as_secs_f64(),
        peak_memory()?
    );

    let states = vec![TargetState::default(); network.targets.len()];
    let mut ids = CounterSlots::new(1 << 18, 1 << 16, 1 << 16);
    let started = Instant::now();
    let compiled = match compile(&network, &states, 1, &mut ids) {
        Ok(compiled) => compiled,
        Err(refusals) => {
            refusals.iter().for_each(|refusal| eprintln!("{refusal}"));
            return Err("refused".into());
        }
    };
    println!("compiled in {:.2} s, peak memory {}", started.elapsed().as_secs_f64(), peak_memory()?);

    let mut total = 0;
    println!("\n{:16} {:>10} {:>12}", "table", "values", "bytes");
    for kind in TableKind::ALL {
        let bytes = compiled.image.bytes(*kind).len();
        total += bytes;
        println!("{:16} {:>10} {:>12}", kind.name(), compiled.image.len(*kind), bytes);
    }
    println!("{:16} {:>10} {:>12}", "all", "", total);
    println!("\n{} share groups, {} records in use", compiled.groups.len(), compiled.records_used);
    Ok(())
}

/// Highest resident set so far, as Linux words it.
fn peak_memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("unknown").trim().to_owned())
}
