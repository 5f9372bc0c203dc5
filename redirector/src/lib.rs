//! The redirector daemon: facts come in, `redirector-plan` turns them into tables, and `redirector-core` answers from
//! them, in the kernel through [`dataplane`] and in userspace.

pub mod accounts;
pub mod cli;
pub mod config;
pub mod dataplane;
pub mod feed;
pub mod front;
pub mod manage;
pub mod state;
