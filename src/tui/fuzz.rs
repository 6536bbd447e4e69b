//! Random keys, sizes, pastes and clicks through the whole app: nothing panics, nothing harmful is drawn.
//!
//! `PODIUM_SEED=7 PODIUM_KEYS=100000` change what is random and how much of it there is.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

use super::{
    tests::{assert_harmless, entries, hostile, picture, read},
    *,
};
use crate::room::{Answer, State};

/// A small generator, the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn size(&mut self) -> (u16, u16) {
        // Small ones often: that is where things do not fit.
        let (w, h) = if self.below(3) == 0 {
            (1 + self.below(70), 1 + self.below(20))
        } else {
            (60 + self.below(140), 16 + self.below(60))
        };
        (u16::try_from(w).unwrap(), u16::try_from(h).unwrap())
    }

    fn key(&mut self) -> KeyEvent {
        const NAMED: [KeyCode; 18] = [
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Left,
            KeyCode::Right,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::Backspace,
            KeyCode::Delete,
            KeyCode::Insert,
            KeyCode::F(1),
            KeyCode::F(12),
            KeyCode::Null,
        ];
        let code = match self.below(10) {
            0..3 => self.one(&NAMED),
            3 => KeyCode::Char(
                self.one(&['é', '漢', '👩', '\u{200d}', '\u{301}', 'ﾞ', '\u{202e}', '\u{7}', '\u{1b}', ' ', '@', '/']),
            ),
            _ => KeyCode::Char(char::from(u8::try_from(33 + self.below(94)).unwrap())),
        };
        let modifiers = match self.below(12) {
            0 => KeyModifiers::CONTROL,
            1 => KeyModifiers::ALT,
            2 => KeyModifiers::SHIFT,
            3 => KeyModifiers::CONTROL | KeyModifiers::ALT,
            _ => KeyModifiers::NONE,
        };
        KeyEvent::new(code, modifiers)
    }

    fn mouse(&mut self) -> MouseEvent {
        let kind = self.one(&[
            MouseEventKind::Down(MouseButton::Left),
            MouseEventKind::ScrollUp,
            MouseEventKind::ScrollDown,
            MouseEventKind::Moved,
        ]);
        let place = |n| u16::try_from(n).unwrap();
        let (column, row) = (place(self.below(300)), place(self.below(120)));
        MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }
    }
}

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

#[test]
fn random_keys_and_sizes_make_nothing_panic() {
    let seed = variable("PODIUM_SEED", 20_261_128);
    let keys = variable("PODIUM_KEYS", 20_000);
    eprintln!("PODIUM_SEED={seed} PODIUM_KEYS={keys}");
    let mut random = Random(seed);
    let rooms = [
        sample::Stage::open(),
        sample::running(),
        sample::planned(),
        sample::reported(),
        sample::accounts(),
        hostile(),
    ];
    let none = State::default();
    let mut state = &none;
    let mut app = App::new(Settings::default());
    let (mut size, mut drawn, mut left) = ((80, 24), 0_u32, 0_u32);
    for n in 0..keys {
        if n % 500 == 0 {
            // Another room, sometimes another screen, sometimes a run that is over.
            state = if random.below(12) == 0 { &none } else { &rooms[usize::try_from(random.below(6)).unwrap()].state };
            if random.below(3) == 0 {
                app = App::new(Settings { ascii: random.below(4) == 0, ..Settings::default() });
                app.resize(size.0, size.1);
                if random.below(4) == 0 {
                    let at = state.now;
                    app.at_moment(Moment {
                        at,
                        begin: at,
                        end: at,
                        event: 3,
                        events: 7,
                        playing: false,
                        speed: 0,
                        decisions: false,
                    });
                }
            }
        }
        let wishes = match random.below(40) {
            0..2 => {
                size = random.size();
                app.resize(size.0, size.1);
                Vec::new()
            }
            2 => {
                let text = random.one(&["a\nb", "@", "日本語 ﾞ\u{1b}[2J", "", "x\u{202e}y\u{301}\u{301}👩‍👩‍👧‍👦 "]);
                app.paste(&text.repeat(usize::try_from(1 + random.below(40)).unwrap()));
                Vec::new()
            }
            3..5 => {
                let event = random.mouse();
                app.mouse(event, state)
            }
            _ => {
                let event = random.key();
                app.key(event, state)
            }
        };
        for wish in &wishes {
            match wish {
                Wish::Quit(_) => left += 1,
                Wish::Order(order) => {
                    let answer = if random.below(2) == 0 {
                        Answer::Done { text: "done \u{1b}[31m漢".repeat(3), ids: Vec::new() }
                    } else {
                        Answer::Refused { reason: "no\nno".into() }
                    };
                    app.answered(order, &answer);
                }
                Wish::ReadTask(task) => app.task_read(task, Ok(&"What is to be done, at length. ".repeat(200))),
                Wish::ReadLogin(agent) => app.login_read(agent, &Err("max, expired \u{1b}[2J".to_owned())),
                Wish::Read(document) => app.document_read(document, Ok("# A report\n\n漢字 \u{1b}]0;x\u{7}")),
                Wish::List(folder) => {
                    let entry = |name: &str, folder| composer::Entry { name: name.into(), folder };
                    app.folder_read(folder.clone(), vec![entry("漢\u{301}", true), entry("a.md", false)], state);
                }
                Wish::ReadTemplates => {
                    app.templates_read(vec![composer::Template { name: "t".into(), text: "{gap}".into() }]);
                }
                _ => {}
            }
        }
        if random.below(3) > 0 {
            read(&mut app, state, &wishes, entries());
        }
        if n % 12 == 0 {
            assert_harmless(&picture(state, &app, sample::at(60), size));
            drawn += 1;
        }
    }
    assert!(drawn > 0 && left > 0, "it drew {drawn} frames and left {left} times: the keys arrive");
}
