//! Key scripts through keys, app, room and drawing: what an operator types, what the room makes of it, what is seen then.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    keymap::Chord,
    sample::{Stage, at},
    taste::{Depth, Taste},
    tests::{entries, picture, read, text},
    *,
};
use crate::room::{Answer, Effect, Event, OrderId, Stamped};

/// A screen on a room that answers its orders.
struct Show {
    stage: Stage,
    app: App,
    size: (u16, u16),
    orders: Vec<Order>,
}

impl Show {
    fn new(stage: Stage, settings: Settings) -> Self {
        let size = (120, 40);
        let mut app = App::new(settings);
        app.resize(size.0, size.1);
        let wishes = app.observe(&stage.state);
        let mut show = Self { stage, app, size, orders: Vec::new() };
        show.grant(wishes);
        show
    }

    /// Types `jj<enter>g`.
    fn keys(&mut self, script: &str) -> &mut Self {
        let mut rest = script;
        while let Some(c) = rest.chars().next() {
            let named = rest.strip_prefix('<').and_then(|tail| tail.split_once('>'));
            let (chord, tail) = match named.and_then(|(name, tail)| Some((Chord::parse(name)?, tail))) {
                Some(named) => named,
                None => (
                    Chord { code: KeyCode::Char(c), modifiers: KeyModifiers::NONE },
                    rest.get(c.len_utf8()..).unwrap_or_default(),
                ),
            };
            rest = tail;
            let wishes = self.app.key(KeyEvent::new(chord.code, chord.modifiers), &self.stage.state);
            self.grant(wishes);
        }
        self
    }

    fn grant(&mut self, wishes: Vec<Wish>) {
        read(&mut self.app, &self.stage.state, &wishes, entries());
        for wish in wishes {
            match wish {
                Wish::Order(order) => {
                    let event = Event::Ordered { id: OrderId(9), order: order.clone() };
                    let effects = self.stage.state.update(Stamped { at: at(200), event });
                    let answer = effects.into_iter().find_map(|effect| match effect {
                        Effect::Answer { id: OrderId(9), answer } => Some(answer),
                        _ => None,
                    });
                    // What the queue answers later, it answers well.
                    let answer = answer.unwrap_or(Answer::Done { text: "done".into(), ids: Vec::new() });
                    self.app.answered(&order, &answer);
                    self.orders.push(order);
                }
                Wish::Read(document) => self.app.document_read(&document, Ok("# The week\n\nIt is announced.")),
                _ => {}
            }
        }
    }

    fn screen(&self) -> String {
        text(&picture(&self.stage.state, &self.app, at(200), self.size))
    }

    #[track_caller]
    fn see(&mut self, what: &str) -> &mut Self {
        let screen = self.screen();
        assert!(screen.contains(what), "{what:?} is not on screen:\n{screen}");
        self
    }

    #[track_caller]
    fn see_no(&mut self, what: &str) -> &mut Self {
        let screen = self.screen();
        assert!(!screen.contains(what), "{what:?} is on screen:\n{screen}");
        self
    }
}

fn show(stage: Stage) -> Show {
    Show::new(stage, Settings::default())
}

#[test]
fn every_view_is_a_key_away_and_one_key_leads_back() {
    let mut show = show(sample::running());
    show.see("┌ Agents").see("┌ Tasks").see("┌ Limits").see("┌ Orchestrator");
    show.keys("2").see("┌ Tasks").see_no("┌ Agents").keys("1").see("┌ Agents");
    show.keys("3").see("Plan of g1").keys("<esc>").see_no("Plan of g1");
    show.keys("4").see("marie · eval-junior").see_no("┌ Agents").keys("1");
    show.keys("5").see("haiku").see_no("┌ Agents").keys("1");
    show.keys("?").see("Everywhere").keys("<esc>").see_no("Everywhere");
    show.keys(":limi<enter>").see_no("┌ Agents").keys("1");
    show.keys("<enter>").see("What is to be done").keys("q").see_no("What is to be done");
    show.keys("n").see("post-teaser").keys("q");
    show.keys("q").see("stop everything").keys("<esc>").see_no("stop everything");
    assert_eq!(show.orders, []);
}

