//! Living through Ctrl-C when there is something to put back.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ARRIVED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: nix::libc::c_int) {
    ARRIVED.store(true, Ordering::Relaxed);
}

/// From now on, Ctrl-C and other requests to end do not end this process; children in the foreground still get
/// them. (A handler, not "ignore": children would inherit that.)
///
/// # Errors
/// If the system refuses.
pub(crate) fn outlive() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does one atomic store, so it may run at any moment.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// For the places where work can be broken off.
///
/// # Errors
/// If a signal to end has arrived since [`outlive`].
pub(crate) fn check() -> Result<()> {
    ensure!(!ARRIVED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
