//! What operators see of a running box and do to it: the agent that runs it, its control socket, its reports.

mod accounts;
pub mod agent;
pub mod agreements;
pub mod built;
pub mod control;
pub mod dump;
pub mod explain;
mod explain_text;
pub mod forces;
mod packet;
pub mod stats;
pub mod view;
