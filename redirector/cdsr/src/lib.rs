//! The client side of CDSR.
