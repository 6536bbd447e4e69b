use std::process::ExitCode;

use podium::{engines, model::Clock};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_ref().and_then(|verb| verb.to_str()) {
        Some("__exec") => engines::exec::main(args),
        Some("__script") => engines::script::main(args),
        Some("__messages") => {
            #[expect(clippy::disallowed_methods, reason = "the one place where time comes in")]
            let clock = Clock::new(jiff::Timestamp::now);
            engines::messages::main(args, clock)
        }
        Some(_) | None => ExitCode::from(2),
    }
}
