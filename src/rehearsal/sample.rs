//! The sample goal: its plan, and what its tasks answer.

use crate::model::{
    Effort, Estimates, PlanTask,
    plan::{Input, Range, Requirement},
};

/// A goal whose plan has a fan-out, chains, a sub-agent, a limit that is waited out and a task that is refused.
pub const SAMPLE_GOAL: &str = "Evaluate Saturday's beginner hip-hop class, fix the sign-up API that takes double bookings, \
    and announce recital week";

/// What the plan says of itself.
pub(super) const SUMMARY: &str = "Three strands: marie evaluates the class and makes the recital's running order from it, \
    anga finds and fixes the double bookings, fabien prepares the announcement, which waits for the running order and for \
    a sign-up that works. Assumed: recital week is the last week of the term.";

/// One task of the sample plan.
pub(super) struct SampleTask {
    pub(super) id: &'static str,
    worker: &'static str,
    title: &'static str,
    description: &'static str,
    dependencies: &'static [&'static str],
    done_when: &'static [&'static str],
    minutes: f64,
    /// What the agent answers; three parts: summary, findings, what is open.
    pub(super) answer: &'static str,
}

impl SampleTask {
    /// The first line of its description, by which it is known again.
    pub(super) fn objective(&self) -> &'static str {
        self.description.lines().next().unwrap_or_default()
    }
}

