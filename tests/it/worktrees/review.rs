//! Review on real repositories: against a model, by kinds of files, and with
//! repositories that mean ill.

mod desk;
mod hostile;
mod kinds;
mod model;
mod modes;
mod property;
mod things;
