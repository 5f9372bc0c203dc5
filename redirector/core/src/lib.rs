//! The decision: wire views, tables, `decide`, verdicts. Shared by kernel and userspace.
#![no_std]
