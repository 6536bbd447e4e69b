//! podium: a terminal control room for a small company of AI agents.
//!
//! The map, from the inside out. Imports point inward only; `tests/layering.rs` reads this table and checks it.
//! *Pure* means: no tokio, no files, processes or sockets, no clock, no terminal. Its tests may read files.
//! The doors are `queue`, `claude`, `api`, `limiter`, `ledger`, `gateway`, `rehearsal`, `engines`, `journal`, `logs`.
//!
//! | Module | Owns | May import |
//! |---|---|---|
//! | [`model`] | pure: the nouns: ids, tasks, endings, goals, plans, usage | nothing of ours |
//! | [`orchestrator`] | pure: plan checks, order, briefs, what a report is made of | `model` |
//! | [`room`] | pure: the state of the control room and its one `update` | `model`, `orchestrator` |
//! | [`queue`] | tasks, leases, results: the trait and its backends | `model` |
//! | [`claude`] | the stream-json of the Claude Code CLI, its arguments and environment | `model` |
//! | [`api`] | the Messages API: types, SSE, client | `model` |
//! | [`limiter`] | token buckets | `model` |
//! | [`ledger`] | prices, one row per model call | `model` |
//! | [`gateway`] | the relay for model calls: loopback, and pinned TLS from elsewhere | `model`, `api`, `limiter`, `ledger` |
//! | [`rehearsal`] | the stand-in of the Messages API | `model`, `orchestrator` (its headings), `api` |
//! | [`engines`] | how an attempt is run: claude, messages, command | `model`, `claude`, `api` |
//! | [`journal`] | append-only lines of what was decided | `model` |
//! | [`logs`] | logs on disk: which there are, read by offset, searched | `model`, `claude` |
//! | [`config`] | `podium.toml`, environment, flags | `model`, doors (for their settings) |
//! | [`attach`] | the socket: what room, screens and workers say to each other | `model`, `room` |
//! | [`worker`] | the worker process: claim, attempt, tree, result | `model`, `orchestrator`, doors, `attach`, `config` |
//! | [`supervisor`] | worker processes as the room sees them | `model` |
//! | [`guardian`] | the parent of the room's core and of the screen | `engines` (the process table) |
//! | [`tui`] | the screen: eyes and hands | `model`, `orchestrator`, `room`, `claude` |
//! | [`runtime`] | the loops: room and screen | everything above |
//! | [`cli`] | one file per verb | everything above |

pub mod api;
pub mod attach;
pub mod claude;
pub mod cli;
pub mod config;
pub mod engines;
pub mod gateway;
pub mod guardian;
pub mod journal;
pub mod ledger;
pub mod limiter;
pub mod logs;
pub mod model;
pub mod orchestrator;
pub mod queue;
pub mod rehearsal;
pub mod room;
pub mod runtime;
pub mod supervisor;
pub mod tui;
pub mod worker;
