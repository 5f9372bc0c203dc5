//! Where the XDP program is attached: links pinned on the BPF file system, which outlive the daemon. A new daemon puts
//! its program in place of the one that it finds there, without a packet in between.

use super::bpf::{chain, program, told};
use super::interface;
use aya::Ebpf;
use aya::programs::ProgramError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpMode};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Directories of links, one for each hook: a link does not tell which hook it is for.
const HOOKS: [(&str, XdpMode); 2] = [("native", XdpMode::Driver), ("generic", XdpMode::Skb)];

/// An interface that the program is attached to.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    interface: String,
    /// Number of the interface when the program was attached: another one of that name has another number.
    index: u32,
    pub(super) mode: XdpMode,
}

/// The links of a box.
#[derive(Debug)]
pub(super) struct Hooks {
    directory: PathBuf,
    interfaces: Vec<String>,
    /// In the order in which they are tried.
    modes: Vec<XdpMode>,
    pub(super) attached: Vec<Hook>,
}

impl Hooks {
    /// `directory` is for the pins; nothing is touched yet.
    pub(super) fn new(directory: PathBuf, interfaces: Vec<String>, modes: Vec<XdpMode>) -> Self {
        Self { directory, interfaces, modes, attached: Vec::new() }
    }

    /// Attaches `live` to every interface, in place of what a box attached there before. What was there before stays
    /// where `live` cannot be attached everywhere: interfaces without a program are tried first, and where `old` was
    /// replaced it is put back.
    ///
    /// # Errors
    /// Which interface refuses, and why. One that has vanished since it was attached to is no reason.
    pub(super) fn put(&mut self, live: &mut Ebpf, mut old: Option<&mut Ebpf>) -> io::Result<()> {
        self.drop_unwanted()?;
        let interfaces = self.interfaces.clone();
        let (bound, free): (Vec<_>, Vec<_>) = interfaces.iter().partition(|name| self.pin_of(name).is_some());
        let in_order =
            free.into_iter().map(|name| (name, true)).chain(bound.into_iter().map(|name| (name, false)));
        let (mut done, mut gone): (Vec<(Hook, bool)>, Vec<Hook>) = Default::default();
        for (interface, fresh) in in_order {
            let error = match self.put_one(live, interface) {
                Ok(hook) => {
                    self.advise(&hook);
                    done.push((hook, fresh));
                    continue;
                }
                Err(error) => error,
            };
            let known = self.attached.iter().find(|hook| hook.interface == *interface);
            if let Some(known) = known.filter(|_| index_of(interface).is_none()) {
                gone.push(known.clone());
                tracing::error!(
                    "interface {interface} has vanished; the program is attached again when it is back"
                );
                continue;
            }
            for (hook, fresh) in &done {
                self.take_back(hook, *fresh, old.as_deref_mut());
            }
            return Err(error);
        }
        self.attached = done.into_iter().map(|(hook, _)| hook).chain(gone).collect();
        Ok(())
    }

    /// Attaches `live` to interfaces that have vanished and come back; gives their names.
    pub(super) fn tend(&mut self, live: &mut Ebpf) -> Vec<String> {
        let mut back = Vec::new();
        for interface in self.interfaces.clone() {
            let index = index_of(&interface);
            let known = self.attached.iter().position(|hook| hook.interface == interface);
            let same = known.is_some_and(|place| Some(self.attached[place].index) == index);
            if index.is_none() || same || self.attached.is_empty() {
                continue;
            }
            match self.put_one(live, &interface) {
                Ok(hook) => {
                    self.attached.retain(|hook| hook.interface != interface);
                    self.attached.push(hook);
                    back.push(interface);
                }
                Err(error) => tracing::error!("{error}"),
            }
        }
        back
    }

