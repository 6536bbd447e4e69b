//! The screen's parent: it gives the terminal back when the screen no longer can.

use std::process::Command;

use anyhow::Context as _;

use super::{Exit, fail, out::Out};
use crate::{
    guardian::{self, Ended},
    runtime::open::program,
    tui::terminal::Modes,
};

/// Runs this command line's screen as a child in this terminal; tells its exit code, or 128 and its signal's number.
pub(super) fn main() -> u8 {
    let out = Out::new(false, std::env::var_os("NO_COLOR").is_none());
    let accompanied = Modes::now().context("could not read the terminal's modes").and_then(|before| {
        let mut screen = Command::new(program()?);
        screen.arg("__screen").arg(std::process::id().to_string()).args(std::env::args_os().skip(1));
        Ok((guardian::accompany(screen).context("could not open the screen")?, before))
    });
    match accompanied {
        Ok((Ended::Code(code), _)) => code,
        Ok((Ended::Signal(number), before)) => {
            before.give_back();
            out.note(&format!("the screen was ended by signal {number}; the room and its agents go on"));
            u8::try_from(number).map_or(Exit::Failed as u8, |number| 128_u8.saturating_add(number))
        }
        Err(error) => fail(&out, &error) as u8,
    }
}
