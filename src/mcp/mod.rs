//! The MCP face: tools with which a program of a person, or an agent, gives work
//! to Hearth, follows it and reviews it.
//!
//! The tools are written once, in the words of the HTTP API ([`api::Api`]). Who
//! mounts the face says how that is reached: `hearth mcp` asks the running
//! service, and `/mcp` of the service asks its own routes, guards included. So
//! a tool can do exactly what its caller could do by HTTP, and nothing is
//! decided here that is not decided there.
//!
//! A caller that is an agent of this service is shown the tools that create,
//! list and tell the state of tasks, and no others.

pub mod api;
mod face;
mod tools;

pub use face::{Door, Face};
