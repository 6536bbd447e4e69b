//! `podium limit`: what the calls of a model group may take per minute, set while the room works.

use clap::Args;

use super::{Call, Exit, Trouble, link, orders::send, wait::seen};
use crate::{
    model::limit::{OwnLimit, group},
    room::Order,
};

/// `podium limit`.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// The model group, such as sonnet; a model's name stands for its group
    group: String,
    /// Requests a minute at most
    #[arg(long, value_name = "N", value_parser = per_minute)]
    requests: Option<u32>,
    /// Input tokens a minute at most that do not come from the cache, such as 200k or 2M
    #[arg(long, value_name = "TOKENS", value_parser = per_minute)]
    input: Option<u32>,
    /// Output tokens a minute at most
    #[arg(long, value_name = "TOKENS", value_parser = per_minute)]
    output: Option<u32>,
    /// Take back what was set
    #[arg(long, conflicts_with_all = ["requests", "input", "output"])]
    off: bool,
}

/// Reads `500`, `200k` or `2M`.
fn per_minute(text: &str) -> Result<u32, String> {
    let (digits, times) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (text.split_at(at).0, 1_000),
        Some((at, 'm' | 'M')) => (text.split_at(at).0, 1_000_000),
        Some(_) | None => (text, 1),
    };
    let number = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(times)).filter(|n| *n > 0);
    number.ok_or_else(|| "a number from 1 on, such as 500, 200k or 2M".to_owned())
}

pub(super) async fn limit(call: &Call, args: &LimitArgs) -> anyhow::Result<Exit> {
    let own = OwnLimit { requests: args.requests, input: args.input, output: args.output };
    if own.is_empty() && !args.off {
        let said = "say what is to be limited: --requests, --input or --output; --off takes it back";
        return Err(Trouble::Wrong(said.to_owned()).into());
    }
    let mut link = link::connect(&call.config()?).await?;
    let (exit, ids) = send(call, &mut link, Order::Limit { group: group(&args.group).to_owned(), own }).await?;
    if let (Exit::Done, Some(name)) = (exit, ids.first()) {
        seen(&mut link, |state| state.own_limits.contains_key(name) != own.is_empty()).await;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_with_or_without_a_thousand_or_a_million() {
        assert_eq!(["500", "200k", "2M", "1K"].map(per_minute), [Ok(500), Ok(200_000), Ok(2_000_000), Ok(1_000)]);
        for bad in ["0", "", "k", "-1", "1.5k", "5000M", "2 k", "ein"] {
            assert!(per_minute(bad).is_err(), "{bad}");
        }
    }
}
