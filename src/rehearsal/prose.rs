//! Words for tasks that nobody scripted: plainly marked as a rehearsal, and shaped as an agent's answer is asked to be.

use super::{asked::Asked, fault, sample, seed::Dice};
use crate::model::text;

/// The answer to a task.
pub(super) fn task(asked: &Asked, dice: &mut Dice, file: Option<&str>) -> String {
    let (agent, id) = asked.reference().unwrap_or(("", ""));
    // The sample's tasks run as `g1-class-notes`, with a prefix of the goal's.
    let scripted =
        sample::TASKS.iter().find(|task| id.ends_with(task.id) && asked.own_words().contains(task.objective()));
    let mut answer = match scripted {
        Some(task) => format!("Rehearsal. {}", task.answer),
        None => general(agent, &title(asked), dice),
    };
    if let Some(file) = file {
        answer.push_str("\n\nFiles\n- ");
        answer.push_str(file);
    }
    answer
}

/// What a task is about, in a line.
fn title(asked: &Asked) -> String {
    let words = asked.own_words();
    let body = match asked.reference() {
        Some(_) => words.split_once('\n').map_or("", |(_, rest)| rest),
        None => words,
    };
    let line = fault::without(&text::first_line(body, 200));
    let line = line.strip_prefix("Title: ").unwrap_or(&line);
    let line = text::fit(line.trim_end_matches(['.', ':']), 90);
    if line.is_empty() { "a task without words".to_owned() } else { line }
}

fn general(agent: &str, title: &str, dice: &mut Dice) -> String {
    let words: Words = match agent {
        "marie" => DANCE,
        "anga" => CODE,
        "fabien" => MARKETING,
        _ => ANY,
    };
    let opening = dice.pick(words.openings);
    let middle = dice.pick(words.middles);
    let mut findings: Vec<&str> = Vec::new();
    while findings.len() < 3 {
        let one = dice.pick(words.findings);
        if !findings.contains(&one) {
            findings.push(one);
        }
    }
    format!(
        "Rehearsal. {opening} The task was: {title}. {middle}\n\nFindings\n- {}\n\nNot verified: every word of this answer is \
         invented by the rehearsal; nothing was read, run or published.",
        findings.join("\n- ")
    )
}

#[derive(Clone, Copy)]
struct Words {
    openings: &'static [&'static str],
    middles: &'static [&'static str],
    findings: &'static [&'static str],
}

const DANCE: Words = Words {
    openings: &[
        "The group is further than its own count suggests.",
        "There is a clear picture of what works on the floor and what does not yet.",
        "Three things carry this class, and one holds it back.",
    ],
    middles: &[
        "The first half is safe at full tempo; the second half wants another week at three quarters of it.",
        "What looks like a problem of memory is one of breath: where the phrase has no pause, the line falls apart.",
        "The dancers follow sound better than counting, so the sequence is tied to the bass line.",
    ],
    findings: &[
        "Rhythm: the off-beat is late after turns; clap it while walking the beat.",
        "Posture: shoulders rise in the fast part; start each run with one slow breath.",
        "Space: the back row drifts to the left; a line of tape mends it in one lesson.",
        "Memory: the second eight-count is learnt best from its end.",
        "Energy: the last minute is stronger than the first; swap the two openings.",
        "Musicality: the pause before the chorus is not used; let everybody freeze there.",
    ],
};

const CODE: Words = Words {
    openings: &[
        "The change is small, and the way to it was longer than the change.",
        "It works, and there is a test that fails without it.",
        "The cause was one line; the cure is a test and three lines.",
    ],
    middles: &[
        "The failing case comes up only when two requests arrive within the same millisecond, which a loop of a thousand \
         pairs shows reliably.",
        "The function did two things; it now does one, and its caller says what it wants.",
        "Nothing outside this part had to change, and the public paths stay as they are.",
    ],
    findings: &[
        "A test covers the empty case, the usual case and the one that failed.",
        "Errors now name the field and the value that was found.",
        "A retry without a limit was found nearby and got one.",
        "The slowest call went from 380 ms to 45 ms on a test machine.",
        "One unused dependency can go; it is left in, because that is another task.",
        "The log line carries the request's id, so that two callers can be told apart.",
    ],
};

const MARKETING: Words = Words {
    openings: &[
        "The text is ready for a person to read aloud once and then to publish.",
        "There is one message, and everything else was cut.",
        "The draft speaks to people who decide late and read on a phone.",
    ],
    middles: &[
        "It opens with what the reader gets, names one date, and asks for one thing at the end.",
        "The tone is that of a neighbour, not of a poster: short sentences, no exclamation marks.",
        "Two versions were weighed; the shorter one keeps the promise that can be kept.",
    ],
    findings: &[
        "Headline, six words: it says who it is for.",
        "The reminder two days before matters more than the first notice.",
        "One link only; every further link halves the answers.",
        "No price is named, because none was given.",
        "The first line fits into a preview of forty characters.",
        "The picture should show hands and feet, not faces: no consent is needed for those.",
    ],
};

