//! What judges a history after the fact, and knows nothing of how it came about.

pub mod linearizability;
