//! Tests of the service against its real parts.

mod store;
