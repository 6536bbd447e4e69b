//! An attempt's end, told: to the queue first, then to the room.
//!
//! Owns what goes into the result. Must not know processes. Its one surprise: what cannot be written is not told either;
//! the lease is gone then, and whoever recovers next finds the attempt lost.

use jiff::Timestamp;

use super::{
    Farewell, Retries, Worker,
    end::Judged,
    heed::{Heeded, heed},
    limits,
};
use crate::{
    engines::Finding,
    ledger::Prices,
    model::{
        AttemptRef, CostSource, EndState, Ending, MicroUsd, Modifiers, Outcome, Report, Spend, TaskSpec, Verdict, text,
    },
    queue::{Claim, Queue},
};

/// Bytes of an answer that go into the result file.
const SUMMARY_LIMIT: usize = 256 * 1024;

/// Why an end was not written that would have had to wait.
const GONE: &str = "there was no room on the disk, and the worker had to go";

/// What follows from how an attempt ended.
pub(super) enum After {
    /// Its task ends.
    End(EndState),
    /// It is tried again, not before this.
    Again(Timestamp),
}

/// What follows from `ending`; `counted` earlier attempts counted, and the last of them ended as `previous`.
pub(super) fn after(
    retries: &Retries,
    spec: &TaskSpec,
    attempt: &AttemptRef,
    ending: &Ending,
    (counted, previous): (u32, Option<&Ending>),
    now: Timestamp,
) -> After {
    match retries.verdict(spec, ending, counted, previous) {
        Verdict::End(state) => After::End(state),
        // What cost no attempt has nothing to wait for.
        Verdict::Retry if !ending.counts() => After::Again(now),
        Verdict::Retry => After::Again(retries.next(spec, attempt, counted.saturating_add(1), now)),
        Verdict::Park(until) => {
            let parked = attempt.n.saturating_sub(1).saturating_sub(counted);
            After::Again(retries.unpark(attempt, until, parked, now))
        }
    }
}

/// Tells the queue, then the room; says why the worker must go, where it must.
pub(super) async fn commit<Q: Queue>(
    worker: &mut Worker<Q>,
    claim: Claim<Q::Lease>,
    attempt: &AttemptRef,
    started_at: Timestamp,
    result: Judged,
) -> Option<Farewell> {
    let now = worker.settings.clock.now();
    limits::ended(&mut worker.post, attempt, &result, now);
    let Judged { finding, ending, artifacts, notes, mut farewell, .. } = result;
    let queue = worker.queue.clone();
    let Claim { spec, counted, lease, previous, .. } = claim;
    let retries = &worker.settings.retries;
    let spend = finding.spend;
    let before = previous.as_ref().map(|(ending, _)| ending);
    let not_before = match after(retries, &spec, attempt, &ending, (counted, before), now) {
        After::End(state) => {
            let prices = &worker.settings.prices;
            let mut outcome = outcome(spec, attempt, state, ending, finding, prices, (started_at, now));
            outcome.artifacts = artifacts;
            outcome.findings.extend(notes);
            let clipped = Box::new(outcome.clone().clipped(crate::model::TaskRecord::TEXT_LIMIT));
            let writing = queue.finish(lease, outcome);
            let report = match heed(worker, attempt, spend, &mut farewell, writing).await {
                Heeded::Written(Ok(_)) => Report::Ended { outcome: clipped, spend },
                Heeded::Written(Err(error)) => unpublished(attempt, &error.to_string(), spend, now),
                Heeded::Left => unpublished(attempt, GONE, spend, now),
            };
            worker.post.send(report);
            return farewell;
        }
        After::Again(not_before) => not_before,
    };
    let writing = queue.fail(lease, ending.clone(), spend, not_before);
    let report = match heed(worker, attempt, spend, &mut farewell, writing).await {
        Heeded::Written(Ok(())) => Report::Failed { attempt: attempt.clone(), ending, spend, not_before, at: now },
        Heeded::Written(Err(error)) => unpublished(attempt, &error.to_string(), spend, now),
        Heeded::Left => unpublished(attempt, GONE, spend, now),
    };
    worker.post.send(report);
    farewell
}

/// The lease is gone and nothing was written: whoever recovers next will find the attempt lost.
fn unpublished(attempt: &AttemptRef, error: &str, spend: Spend, at: Timestamp) -> Report {
    tracing::error!(%attempt, error, "the attempt's end could not be written");
    let ending = Ending::Lost { message: format!("its end could not be written: {error}") };
    Report::Failed { attempt: attempt.clone(), ending, spend, not_before: at, at }
}

fn outcome(
    spec: TaskSpec,
    attempt: &AttemptRef,
    state: EndState,
    ending: Ending,
    finding: Finding,
    prices: &Prices,
    (started_at, completed_at): (Timestamp, Timestamp),
) -> Outcome {
    let (cost, cost_source) = cost(&finding, prices, completed_at);
    let summary = if ending == Ending::Done { finding.summary } else { ending.sentence() };
    let mut findings = listed_findings(&summary);
    findings.extend(finding.permission_denials.iter().map(|tool| format!("was not allowed to use {tool}")));
    Outcome {
        task: spec.task,
        state,
        ending,
        attempt: attempt.n,
        summary: text::clip(&summary, SUMMARY_LIMIT).into_owned(),
        findings,
        artifacts: Vec::new(),
        started_at,
        completed_at,
        usage: finding.spend.usage,
        cost,
        cost_source,
        model: finding.model.or(spec.model),
        session_id: finding.session_id,
        goal: spec.goal,
        foreign: false,
    }
}

/// What the attempt cost: the server's counts at our own prices; the engine's word only where the model has no price.
fn cost(finding: &Finding, prices: &Prices, at: Timestamp) -> (MicroUsd, CostSource) {
    let ours = |model: &String| prices.cost(model, &finding.spend.usage, &Modifiers::default(), at);
    let ours = finding.model.as_ref().map(ours);
    match ours {
        Some(ours) if !ours.estimated && finding.spend.usage.total() > 0 => (ours.cost, CostSource::Measured),
        _ if finding.cost_reported => (finding.spend.cost, CostSource::Reported),
        Some(ours) => (ours.cost, CostSource::Estimated),
        None => (finding.spend.cost, CostSource::Estimated),
    }
}

/// The points of the first list under a line that says `Findings`, however it is marked up.
fn listed_findings(summary: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in summary.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let point = line.strip_prefix("- ").or_else(|| line.strip_prefix("* "));
        match point {
            Some(point) if inside => found.push(text::clip(point.trim(), 1_000).into_owned()),
            Some(_) => {}
            None => {
                let word = line.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
                inside = matches!(word.as_str(), "findings" | "finding" | "key findings");
            }
        }
    }
    found.truncate(50);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_the_points_under_their_heading_only() {
        let summary = "All good.\n\n## Findings\n- one\n- two\n\n## Next\n- not this\n";
        assert_eq!(listed_findings(summary), ["one", "two"]);
        for heading in ["Findings", "Findings:", "**Findings**", "### Key findings"] {
            assert_eq!(
                listed_findings(&format!("{heading}\n\n- one\nNot verified: all\n- no\n")),
                ["one"],
                "{heading}"
            );
        }
        assert!(listed_findings("- a\n- b\n").is_empty());
    }
}
