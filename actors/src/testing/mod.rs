//! Fakes and contract suites, for tests of this crate and of the service.

pub mod contract_store;
