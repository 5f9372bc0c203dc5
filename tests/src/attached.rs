//! The program that is attached by a pinned link, asked through the kernel's program test-run without the help of
//! whoever attached it.

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Commands of bpf(2).
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Room for the longest reply.
const ROOM: usize = 2048;

/// `union bpf_attr` as far as these commands use it.
#[repr(C)]
#[derive(Default)]
struct Attributes([u64; 16]);

/// What is attached somewhere, whichever program that is.
#[derive(Debug)]
pub struct Attached {
    link: OwnedFd,
    /// The program that was asked last, with its number.
    program: Option<(u32, OwnedFd)>,
    /// How often it was another one than the time before.
    pub replaced: u64,
}

impl Attached {
    /// By the path of the link's pin.
    ///
    /// # Errors
    /// If there is no link.
    pub fn open(pin: &Path) -> Result<Self> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut attributes = Attributes::default();
        attributes.0[0] = path.as_ptr() as u64;
        let link = bpf_fd(OBJ_GET, &mut attributes).with_context(|| pin.display().to_string())?;
        Ok(Self { link, program: None, replaced: 0 })
    }

    /// Runs the program that is attached now on a frame; gives its action and the frame afterwards.
    ///
    /// # Errors
    /// If no program is attached, or it cannot be run.
    pub fn run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let [_, number] = self.numbers()?;
        if self.program.as_ref().is_none_or(|(known, _)| *known != number) {
            let mut attributes = Attributes::default();
            attributes.0[0] = u64::from(number);
            match bpf_fd(PROG_GET_FD_BY_ID, &mut attributes) {
                Ok(fd) => self.replaced += u64::from(self.program.replace((number, fd)).is_some()),
                // Replaced since it was looked up, and gone.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return self.run(frame),
                Err(error) => return Err(error).with_context(|| format!("program {number}")),
            }
        }
        let (_, program) = self.program.as_ref().context("no program")?;
        let mut out = vec![0u8; ROOM];
        let mut attributes = Attributes::default();
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        attributes.0[0] = program.as_raw_fd() as u64;
        attributes.0[1] = pair(frame.len() as u32, out.len() as u32);
        attributes.0[2] = frame.as_ptr() as u64;
        attributes.0[3] = out.as_mut_ptr() as u64;
        attributes.0[4] = 1;
        bpf(PROG_TEST_RUN, &mut attributes).context("test run")?;
        let (action, length) = ((attributes.0[0] >> 32) as u32, (attributes.0[1] >> 32) as usize);
        out.truncate(length);
        Ok((action, out))
    }

    /// Numbers of the link and of the program that is attached now.
    ///
    /// # Errors
    /// If there is none.
    pub fn numbers(&self) -> Result<[u32; 2]> {
        // `struct bpf_link_info`: type, number of the link, number of the program.
        let mut info = [0u32; 32];
        let mut attributes = Attributes::default();
        attributes.0[0] = self.link.as_raw_fd() as u64 | (size_of_val(&info) as u64) << 32;
        attributes.0[1] = info.as_mut_ptr() as u64;
        bpf(OBJ_GET_INFO_BY_FD, &mut attributes).context("what the link says")?;
        ensure!(info[2] != 0, "no program is attached");
        Ok([info[1], info[2]])
    }
}

fn bpf(command: libc::c_long, attributes: &mut Attributes) -> io::Result<libc::c_long> {
    // SAFETY: all pointers in the attributes are to buffers of the lengths beside them that outlive the call, and
    // whatever a command does not know is 0.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes as *mut Attributes, size_of::<Attributes>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`bpf`], for commands that give a file descriptor.
fn bpf_fd(command: libc::c_long, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
