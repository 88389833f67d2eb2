//! The `neural-cleanse` command.

fn main() {}
