//! Stand-ins for model servers, for the tests and figures that run real agents.

pub(crate) mod openai;
