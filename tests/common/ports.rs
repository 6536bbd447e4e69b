//! Ports for servers of tests: below those that the kernel gives to connections, and each held by one test at a time.

use std::{
    fs::{self, File},
    net::TcpListener,
};

/// Where ports are; a connection's own end is never among them.
const FIRST: u16 = 12_000;
const ALL: u16 = 20_000;

/// A port that nobody has, and that no other test gets before this one's process has ended.
pub(crate) fn free_port() -> u16 {
    let folder = std::env::temp_dir().join("podium-test-ports");
    fs::create_dir_all(&folder).unwrap();
    // Tests that begin together begin to look in different places.
    let from = std::process::id().wrapping_mul(97);
    let mut ports = (0..ALL).map(|n| FIRST + u16::try_from(from.wrapping_add(n.into()) % u32::from(ALL)).unwrap());
    let port = ports.find(|port| {
        let lock = File::create(folder.join(port.to_string())).unwrap();
        let is_free = lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", *port)).is_ok();
        if is_free {
            // Held until the process ends.
            Box::leak(Box::new(lock));
        }
        is_free
    });
    port.unwrap()
}