    /// Detaches every program that a box attached.
    pub(super) fn detach_all(directory: &Path) -> io::Result<()> {
        for (name, _) in HOOKS {
            let pins = directory.join(name);
            match fs::remove_dir_all(&pins) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(told(pins.display(), error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Detaches from interfaces that are not configured, and from hooks that are not wanted.
    fn drop_unwanted(&self) -> io::Result<()> {
        for (name, mode) in HOOKS {
            let directory = self.directory.join(name);
            fs::create_dir_all(&directory).map_err(|error| told(directory.display(), error))?;
            for entry in fs::read_dir(&directory)?.flatten() {
                let wanted =
                    self.interfaces.iter().any(|interface| entry.file_name() == *file_name(interface));
                if !wanted || !self.modes.contains(&mode) {
                    fs::remove_file(entry.path()).map_err(|error| told(entry.path().display(), error))?;
                }
            }
        }
        Ok(())
    }

    /// The pinned link of an interface, and its hook.
    fn pin_of(&self, interface: &str) -> Option<(PathBuf, XdpMode)> {
        let pin =
            |(name, mode): (&str, XdpMode)| (self.directory.join(name).join(file_name(interface)), mode);
        HOOKS.into_iter().map(pin).find(|(path, _)| path.exists())
    }

    /// Tells what should be done at an interface, once and not with every generation.
    fn advise(&self, hook: &Hook) {
        if !self.attached.iter().any(|known| known.index == hook.index) {
            let advice = interface::advice(&hook.interface, hook.mode);
            advice.iter().for_each(|advice| tracing::warn!("{advice}"));
        }
    }

    fn put_one(&self, live: &mut Ebpf, interface: &str) -> io::Result<Hook> {
        let hook = |mode| {
            let index = index_of(interface).unwrap_or_default();
            Hook { interface: interface.to_owned(), index, mode }
        };
        let failed = |error: &dyn std::error::Error| told(format!("interface {interface}"), chain(error));
        if let Some((path, mode)) = self.pin_of(interface) {
            match replace(live, &path) {
                Ok(()) => return Ok(hook(mode)),
                Err(ReplaceError::Dead) => unpin(&path)?,
                Err(ReplaceError::Foreign) => {
                    tracing::warn!("{} is no link of an XDP program, and is removed", path.display());
                    unpin(&path)?;
                }
                Err(ReplaceError::Other(error)) => return Err(error),
            }
        }
        let mut refusals = Vec::new();
        for mode in &self.modes {
            let attached = program(live)?.attach(interface, *mode);
            match attached {
                Ok(id) => {
                    let link = program(live)?.take_link(id).map_err(|error| failed(&error))?;
                    let name =
                        HOOKS.iter().find(|(_, known)| known == mode).map_or("native", |(name, _)| name);
                    let path = self.directory.join(name).join(file_name(interface));
                    FdLink::try_from(link)
                        .map_err(|_| told(interface, "this kernel has no XDP links; Linux 5.9 has"))?
                        .pin(&path)
                        .map_err(|error| failed(&error))?;
                    refusals.iter().for_each(|refusal| tracing::warn!("interface {interface}: {refusal}"));
                    return Ok(hook(*mode));
                }
                Err(error) => {
                    let cause = match mode {
                        XdpMode::Driver => interface::likely_cause(interface),
                        _ => String::new(),
                    };
                    refusals.push(format!("{mode:?}: {}{cause}", chain(&error)));
                }
            }
        }
        Err(told(format!("interface {interface}"), refusals.join("; ")))
    }

    /// Undoes [`Self::put_one`] as far as it can be: the program of a box before this one is gone when it was replaced.
    fn take_back(&self, hook: &Hook, fresh: bool, old: Option<&mut Ebpf>) {
        let Some((path, _)) = self.pin_of(&hook.interface) else { return };
        let undone = match old {
            _ if fresh => fs::remove_file(&path),
            None => Ok(()),
            Some(old) => replace(old, &path).map_err(|error| match error {
                ReplaceError::Dead => told(&hook.interface, "it has vanished"),
                ReplaceError::Foreign => told(&hook.interface, "somebody pinned something else in its place"),
                ReplaceError::Other(error) => error,
            }),
        };
        if let Err(error) = undone {
            tracing::error!("interface {}: the program before cannot be put back: {error}", hook.interface);
        }
    }
}

/// Why a program could not take another's place.
enum ReplaceError {
    /// The interface that the link was for is gone, whatever is called like it now.
    Dead,
    /// It is no link for XDP.
    Foreign,
    Other(io::Error),
}

/// Puts a program in place of the one behind a pinned link, in one step.
fn replace(live: &mut Ebpf, path: &Path) -> Result<(), ReplaceError> {
    let other = |error: &dyn std::error::Error| ReplaceError::Other(told(path.display(), chain(error)));
    let link = PinnedLink::from_pin(path).map_err(|error| other(&error))?;
    let link = XdpLink::try_from(FdLink::from(link)).map_err(|_: LinkError| ReplaceError::Foreign)?;
    let program = program(live).map_err(ReplaceError::Other)?;
    match program.attach_to_link(link) {
        // Its pin holds the link.
        Ok(id) => program.take_link(id).map(drop).map_err(|error| other(&error)),
        Err(error) if os_error(&error) == Some(libc::ENOLINK) => Err(ReplaceError::Dead),
        // A map has numbers where a link says its kind, and may have passed for one so far.
        Err(error) if os_error(&error) == Some(libc::EINVAL) => Err(ReplaceError::Foreign),
        Err(error) => Err(other(&error)),
    }
}

fn unpin(path: &Path) -> io::Result<()> {
    fs::remove_file(path).map_err(|error| told(path.display(), error))
}

/// The kernel's own word for why a program was not attached.
fn os_error(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// Names on the BPF file system have no dots; those of interfaces may have.
fn file_name(interface: &str) -> String {
    interface.replace('%', "%25").replace('.', "%2e")
}

/// Number of an interface, if it is there.
fn index_of(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}