/// The plan's tasks, in order.
pub(super) const TASKS: [SampleTask; 9] = [
    SampleTask {
        id: "class-notes",
        worker: "marie",
        title: "Evaluate Saturday's hip-hop class",
        description: "Evaluate Saturday's beginner hip-hop class of 14 dancers: rhythm, control of the groove, memory for \
            the sequence, and confidence.\nInputs: no video is given; choose plausible observations and say so.\nOutput: \
            four findings with one exercise each, in the file class-notes.md.\nBoundaries: no names of pupils, no running \
            order for the recital; that is another task.",
        dependencies: &[],
        done_when: &["There are four findings", "Each finding has one exercise"],
        minutes: 6.0,
        answer: "The class keeps the beat well and loses it where the tempo changes. Eleven of fourteen dancers hold the \
            bounce for a whole song; the second eight-count of the sequence is where memory gives out. The group is ready \
            for the recital with one short piece at 96 beats a minute.\n\nFindings\n- Rhythm: steady up to 100 beats a \
            minute. Exercise: clap the off-beat while walking the beat.\n- Groove: the bounce stops when the arms begin. \
            Exercise: arms alone, then bounce alone, then both at half speed.\n- Memory: the second eight-count is lost. \
            Exercise: learn it backwards, last two counts first.\n- Confidence: eyes go to the floor in turns. Exercise: \
            turn towards a partner and name a colour.\n\nNot verified: no video was given; the observations are invented \
            for this rehearsal.",
    },
    SampleTask {
        id: "booking-cause",
        worker: "anga",
        title: "Find the cause of double bookings",
        description: "Find out why the sign-up API can book the last place of a class twice.\nInputs: the symptom: two \
            requests within a second both get 201 for one free place. [[rehearse:429]]\nOutput: the cause, how to \
            reproduce it, and the smallest safe fix, in words.\nBoundaries: change nothing yet.",
        dependencies: &[],
        done_when: &["The cause is named", "There is a way to reproduce it"],
        minutes: 7.0,
        answer: "The API reads the number of free places and writes the booking in two steps, without a lock between \
            them. Two requests that arrive together both read one free place, and both write. It happens in about one of \
            forty pairs of requests on a test machine.\n\nFindings\n- Cause: check and insert are two statements outside \
            a transaction.\n- Reproduced: 40 pairs of parallel requests gave one double booking.\n- Smallest safe fix: a \
            unique key on class and place number, and 409 for the loser.\n- A lock in the process would not help: two \
            processes serve the API.\n\nNot verified: the figures are invented for this rehearsal.",
    },
    SampleTask {
        id: "audience",
        worker: "fabien",
        title: "Choose audience and channels",
        description: "Say who recital week is for, what they want to know first, and where they look.\nInputs: a dance \
            school with beginner classes for children and adults; budget for printing only.\nOutput: two audiences, one \
            message each, two channels each.\nBoundaries: no texts for posters yet.",
        dependencies: &[],
        done_when: &["Two audiences with one message each", "Two channels per audience"],
        minutes: 4.0,
        answer: "Recital week speaks to the families of the dancers and to neighbours who have never seen a class. \
            Families want the hour of their child's piece; neighbours want to know that they may just come in.\n\n\
            Findings\n- Families: \"Your dancer is on at this hour.\" Channels: e-mail, the notice at the studio door.\n\
            - Neighbours: \"Open doors, no ticket, one hour.\" Channels: a poster at the bakery, the district's page.\n\
            - Both decide late: the reminder two days before matters more than the first notice.\n\nNot verified: none \
            of this was asked of real people; this is a rehearsal.",
    },
    SampleTask {
        id: "running-order",
        worker: "marie",
        title: "Make the running order for the recital",
        description: "Make the running order of a one-hour recital from the evaluation of the beginner class.\nInputs: the \
            result of class-notes; besides the beginners there are a ballet group, a jazz group and a teachers' \
            duet.\nOutput: six numbers with length and why they stand where they stand, in running-order.md.\n\
            Boundaries: no costumes, no music rights.",
        dependencies: &["class-notes"],
        done_when: &["Six numbers with lengths", "The sum is at most 60 minutes"],
        minutes: 6.0,
        answer: "Six numbers fill 52 minutes, with the beginners second and last. They open their part while they are \
            fresh and close the evening with everybody on stage, at a tempo the evaluation found safe.\n\nFindings\n\
            - 1 Ballet group, 9 min. 2 Hip-hop beginners at 96 beats, 5 min. 3 Jazz group, 11 min.\n- 4 Teachers' duet, \
            7 min. 5 Ballet and jazz together, 12 min. 6 Everybody, 8 min.\n- Changes between numbers need 90 seconds; \
            the duet covers the longest one.\n- The beginners' second eight-count is cut to four counts, as the evaluation \
            suggests.\n\nNot verified: the lengths are estimates; this is a rehearsal.",
    },
    SampleTask {
        id: "booking-fix",
        worker: "anga",
        title: "Fix the double bookings",
        description: "Fix the double bookings of the sign-up API in the way the investigation proposes.\nInputs: the result \
            of booking-cause.\nOutput: the change as a patch in booking-fix.md, a test that fails without it, and a second \
            look by a sub-agent. [[rehearse:subagent]]\nBoundaries: no new dependency, no change of the API's paths.",
        dependencies: &["booking-cause"],
        done_when: &["A test fails without the patch and passes with it", "Somebody else has looked at it"],
        minutes: 9.0,
        answer: "A unique key on class and place makes the second booking impossible, and the API answers 409 with the \
            places that are still free. A test sends 200 pairs of parallel requests and finds no double booking. A second \
            look found one gap, which is closed.\n\nFindings\n- Patch: one migration, 31 lines in the booking handler, one \
            test.\n- The second look asked for a repeat on 409 inside the transaction; it is in.\n- Existing double \
            bookings must be cleared before the key can be added: there are three.\n\nNot verified: the migration has not \
            run on real data; this is a rehearsal.",
    },
    SampleTask {
        id: "ad-campaign",
        worker: "fabien",
        title: "Choose advertisements for recital week",
        description: "Choose paid advertisements for recital week and find out what they would cost.\nInputs: the result of \
            audience.\nOutput: the advertisements and what they would cost.\nBoundaries: the budget is for printing only. \
            [[rehearse:refuse]]",
        dependencies: &["audience"],
        done_when: &["The advertisements are named with their cost"],
        minutes: 4.0,
        answer: "Nothing was chosen: the budget is for printing only.",
    },
    SampleTask {
        id: "poster",
        worker: "fabien",
        title: "Write the poster and the e-mail",
        description: "Write the text of the poster and of the e-mail to families for recital week.\nInputs: the results of \
            audience and running-order.\nOutput: a poster of at most 40 words and an e-mail of at most 120, in \
            poster.md.\nBoundaries: no prices, no promises about places.",
        dependencies: &["audience", "running-order"],
        done_when: &["The poster has at most 40 words", "The e-mail has at most 120 words"],
        minutes: 6.0,
        answer: "Poster and e-mail are ready. The poster says open doors and one hour; the e-mail gives families the \
            order of the evening and asks them to answer only if they cannot come.\n\nFindings\n- Poster, 31 words: \
            \"Recital week. One hour, six dances, open doors. Beginners who started in autumn, a duet by their teachers, \
            and everybody on stage at the end. Come in, sit down, stay for a song. No ticket.\"\n- E-mail, 88 words, \
            subject: \"Your dancer is on second, and last\".\n- Both name the beginners twice, as the running order does.\
            \n\nNot verified: day and hour are missing in all material; they must be filled in.",
    },
    SampleTask {
        id: "signup-check",
        worker: "anga",
        title: "Check the sign-up for recital week",
        description: "Check that the fixed sign-up API can take the places of the recital.\nInputs: the results of \
            booking-fix and running-order.\nOutput: what was tried, with figures, and whether recital week can open.\n\
            Boundaries: no change of code.",
        dependencies: &["booking-fix", "running-order"],
        done_when: &["The answer says yes or no", "There is a figure for parallel sign-ups"],
        minutes: 5.0,
        answer: "Yes, the sign-up can open for recital week. Sixty places were asked for by ninety callers at once: sixty \
            got one, thirty got a clear no with what is still free, and nobody got two.\n\nFindings\n- 90 parallel \
            sign-ups: 60 times 201, 30 times 409, no double booking.\n- The slowest answer took 240 ms.\n- The recital needs \
            one class entry per evening; the running order asks for one evening.\n\nNot verified: the figures are invented \
            for this rehearsal.",
    },
    SampleTask {
        id: "announcement",
        worker: "fabien",
        title: "Put together the announcement",
        description: "Write the announcement of recital week for the school's page.\nInputs: the results of poster and \
            signup-check.\nOutput: a text of at most 150 words with how to sign up, in announcement.md.\nBoundaries: \
            publish nothing; a person does that.",
        dependencies: &["poster", "signup-check"],
        done_when: &["At most 150 words", "It says how to sign up"],
        minutes: 4.0,
        answer: "The announcement is ready for a person to publish. It opens with the open doors, gives the order of the \
            evening in one line, and leads to the sign-up, which has been checked with ninety callers at once.\n\nFindings\n\
            - 112 words, in the voice of the poster.\n- One link, to the sign-up; a full evening shows what is still \
            free.\n- Nothing is promised about places.\n\nNot verified: day and hour are still to be filled in; this is a \
            rehearsal.",
    },
];

