//! Server-sent events out of bytes, however the bytes are cut.
//!
//! Owns the line rules of the format: `\n`, `\r\n` and bare `\r` end a line, a byte order mark is dropped at the start of
//! the stream, an event counts only once its blank line has come. Must not know what an event means. Its one surprise:
//! bytes that are not UTF-8 become replacement characters instead of an end of the stream.

/// The most bytes one event may have.
pub const LIMIT: usize = 64 * 1024 * 1024;

/// One event: its name (`message` where the server gave none) and its data, lines joined by `\n`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The event's name.
    pub event: String,
    /// Its data.
    pub data: String,
}

/// An event grew beyond [`LIMIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {LIMIT} bytes")]
pub struct TooLarge;

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    event: String,
    data: String,
    has_data: bool,
    after_cr: bool,
    started: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and returns the events they complete.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Vec<Frame>, TooLarge> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes.first() == Some(&b'\n') {
                bytes = bytes.split_at(1).1;
                continue;
            }
            let end = bytes.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let (head, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + self.data.len() + head.len() > LIMIT {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(head);
            bytes = rest;
            if let Some((end, rest)) = rest.split_first() {
                self.after_cr = *end == b'\r';
                bytes = rest;
                frames.extend(self.end_line());
            }
        }
        Ok(frames)
    }

    fn end_line(&mut self) -> Option<Frame> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = if self.started { &*text } else { text.strip_prefix('\u{feff}').unwrap_or(&text) };
        self.started = true;
        if text.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = std::mem::take(&mut self.data);
            let event = if event.is_empty() { "message".to_owned() } else { event };
            return std::mem::take(&mut self.has_data).then_some(Frame { event, data });
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut decoder = Decoder::new();
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(decoder.push(piece).unwrap().into_iter().map(|f| (f.event, f.data)));
        }
        all
    }

    fn pair(event: &str, data: &str) -> (String, String) {
        (event.to_owned(), data.to_owned())
    }

    const SAMPLE: &str = "\u{feff}event: ping\r\ndata: {\"type\": \"ping\"}\r\n\r\n: a comment\nid: 7\ndata: a\ndata:b\rdata\r\r\
        event: error\ndata: \u{1f980} é\n\nretry: 10\n\nevent: lonely\n\ndata: never finished\n";

    fn sample() -> Vec<(String, String)> {
        vec![pair("ping", "{\"type\": \"ping\"}"), pair("message", "a\nb\n"), pair("error", "\u{1f980} é")]
    }

    #[test]
    fn a_stream_cut_at_any_byte_gives_the_same_events() {
        let bytes = SAMPLE.as_bytes();
        assert_eq!(decode(&[bytes]), sample());
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(decode(&[head, tail]), sample(), "cut at {at}");
        }
        assert_eq!(decode(&bytes.chunks(1).collect::<Vec<_>>()), sample());
    }

    #[test]
    fn an_event_without_its_blank_line_is_no_event() {
        assert_eq!(decode(&[b"event: message_stop\ndata: {}"]), []);
        assert_eq!(decode(&[b"event: message_stop\ndata: {}\n"]), []);
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_start() {
        assert_eq!(
            decode(&["\u{feff}data: x\n\n\u{feff}data: y\n\ndata: z\n\n".as_bytes()]),
            [pair("message", "x"), pair("message", "z")]
        );
    }

    #[test]
    fn bytes_that_are_no_text_do_not_end_the_stream() {
        assert_eq!(
            decode(&[b"data: \xff\xfe\n\ndata: ok\n\n"]),
            [pair("message", "\u{fffd}\u{fffd}"), pair("message", "ok")]
        );
    }

    proptest! {
        #[test]
        fn any_cutting_of_any_bytes_gives_the_same_events(
            text in "(data|event|id|:|: |\u{feff}|é|\r|\n|\r\n|\n\n|[a-z]|\u{1f980}){0,40}",
            cuts in proptest::collection::vec(0usize..200, 0..8),
        ) {
            let bytes = text.as_bytes();
            let whole = decode(&[bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|at| *at <= bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(decode(&pieces), whole);
        }

        #[test]
        fn an_event_written_in_any_style_comes_back(
            events in proptest::collection::vec(("[a-z_]{1,12}", proptest::collection::vec("[^\r\n]{0,20}", 1..4)), 0..5),
            ending in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        ) {
            let mut text = String::new();
            for (name, lines) in &events {
                text.push_str("event: ");
                text.push_str(name);
                text.push_str(ending);
                for line in lines {
                    text.push_str("data: ");
                    text.push_str(line);
                    text.push_str(ending);
                }
                text.push_str(ending);
            }
            let wanted: Vec<_> = events.iter().map(|(name, lines)| pair(name, &lines.join("\n"))).collect();
            prop_assert_eq!(decode(&[text.as_bytes()]), wanted);
        }
    }
}
