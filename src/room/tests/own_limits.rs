//! Stories of limits that an operator sets.

use super::*;

fn limit(group: &str, requests: Option<u32>, input: Option<u32>) -> Order {
    Order::Limit { group: group.to_owned(), own: OwnLimit { requests, input, output: None } }
}

fn told(effects: &[Effect]) -> Vec<(String, OwnLimit)> {
    let limits = effects.iter().filter_map(|effect| {
        let Effect::Limit { group, own } = effect else { return None };
        Some((group.clone(), *own))
    });
    limits.collect()
}

#[test]
fn what_is_set_adds_up_is_told_to_the_gateway_and_told_again_by_a_room_that_opens() {
    let mut story = Story::begin();
    let first = OwnLimit { requests: Some(30), ..OwnLimit::default() };
    assert_eq!(told(&story.order(limit("sonnet", Some(30), None))), [("sonnet".to_owned(), first)]);
    let both = OwnLimit { input: Some(500), ..first };
    // A model's name stands for its group.
    assert_eq!(told(&story.order(limit("claude-sonnet-5-5", None, Some(500)))), [("sonnet".to_owned(), both)]);
    assert_eq!(told(&story.tell(Event::Opened(Box::new(opened())))), [("sonnet".to_owned(), both)]);
    let freed = story.order(limit("sonnet", None, None));
    assert_eq!(told(&freed), [("sonnet".to_owned(), OwnLimit::default())]);
    assert!(story.room.own_limits.is_empty());
    // Twice is no trouble, and changes nothing.
    assert_eq!(told(&story.order(limit("sonnet", None, None))), []);
}

#[test]
fn a_group_that_nobody_calls_is_refused_with_those_there_are() {
    let mut story = Story::begin();
    let effects = story.order(limit("sonet", Some(3), None));
    let reason = "no model here belongs to sonet; groups are fable, haiku, opus, sonnet".to_owned();
    assert_eq!(effects, [Effect::Answer { id: OrderId(1), answer: Answer::Refused { reason } }]);
}
