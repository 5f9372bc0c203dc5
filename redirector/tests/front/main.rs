//! The slow path over real sockets, on loopback addresses.

mod boxes;
mod cdsr;
mod dns;
mod http;
mod listeners;
mod loops;
mod reasons;
mod rtsp;
mod spread;
