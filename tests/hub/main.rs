//! Downloads from a server that plays the Hub: two origins, redirects, ranges, pages; and every way in which it may
//! misbehave.
//!
//! Each case ends either with the files or with the right error. In both, every file that the cache calls complete has the
//! digest that is its name.
//!
//! - `server`: the server and its faults
//! - `cache`: a cache of its own for each test, and what must hold of it
//! - `files`, `faults`, `token`, `programs`: the cases

#![expect(clippy::disallowed_methods, reason = "a server has threads")]

mod cache;
mod faults;
mod files;
mod programs;
mod server;
mod token;