/// What the goal asks for.
pub(super) fn requirements() -> Vec<Requirement> {
    let each = [
        ("class", "Saturday's beginner hip-hop class is evaluated"),
        ("bookings", "the sign-up API takes no double bookings"),
        ("recital", "recital week is announced"),
    ];
    each.map(|(id, text)| Requirement { id: id.to_owned(), text: text.to_owned() }).to_vec()
}

/// The tasks as a planner would answer them.
pub(super) fn plan() -> Vec<PlanTask> {
    TASKS.iter().map(planned).collect()
}

fn planned(task: &SampleTask) -> PlanTask {
    let line = |name: &str| {
        let lines = task.description.lines();
        lines.filter_map(|line| line.strip_prefix(name)).map(|line| line.trim().to_owned()).next().unwrap_or_default()
    };
    let own = Input { dependency: String::new(), what: line("Inputs:") };
    let from = |id: &&str| Input { dependency: (*id).to_owned(), what: "its result".to_owned() };
    PlanTask {
        id: task.id.to_owned(),
        worker: task.worker.to_owned(),
        title: task.title.to_owned(),
        objective: task.objective().to_owned(),
        inputs: std::iter::once(own).chain(task.dependencies.iter().map(from)).collect(),
        output: line("Output:"),
        boundaries: line("Boundaries:"),
        dependencies: task.dependencies.iter().map(|&id| id.to_owned()).collect(),
        done_when: task.done_when.iter().map(|&line| line.into()).collect(),
        serves: vec![
            match task.worker {
                "marie" => "class",
                "anga" => "bookings",
                _ => "recital",
            }
            .to_owned(),
        ],
        effort: Some(if task.id == "booking-fix" { Effort::High } else { Effort::Medium }),
        estimates: Estimates {
            minutes: Some(Range { low: task.minutes, high: task.minutes + 3.0 }),
            tokens: Some(Range { low: 4_000.0 * task.minutes, high: 12_000.0 * task.minutes }),
            usd: None,
        },
        ..PlanTask::default()
    }
}
