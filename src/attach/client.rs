//! The asking end of a connection.
