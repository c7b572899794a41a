//! Transcripts of claude: from its own files into a store, and back.
//!
//! The program appends each entry to a file below `projects/` of its configuration
//! directory and says so on its output. [`keys`] names what belongs together.

pub mod keys;
