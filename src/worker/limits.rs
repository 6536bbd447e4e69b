//! What an attempt's stream says about limits, told to the room while it runs and before its end.
//!
//! Owns when it is told. Must not know what the room does about it. Its one surprise: it is told before the attempt's
//! end is, so that nothing else can start into a limit in between.

use jiff::Timestamp;

use super::{Post, end::Judged};
use crate::{
    claude::limited::used_up,
    model::{AttemptRef, Ending, Report, limit::Windows},
};

/// Tells what was heard of the subscription at `now`: the newest word, where it is news.
pub(super) fn heard(
    post: &mut Post,
    attempt: &AttemptRef,
    told: &mut Option<Windows>,
    heard: Vec<Windows>,
    now: Timestamp,
) {
    let Some(newest) = heard.into_iter().last() else { return };
    if told.as_ref() == Some(&newest) {
        return;
    }
    *told = Some(newest.clone());
    let news = used_up(&newest, "", now).map(Box::new);
    let windows = Some(Box::new(Windows { at: Some(now), ..newest }));
    post.send(Report::Limited { attempt: attempt.clone(), windows, news });
}

/// Tells of the limit that ended the attempt, where one did, and of what was said last.
pub(super) fn ended(post: &mut Post, attempt: &AttemptRef, judged: &Judged, now: Timestamp) {
    // The gateway's own no to a call that a budget does not pay for reads like the server's.
    let own = matches!(judged.ending, Ending::Budget { .. } | Ending::DayBudget { .. });
    let refused = judged.finding.refused.as_ref().filter(|_| !own);
    let mut news = refused.and_then(|refused| refused.news(judged.windows.as_ref(), now));
    let untold = judged.windows.as_ref().filter(|_| judged.windows_untold);
    news = news.or_else(|| used_up(untold?, "", now));
    if news.is_some() || untold.is_some() {
        let windows = untold.map(|windows| Box::new(Windows { at: Some(now), ..windows.clone() }));
        post.send(Report::Limited { attempt: attempt.clone(), windows, news: news.map(Box::new) });
    }
}
