//! The program: hidden verbs first, then the command line.

use std::process::ExitCode;

use podium::{cli, engines};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|verb| verb.to_str()) {
        Some("__exec") => engines::exec::main(args),
        Some("__script") => engines::script::main(args),
        Some(_) | None => ExitCode::from(cli::main()),
    }
}