#[test]
fn a_goal_goes_from_the_first_letter_to_the_planner() {
    let mut show = show(Stage::open());
    show.keys("gEvaluate the minis<alt-enter>and say how<enter>").see("g1 is being planned").see("Evaluate the minis");
    let [Order::Goal { text, .. }] = show.orders.as_slice() else { panic!("{:?}", show.orders) };
    assert_eq!(text, "Evaluate the minis\nand say how");
    // It is searched for and sent again.
    show.keys("g<ctrl-r>minis").see("Sent before: minis").keys("<enter>").see("and say how").keys("<esc>");
    show.keys("g<ctrl-u><backspace><ctrl-u>@nobody go<enter>").see("there is no agent nobody").keys("<ctrl-u><esc>");
}

#[test]
fn a_plan_is_read_and_denied_and_nothing_of_it_starts() {
    let mut show = show(sample::planned());
    show.see("? plan for g1").keys("3").see("Evaluate the juniors").keys("d").see("y").keys("n").see("? plan for g1");
    assert_eq!(show.orders, []);
    show.keys("d").keys("y").see_no("? plan for g1");
    assert!(matches!(show.orders.as_slice(), [Order::Deny { .. }]), "{:?}", show.orders);
}

#[test]
fn an_agent_is_paused_and_goes_on_with_the_same_key() {
    let mut show = show(sample::running());
    show.keys("<shift-tab><shift-tab><shift-tab><shift-tab>");
    while !show.screen().contains("┌ Agents") || show.app.focus() != layout::Pane::Agents {
        show.keys("<tab>");
    }
    show.keys("p").see("paused").keys("p").see_no("paused; p");
    assert!(matches!(show.orders.as_slice(), [Order::Pause { .. }, Order::Resume { .. }]), "{:?}", show.orders);
}

#[test]
fn the_tasks_are_narrowed_and_the_log_is_searched() {
    let mut show = show(sample::running());
    show.keys("/teaser<enter>").see("post-teaser").see_no("api-docs ").keys("<esc>").see("api-docs");
    show.keys("4/notes").see("search the log: /notes").keys("<esc>");
    assert_eq!(show.orders, []);
}

#[test]
fn keys_of_the_operators_own_are_in_force_and_shown_wherever_keys_are_shown() {
    let (taste, slips) = Taste::read(
        "screen.toml",
        "[keys]\nhelp = \"f5\"\nretry = [\"ctrl-r\", \"f6\"]\ngoal = \"w\"\nwrap = \"W\"\nplan = \"f8\"\n",
    );
    assert_eq!(slips, []);
    let mut show = Show::new(sample::planned(), Settings { keys: taste.keys, ..Settings::default() });
    show.see(" f5 help").see("ctrl-r retry").see("w writes a goal").see("a approve · f8 look · d deny");
    show.keys("?")
        .see_no("Everywhere")
        .keys("<f5>")
        .see("Everywhere")
        .keys("<pgdn><pgdn>")
        .see("ctrl-r f6")
        .keys("<esc>");
    show.keys("<f8>").see("Plan of g1").keys("<esc>").keys("3").see_no("Plan of g1");
    show.keys("whello").see("hello").keys("<ctrl-u><esc>");
    show.keys(":retry how").see("retry how").keys("<esc>");
    assert_eq!(show.orders, []);
}

#[test]
fn the_borders_move_and_stop_where_a_side_would_say_nothing() {
    let mut show = show(sample::running());
    let place = |show: &Show| show.screen().lines().nth(1).and_then(|row| row.chars().position(|c| c == '┐')).unwrap();
    let before = place(&show);
    show.keys(">>");
    assert_eq!(place(&show), before + 4);
    show.keys("<<");
    assert_eq!(place(&show), before);
    for _ in 0..60 {
        show.keys(">");
    }
    let widest = place(&show);
    show.keys(">").keys("<<>");
    assert!(
        widest < 81 && place(&show) == widest - 2,
        "a border at its end answers at once: {} {widest}",
        place(&show)
    );
    show.keys("}}{").see("┌ Tasks");
    show.size = (80, 24);
    show.app.resize(80, 24);
    show.keys(">").see("only where all are shown");
}

