//! Facts from outside: what targets say of their health.

pub mod health;
pub mod probe;
