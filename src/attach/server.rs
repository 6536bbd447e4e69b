//! The room's end of its socket.
