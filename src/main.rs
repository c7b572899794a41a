//! Hearth.

fn main() {}
