//! Facts from outside: what targets say of their health, what is told of their load, and what
//! clients say of those that failed them.

pub mod failures;
pub mod health;
pub mod load;
pub mod probe;
