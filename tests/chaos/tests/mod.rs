//! The parts of the chaos program that decide: run with the other tests, as a program
//! without a harness has none of its own.

mod asked;
mod checks;
mod follower;
mod plan;
mod processes;
