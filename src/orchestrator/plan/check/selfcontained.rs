//! `P08`: whether a task can be done by somebody who has read nothing else.
//!
//! Its one surprise: it knows the phrases that lean on another text in a dozen languages, as phrases, not as single words:
//! "above" alone is innocent.

use std::{collections::HashMap, sync::LazyLock};

use super::{fault, is_blank, shown};
use crate::model::{Fault, PlanTask};

/// Phrases that mean "read it elsewhere".
const LEANING: &[&str] = &[
    // English
    "as above",
    "see above",
    "same as above",
    "as described above",
    "as mentioned above",
    "mentioned above",
    "described above",
    "as before",
    "as previously",
    "same as before",
    "as in the previous task",
    "as the previous task",
    "like the previous task",
    "same as the previous",
    "same as the other",
    "same as the first task",
    "as in the other task",
    "see goal",
    "see the goal",
    "as per the goal",
    "as stated in the goal",
    "see other task",
    "see previous",
    "see the plan",
    "as discussed",
    "as agreed",
    "as usual",
    "ditto",
    "ibid",
    // German
    "wie oben",
    "siehe oben",
    "wie vorher",
    "wie zuvor",
    "wie bereits",
    "wie gehabt",
    "wie in der vorigen aufgabe",
    "wie besprochen",
    "siehe ziel",
    "wie im ziel",
    "wie üblich",
    "dito",
    // French
    "comme ci-dessus",
    "voir ci-dessus",
    "cf. ci-dessus",
    "ci-dessus mentionné",
    "comme précédemment",
    "comme avant",
    "idem",
    "voir l'objectif",
    "comme convenu",
    "comme d'habitude",
    // Spanish
    "como arriba",
    "ver arriba",
    "véase arriba",
    "como antes",
    "igual que antes",
    "lo mismo que arriba",
    "ídem",
    "como se dijo",
    "ver el objetivo",
    "como siempre",
    // Italian
    "come sopra",
    "vedi sopra",
    "come prima",
    "come detto",
    "vedi obiettivo",
    "come al solito",
    // Portuguese
    "como acima",
    "ver acima",
    "veja acima",
    "conforme acima",
    "como antes",
    "como combinado",
    // Dutch
    "zoals hierboven",
    "zie boven",
    "zie hierboven",
    "zoals eerder",
    "zoals afgesproken",
    // Swedish, Danish, Norwegian
    "som ovan",
    "se ovan",
    "som ovenfor",
    "se ovenfor",
    "som tidigare",
    "som før",
    // Polish, Czech, Turkish
    "jak wyżej",
    "patrz wyżej",
    "jak poprzednio",
    "jak výše",
    "viz výše",
    "yukarıdaki gibi",
    "yukarıya bakın",
    // Russian, Ukrainian
    "как выше",
    "см. выше",
    "смотри выше",
    "как указано выше",
    "как раньше",
    "то же самое",
    "як вище",
    "див. вище",
    // Chinese, Japanese, Korean
    "同上",
    "如上",
    "见上",
    "見上",
    "上述",
    "上記",
    "同前",
    "前述",
    "위와 같이",
    "상동",
    "앞과 같이",
    // Arabic
    "كما أعلاه",
    "انظر أعلاه",
    "كما سبق",
];

/// Words that, before "task 2", send the reader there.
const SENDING: &[&str] = &[
    "see",
    "as in",
    "like",
    "like in",
    "from",
    "of",
    "same as",
    "siehe",
    "wie in",
    "aus",
    "von",
    "voir",
    "comme dans",
    "comme la",
    "ver",
    "como en",
    "de la",
    "vedi",
    "come nel",
    "zie",
    "zoals in",
    "см.",
    "как в",
    "из",
];
/// Words for a task.
const TASKS: &[&str] = &[
    "task",
    "step",
    "aufgabe",
    "schritt",
    "tâche",
    "étape",
    "tarea",
    "paso",
    "compito",
    "passo",
    "tarefa",
    "taak",
    "stap",
    "задача",
    "задаче",
    "задачи",
    "шаг",
    "шаге",
    "шага",
];

