//! The window: what is seen, what stands still, what is asked for.

use proptest::prelude::*;

use super::{rows::lines, *};
use crate::model::{LogScope, log::LogLine};

fn id() -> Arc<LogId> {
    Arc::new(LogId {
        agent: "marie".parse().unwrap(),
        task: Some("a".into()),
        attempt: Some(1),
        path: "logs/marie/a.1.log".into(),
    })
}

fn line(n: u64, text: impl Into<String>) -> TimedLine {
    let line = LogLine { kind: Kind::Text, depth: 0, text: text.into(), offset: n * 100 };
    TimedLine { log: id(), at: None, nth: 0, line }
}

fn numbered(from: u64, to: u64) -> Vec<TimedLine> {
    (from..to).map(|n| line(n, format!("line {n}"))).collect()
}

fn more(lines: Vec<TimedLine>) -> LogPart {
    LogPart { lines, files: 1, ..LogPart::default() }
}

fn whole(lines: Vec<TimedLine>) -> LogPart {
    LogPart { whole: true, starts: true, ..more(lines) }
}

/// A log at its end, and the number of its ask.
fn at_end(part: LogPart) -> (Log, u64) {
    let mut log = Log::default();
    let reading = LogReading { scope: LogScope::One((*id()).clone()), raw: false, show: Show::All };
    log.turn_to(Some(reading), LogFrom::End);
    let ask = log.ask().unwrap();
    assert_eq!((ask.from, log.ask()), (LogFrom::End, None));
    log.take(ask.id, part, 20, 3);
    (log, ask.id)
}

fn shown(log: &Log, height: usize) -> Vec<String> {
    log.view(20, height).into_iter().map(|r| r.text).collect()
}

#[test]
fn a_view_that_follows_shows_the_end_as_it_grows() {
    let (mut log, ask) = at_end(whole(numbered(1, 6)));
    assert_eq!(shown(&log, 2), ["line 4", "line 5"]);
    log.take(ask, more(numbered(6, 7)), 20, 2);
    assert_eq!(shown(&log, 2), ["line 5", "line 6"]);
    assert!(!log.take(ask + 1, more(numbered(7, 8)), 20, 2), "nobody asked for that");
}

#[test]
fn a_scrolled_back_view_stands_still_whatever_is_printed_and_says_how_much_is_new() {
    let (mut log, ask) = at_end(whole(numbered(1, 10)));
    log.scroll(-3, 20, 3);
    assert!(!log.follows());
    assert_eq!((shown(&log, 3), log.ahead()), (vec!["line 4".into(), "line 5".into(), "line 6".to_owned()], None));
    for n in 0..100 {
        log.take(ask, more(numbered(10 + n * 500, 510 + n * 500)), 20, 3);
        assert_eq!(shown(&log, 3), ["line 4", "line 5", "line 6"]);
        assert!(log.len() <= WINDOW + 500, "{}", log.len());
    }
    assert_eq!(log.ahead().unwrap(), "50000 new");
    log.scroll(100_000, 20, 3);
    assert!(!log.follows(), "the end of the window is not the end of the log");
    assert!(matches!(log.ask().unwrap().from, LogFrom::Around(_)), "what follows is read");
    log.to_end();
    assert_eq!(log.ask().unwrap().from, LogFrom::End);
}

#[test]
fn what_was_passed_over_in_a_flood_is_no_gap_in_a_view() {
    let (mut log, ask) = at_end(whole(numbered(1, 10)));
    log.take(ask, LogPart { skipped: 5_000_000, ..more(numbered(900, 905)) }, 20, 3);
    assert_eq!(shown(&log, 9), ["line 900", "line 901", "line 902", "line 903", "line 904"]);
    assert!(log.is_cut());
    log.scroll(-1, 20, 3);
    assert!(matches!(log.ask().unwrap().from, LogFrom::Around(_)), "what lies before is read again");
    let (mut log, ask) = at_end(whole(numbered(1, 10)));
    log.scroll(-2, 20, 3);
    log.take(ask, LogPart { skipped: 5_000_000, ..more(numbered(900, 905)) }, 20, 3);
    assert_eq!(shown(&log, 9).last().unwrap(), "line 9", "nothing is put beside what it does not follow");
    assert_eq!(log.ahead().unwrap(), "5 new, 5 MB further on");
}

#[test]
fn the_window_stays_bounded_by_lines_and_by_bytes() {
    let (mut log, ask) = at_end(whole(numbered(0, 10)));
    for n in 0..40 {
        log.take(ask, more(numbered(n * 1_000, (n + 1) * 1_000)), 20, 3);
    }
    assert_eq!(log.len(), WINDOW);
    assert_eq!(shown(&log, 1), ["line 39999"]);
    for n in 0..3_000 {
        log.take(ask, more(vec![line(n, "x".repeat(4_000))]), 20, 3);
    }
    assert!(log.bytes <= WINDOW_BYTES && log.bytes == log.lines.iter().map(|l| l.line.text.len()).sum::<usize>());
}