const ANY: Words = Words {
    openings: &[
        "The work is done in outline.",
        "There is an answer, and it is short.",
        "This came out simpler than it looked.",
    ],
    middles: &[
        "The goal was read twice, split into what is known and what is missing, and answered where it could be.",
        "Two ways were compared; the plainer one is proposed, and the other is named.",
        "What could be decided was decided; the rest is listed as open.",
    ],
    findings: &[
        "The main point fits into one sentence, which opens the answer.",
        "Two assumptions were needed; both are harmless if they are wrong.",
        "One question should go back to whoever set the task.",
        "The result is short enough to be read in a minute.",
        "Nothing here depends on another task.",
    ],
};

/// What a sub-agent says.
pub(super) fn second_look(dice: &mut Dice) -> String {
    let found = dice.pick(&[
        "one gap: a conflict inside the transaction is not tried again",
        "one gap: the case of an empty list has no test",
        "nothing that must change, and one name that could be clearer",
    ]);
    format!(
        "Rehearsal. I looked at it with fresh eyes and found {found}. The rest holds: the order of the steps is right, and each claim can be checked."
    )
}

/// The report on a goal, citing every task by its id.
pub(super) fn report(prompt: &str, dice: &mut Dice) -> String {
    let tasks = results(prompt);
    let (done, missing): (Vec<&Ended>, Vec<&Ended>) = tasks.iter().partition(|task| task.state == "done");
    let opening =
        dice.pick(&["This is what came of it.", "Here is where things stand.", "The short version comes first."]);
    let verdict = match (done.len(), missing.len()) {
        (0, 0) => "Nothing was handed in, so there is nothing to report.".to_owned(),
        (0, _) => "Nothing of the goal was reached.".to_owned(),
        (_, 0) => "Everything that was planned is done.".to_owned(),
        (done, missing) => format!("{done} of {} tasks ended well; {missing} did not, see the gaps.", done + missing),
    };
    let mut out = format!("Rehearsal. {opening} {verdict}");
    for task in &done {
        push(&mut out, &format!("\n\n**{}.** {} [{}]", task.title, task.words, task.id));
    }
    if !missing.is_empty() {
        out.push_str("\n\n## Gaps\n");
        for task in &missing {
            push(&mut out, &format!("\n- {}: {} [{}]", task.title, task.words, task.id));
        }
    }
    let cited: Vec<String> = done.iter().map(|task| format!("[{}]", task.id)).collect();
    if !cited.is_empty() {
        push(
            &mut out,
            &format!("\n\n## Unverified\n\nAll figures were invented by the rehearsal: {}.", cited.join(", ")),
        );
    }
    out
}

fn push(out: &mut String, more: &str) {
    out.push_str(more);
}

/// A task as a request for a report shows it.
struct Ended {
    id: String,
    title: String,
    state: String,
    words: String,
}

fn results(prompt: &str) -> Vec<Ended> {
    let mut ended = Vec::new();
    for section in prompt.split("\n## [").skip(1) {
        let Some((id, rest)) = section.split_once(']') else { continue };
        let (head, body) = rest.split_once('\n').unwrap_or((rest, ""));
        let title = head.trim().rsplit_once(" (").map_or(head.trim(), |(title, _)| title);
        let (state, words) = match body.split_once("<result ") {
            Some((_, result)) => {
                let (tag, text) = result.split_once('>').unwrap_or((result, ""));
                let state = tag.split_once("state=\"").and_then(|(_, s)| s.split_once('"')).map_or("", |(s, _)| s);
                let text = text.split_once("</result>").map_or(text, |(text, _)| text);
                (state, first_sentences(text))
            }
            None => ("missing", "there is no result".to_owned()),
        };
        ended.push(Ended { id: id.to_owned(), title: title.to_owned(), state: state.to_owned(), words });
    }
    ended
}

/// The first paragraph, without the word that marks a rehearsal, in at most about 300 characters.
fn first_sentences(text: &str) -> String {
    let paragraph = text.trim().split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("Rehearsal. ").unwrap_or(&line);
    let line = line.strip_prefix("It did not end well: ").unwrap_or(line);
    fault::without(&text::clip(line, 300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_cites_every_task_and_names_the_gaps() {
        let prompt = "# Report on this goal\n\n<goal>\nx\n</goal>\n\n# Tasks and what came of them\n\n\
            ## [class-notes] Evaluate the class (marie)\n\nDone when: x\n\n\
            <result task=\"class-notes\" state=\"done\" attempts=\"1\">\nRehearsal. It went well.\n\nMore.\n</result>\n\n\
            ## [ads] Buy ads (fabien)\n\n<result task=\"ads\" state=\"failed\" attempts=\"1\">\nIt did not end well: refused\n\n\
            (no text)\n</result>\n\n## [late] Late (anga)\n\nThere is no result.\n";
        let report = report(prompt, &mut Dice::new(1));
        assert!(report.contains("**Evaluate the class.** It went well. [class-notes]"), "{report}");
        assert!(report.contains("1 of 3 tasks ended well"), "{report}");
        assert!(report.contains("- Buy ads: refused [ads]\n- Late: there is no result [late]"), "{report}");
    }
}
