//! The program: hidden verbs first, then the command line.

use std::process::ExitCode;

use podium::{cli, engines};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let verb = args.next();
    // Between every attempt and its engine: nothing else is done for it.
    if verb.as_ref().is_some_and(|verb| verb == "__exec") {
        return engines::exec::main(args);
    }
    // Every other role may speak TLS; the first to install wins, and there is only this one.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    match verb.as_ref().and_then(|verb| verb.to_str()) {
        Some("__script") => engines::script::main(args),
        Some("__messages") => engines::messages::main(args, podium::runtime::clock::system()),
        Some("__subagent") => engines::count_subagent(args),
        Some("__screen") => ExitCode::from(cli::screen(args)),
        Some(_) | None => ExitCode::from(cli::main()),
    }
}