/// Checks one task.
pub(super) fn check(faults: &mut Vec<Fault>, i: usize, task: &PlanTask) {
    let at = |field: &str| format!("tasks[{i}].{field}");
    let parts = [
        ("output", &task.output, "what it makes: form, length, language, file names"),
        ("boundaries", &task.boundaries, "what it must not do and where it stops"),
    ];
    for (name, text, what) in parts {
        if is_blank(text) {
            faults.push(fault("P08", at(name), format!("is blank; say {what}")));
        }
    }
    let mut texts = vec![(at("title"), &task.title), (at("objective"), &task.objective)];
    texts.extend(task.inputs.iter().enumerate().map(|(j, input)| (at(&format!("inputs[{j}].what")), &input.what)));
    texts.extend([(at("output"), &task.output), (at("boundaries"), &task.boundaries)]);
    for (path, text) in texts {
        if let Some(phrase) = leaning(text) {
            let message =
                format!("leans on another text ({}); its agent sees only this task, so say it in full", shown(&phrase));
            faults.push(fault("P08", path, message));
        }
    }
}

/// The phrase by which a text leans on another one.
fn leaning(text: &str) -> Option<String> {
    let lower = text.to_lowercase().replace('’', "'");
    let words: Vec<&str> = lower.split_whitespace().collect();
    let bare = LEANING.iter().copied().find(|phrase| is_bare(phrase) && lower.contains(phrase));
    let found = bare.or_else(|| (0..words.len()).find_map(|at| begins(words.get(at..)?)));
    found.map(str::to_owned).or_else(|| numbered(&words))
}

/// The phrases whose words are set apart, by their first word: one look per word of a text, whatever the number of phrases.
static BY_WORD: LazyLock<HashMap<&str, Vec<&str>>> = LazyLock::new(|| {
    let mut all: HashMap<&str, Vec<&str>> = HashMap::new();
    for phrase in LEANING.iter().filter(|phrase| !is_bare(phrase)) {
        all.entry(phrase.split(' ').next().unwrap_or_default()).or_default().push(phrase);
    }
    all
});

/// Whether a phrase is of a script without blanks between words.
fn is_bare(phrase: &str) -> bool {
    phrase.chars().any(|c| ('\u{2e80}'..'\u{a4cf}').contains(&c) || ('\u{ac00}'..'\u{d7a4}').contains(&c))
}

/// The phrase that starts with the first of these words. "Such as, above all" is none: a comma parts it.
fn begins(words: &[&str]) -> Option<&'static str> {
    let first = words.first()?.trim_start_matches(|c: char| !c.is_alphanumeric());
    let edge = |word: &str| word.trim_end_matches(|c: char| !c.is_alphanumeric()).to_owned();
    let phrases = BY_WORD.get(first).or_else(|| BY_WORD.get(&*edge(first)))?;
    phrases.iter().copied().find(|phrase| {
        let wanted: Vec<&str> = phrase.split(' ').collect();
        let (Some((last, head)), Some(found)) = (wanted.split_last(), words.get(..wanted.len())) else { return false };
        let starts = head.iter().zip(found).enumerate().all(|(n, (want, word))| {
            *want == if n == 0 { word.trim_start_matches(|c: char| !c.is_alphanumeric()) } else { word }
        });
        let tail = found.last().map(|word| word.trim_start_matches(|c: char| !c.is_alphanumeric())).unwrap_or_default();
        starts && (tail == *last || edge(tail) == *last)
    })
}

/// "see task 2", "aus Schritt 3".
fn numbered(words: &[&str]) -> Option<String> {
    words.windows(2).enumerate().find_map(|(at, pair)| {
        let [word, number] = pair else { return None };
        let digits = number.trim_matches(|c: char| !c.is_alphanumeric());
        let is_number = !digits.is_empty() && digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number || !TASKS.contains(word) {
            return None;
        }
        let one = at.checked_sub(1).and_then(|i| words.get(i)).copied().unwrap_or_default();
        let two = at.checked_sub(2).and_then(|i| words.get(i)).map_or_else(String::new, |w| format!("{w} {one}"));
        (SENDING.contains(&one) || SENDING.contains(&&*two)).then(|| format!("{one} {word} {digits}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_counts_alone_and_not_as_part_of_something_innocent() {
        for bad in [
            "Do it as above.",
            "Format: SAME\n as above",
            "Siehe oben!",
            "同上",
            "см. выше",
            "Use the list from step 2.",
            "Idem.",
        ] {
            assert!(leaning(bad).is_some(), "{bad}");
        }
        for good in [
            "Draw the moon above the house as a circle",
            "A worksheet with task 1 to task 5",
            "The identity of the caller",
            "Place the seed oben rechts",
            "Include the above-ground pipes",
            "Use rhythms such as, above all, the clave",
            "Idempotent calls",
        ] {
            assert_eq!(leaning(good), None, "{good}");
        }
    }
}