#[test]
fn near_its_beginning_what_lies_before_is_asked_for_and_the_view_stays_where_it_is() {
    let (mut log, _) = at_end(LogPart { starts: false, ..whole(numbered(5_000, 6_000)) });
    log.scroll(-700, 20, 3);
    assert_eq!(log.ask(), None, "there is enough");
    log.scroll(-200, 20, 3);
    let before = shown(&log, 3);
    let ask = log.ask().unwrap();
    let LogFrom::Around(place) = &ask.from else { panic!("{ask:?}") };
    assert_eq!(place.offset, 509_700);
    log.scroll(-5, 20, 3);
    assert_eq!(log.ask(), None, "it is asked for once");
    log.scroll(5, 20, 3);
    let part = LogPart { here: Some(1_097), starts: false, ..whole(numbered(4_000, 6_000)) };
    log.take(ask.id, part, 20, 3);
    assert_eq!(shown(&log, 3), before);
    log.to_start(20, 3);
    let ask = log.ask().unwrap();
    assert_eq!(ask.from, LogFrom::Start);
    log.take(ask.id, LogPart { below: 77, ..whole(numbered(0, 10)) }, 20, 3);
    assert_eq!(
        (shown(&log, 2), log.ahead().unwrap()),
        (vec!["line 0".into(), "line 1".to_owned()], "77 B further on".into())
    );
}

#[test]
fn long_lines_wrap_and_scroll_by_row_or_are_cut_and_moved_sideways() {
    let (mut log, _) = at_end(whole(vec![line(0, "first second third and more"), line(1, "fourth")]));
    assert_eq!(shown(&log, 2), ["and more", "fourth"]);
    log.scroll(-1, 20, 2);
    assert_eq!(shown(&log, 2), ["first second third", "and more"]);
    assert!(!log.sideways(true), "not while lines are wrapped");
    log.toggle_wrap();
    assert_eq!(shown(&log, 2), ["first second third …", "fourth"]);
    assert!(log.sideways(true));
    assert_eq!(shown(&log, 2), ["rd and more", ""]);
}

#[test]
fn a_range_goes_from_where_it_began_to_the_hand_and_lives_through_a_reload() {
    let (mut log, _) = at_end(LogPart { starts: false, ..whole(numbered(5_000, 5_500)) });
    assert_eq!(log.chosen(20, 3).map(|(a, b)| (a.offset, b.offset)), Some((549_700, 549_900)), "what is seen");
    log.toggle_range(20, 3);
    log.scroll(-400, 20, 3);
    let ask = log.ask().unwrap();
    log.take(ask.id, LogPart { here: Some(99), starts: false, ..whole(numbered(5_000, 5_300)) }, 20, 3);
    assert_eq!(log.chosen(20, 3).map(|(a, b)| (a.offset, b.offset)), Some((509_900, 549_900)));
    assert!(log.is_chosen(log.hand().unwrap()) && !log.is_chosen(log.hand().unwrap() - 1));
    assert!(log.end_range() && !log.end_range());
}

#[test]
fn marks_are_kept_when_another_log_is_read_and_are_gone_to_in_turn() {
    let (mut log, _) = at_end(whole(numbered(0, 100)));
    assert_eq!(log.toggle_mark(20, 3), Some(true));
    log.scroll(-50, 20, 3);
    log.toggle_mark(20, 3);
    assert_eq!(log.next_mark(20, 3).unwrap().1.offset, 9_900);
    assert_eq!(log.next_mark(20, 3).unwrap().1.offset, 4_900);
    assert!(log.is_marked(log.hand().unwrap()));
    let other = LogReading { scope: LogScope::Agent("anga".parse().unwrap()), raw: false, show: Show::All };
    log.turn_to(Some(other), LogFrom::End);
    let (wanted, _) = log.next_mark(20, 3).unwrap();
    assert!(!log.reads(&wanted), "whoever goes there turns to its log first");
}

proptest! {
    #[test]
    fn the_view_is_full_wherever_it_stands(
        texts in proptest::collection::vec("[a-z日 \n]{0,60}", 0..30),
        moves in proptest::collection::vec((0..11, -40_isize..40), 0..30),
        columns in 1_usize..50, height in 0_usize..20,
    ) {
        let (mut log, ask) = at_end(whole(texts.iter().zip(0..).map(|(t, n)| line(n, t)).collect()));
        let mut more_texts = texts.iter().cycle();
        for (what, n) in moves {
            match what {
                0 => log.to_start(columns, height),
                1 => log.to_end(),
                2 => log.toggle_follow(columns, height),
                3 => log.toggle_wrap(),
                4 => { log.take(ask, more(more_texts.next().map(|t| line(99, t)).into_iter().collect()), columns, height); }
                5 => log.toggle_range(columns, height),
                6 => { log.toggle_mark(columns, height); }
                7 => { log.next_mark(columns, height); }
                _ => log.scroll(n, columns, height),
            }
            let all: usize = log.lines.iter().map(|e| lines(&log, e, columns).len()).sum();
            let view = log.view(columns, height);
            prop_assert!(view.iter().all(|row| text::width(&row.text) <= columns));
            if !log.has_range() && log.hand().is_none() {
                prop_assert_eq!(view.len(), all.min(height));
            }
        }
    }
}
