//! The loops that join the pure room to the world: the room's, the screen's, the worker's link.
//!
//! Owns the order in which things happen, and nothing else: what an event means is `room`'s, how an effect is done is a
//! door's. Its one surprise: only here is the clock read ([`clock`]).

pub mod ask;
pub mod caller;
pub mod clock;
pub mod deputy;
mod documents;
pub mod effects;
mod elsewhere;
pub mod feed;
pub mod guest;
mod hands;
pub mod herald;
pub mod hold;
mod keep;
mod known;
mod line;
pub mod lock;
pub mod logins;
mod logs;
pub mod migrate;
mod money;
pub mod open;
mod patience;
pub mod picture;
mod record;
mod refs;
pub mod remote;
pub mod replay;
pub mod screen;
pub mod serve;
pub mod sweep;
pub mod terminal;
mod tunnels;
pub mod viewer;
mod visits;
pub mod worker;
