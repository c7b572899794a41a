//! The worktrees room on real repositories, with the git program for reference.

mod branching;
mod changes;
mod checkpoints;
mod contract;
mod full_disk;
mod hardening;
mod leaving;
mod making;
mod malice;
mod prepared;
mod projects;
mod random;
mod restoring;
mod review;
mod risk;
mod scratch;
mod set_up;
mod traps;
mod travel;
