//! State to snapshot to table image: pure, no IO.
//!
//! `model` is the input; `compile` turns it into the flat tables of `redirector-core`, or refuses.

pub mod model;
pub mod reference;
