//! What operators see of a running box and do to it: the agent that runs it, its control socket, its reports.

mod accounts;
pub mod agent;
pub mod agreements;
pub mod built;
pub mod control;
pub mod diff;
pub mod dump;
pub mod explain;
mod explain_parts;
pub mod explain_steps;
mod explain_text;
pub mod forces;
mod heat;
pub mod load;
pub mod objects;
mod packet;
pub mod recording;
pub mod replay;
pub mod stats;
pub mod view;