#[test]
fn a_theme_changes_colours_and_no_letter() {
    let stage = sample::running();
    let draw = |theme: Theme| {
        let show = Show::new(sample::running(), Settings { theme, ..Settings::default() });
        picture(&stage.state, &show.app, at(200), show.size)
    };
    let usual = draw(Theme::default());
    let mut seen = Vec::new();
    for (name, _) in theme::BUILT_IN {
        for depth in [Depth::None, Depth::Sixteen, Depth::Many, Depth::True] {
            let frame = draw(Theme::built_in(name, depth).unwrap());
            assert_eq!(text(&frame), text(&usual), "{name}");
            let colours: std::collections::HashSet<_> = frame.content.iter().flat_map(|c| [c.fg, c.bg]).collect();
            assert_eq!(colours.len() == 1, depth == Depth::None, "{name} {depth:?}: {colours:?}");
            if depth > Depth::None && name != "terminal" {
                use ratatui::style::Color;
                assert!(frame.content.iter().all(|c| c.bg != Color::Reset), "{name} leaves no hole in its ground");
            }
            if !seen.contains(&frame) {
                seen.push(frame);
            }
        }
    }
    // Plain, the terminal's own at any depth, and three that differ at each of three.
    assert_eq!(seen.len(), 2 + 3 * 3);
}

#[test]
fn a_run_that_is_over_is_looked_at_and_nothing_of_it_can_be_ordered() {
    let mut show = show(sample::running());
    let (begin, end) = (at(0), at(200));
    let moment = Moment { at: at(105), begin, end, event: 60, events: 70, playing: false, speed: 1, decisions: false };
    show.app.at_moment(moment);
    show.see("REPLAY").see("event 60 of 70").see("2×").see("1:45 of 3:20").see("space play");
    show.keys("<home>r").see("nothing can be ordered").keys("<esc>");
    show.keys("cy<esc>").keys("g@marie go<enter><esc>");
    assert_eq!(show.orders, []);
    for (key, turn) in [
        ("<space>", Turn::Play),
        (".", Turn::StepOn),
        (",", Turn::StepBack),
        ("<right>", Turn::SeekOn),
        ("0", Turn::Start),
        ("$", Turn::End),
        ("+", Turn::Faster),
    ] {
        let chord = Chord::parse(key.trim_matches(['<', '>'])).unwrap();
        let wishes = show.app.key(KeyEvent::new(chord.code, chord.modifiers), &show.stage.state);
        assert!(wishes.contains(&Wish::Turn(turn)), "{key}: {wishes:?}");
    }
    let wishes = show.app.key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE), &show.stage.state);
    assert!(wishes.contains(&Wish::Quit(Leave::Detach)), "nothing goes on, nothing is asked");
}

#[test]
fn text_from_right_to_left_wide_and_combining_moves_no_border() {
    let texts = [
        "שלום עולם, הערכה של הקבוצה",
        "مرحبا بالعالم",
        "日本語の名前と絵文字👩‍👩‍👧‍👦🏳️‍🌈",
        "e\u{301}\u{301}\u{200d}\u{200b}x\u{ad}y",
        "क्षत्रिय ｶﾞﾊﾟ ﷽",
    ];
    for content in texts {
        let mut stage = Stage::open();
        stage.task(1, "marie/a", &content.repeat(9), &[]);
        stage.start(2, "marie/a", content);
        let mut show = Show::new(stage, Settings::default());
        show.keys("g").app.paste(&content.repeat(5));
        let frame = picture(&show.stage.state, &show.app, at(60), show.size);
        for y in 1..39 {
            let edge = |x: u16| frame[(x, y)].symbol().to_owned();
            for x in [0, 119] {
                assert!("│┌└┐┘├┤".contains(&edge(x)), "{content}: row {y}: {:?}\n{}", edge(x), text(&frame));
            }
        }
    }
}
