//! Which fast path a box gets.

use super::{BpfDataplane, Dataplane, LiveTables, MemoryDataplane};
use crate::config::{BoxSettings, XdpMode};
use aya::programs::xdp::XdpMode as Hook;
use redirector_plan::image::TableImage;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where links and maps are pinned.
pub const PINS: &str = "/sys/fs/bpf/redirector";

/// Detaches the fast path of a box that has ended.
///
/// # Errors
/// If it stays attached somewhere.
pub fn detach() -> io::Result<()> {
    BpfDataplane::detach_all(Path::new(PINS))
}

/// Publishes the first image by the fast path that `[box] xdp` asks for; `no_xdp` overrides it with none. `auto` takes
/// what can be had: [`Dataplane::mode`] tells what that is, and why. `new_slots` says that counter slots were given out
/// anew: what is counted on the BPF file system has other names, and is dropped.
///
/// # Errors
/// If `native` or `generic` is asked for and cannot be had, or there is no memory for the tables.
pub fn start(
    settings: &BoxSettings,
    no_xdp: bool,
    new_slots: bool,
    image: &TableImage,
) -> io::Result<(Box<dyn Dataplane>, Arc<LiveTables>)> {
    let hooks: &[Hook] = match settings.xdp {
        _ if no_xdp => return sockets_alone("--no-xdp", image),
        XdpMode::Off => return sockets_alone("xdp = \"off\" in [box]", image),
        XdpMode::Auto => &[Hook::Driver, Hook::Skb],
        XdpMode::Native => &[Hook::Driver],
        XdpMode::Generic => &[Hook::Skb],
    };
    let (interfaces, max_age) = (settings.interfaces.clone(), Some(settings.max_age));
    let attached =
        BpfDataplane::new(Path::new(PINS), interfaces, hooks.to_vec(), max_age).and_then(|mut dataplane| {
            if new_slots {
                dataplane.drop_counters()?;
            }
            dataplane.publish(image).map(|tables| (dataplane, tables))
        });
    match attached {
        Ok((dataplane, tables)) => Ok((Box::new(dataplane), tables)),
        Err(error) if settings.xdp == XdpMode::Auto => sockets_alone(&error.to_string(), image),
        Err(error) => Err(io::Error::new(
            error.kind(),
            format!("{error}; with xdp = \"auto\" in [box] the box would run without it"),
        )),
    }
}

fn sockets_alone(reason: &str, image: &TableImage) -> io::Result<(Box<dyn Dataplane>, Arc<LiveTables>)> {
    // What an earlier run left attached has other tables than the sockets.
    detach()?;
    let mut dataplane = MemoryDataplane::new(reason);
    let tables = dataplane.publish(image)?;
    Ok((Box::new(dataplane), tables))
}
