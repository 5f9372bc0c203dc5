//! State to snapshot to table image: pure, no IO.
