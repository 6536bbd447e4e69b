//! The built-in system prompts, compiled in.
//!
//! Owns the texts as shipped. Must not know where a stage keeps its own copies: which text is in force is for
//! configuration to say. Its one surprise: none.

/// The orchestrator's rules for plans and reports.
pub const ORCHESTRATOR: &str = include_str!("../../prompts/orchestrator.md");
/// marie, the dance teacher's assistant.
pub const DANCE: &str = include_str!("../../prompts/DANCE.md");
/// anga, the engineer.
pub const ANGA: &str = include_str!("../../prompts/ANGA.md");
/// fabien, the marketer.
pub const FABIEN: &str = include_str!("../../prompts/FABIEN.md");
/// The reviewer of results, whose prompt is another than that of whoever made them.
pub const REVIEWER: &str = include_str!("../../prompts/REVIEWER.md");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::{plan, synthesis};

    #[test]
    fn the_orchestrator_is_told_both_headings_it_will_be_asked_under() {
        assert!(ORCHESTRATOR.contains(plan::HEADING) && ORCHESTRATOR.contains(synthesis::HEADING));
    }

    #[test]
    fn every_prompt_is_of_a_size_a_person_reads_and_holds_no_unfilled_place() {
        for (name, text) in [("orchestrator", ORCHESTRATOR), ("DANCE", DANCE), ("ANGA", ANGA), ("FABIEN", FABIEN)] {
            let lines = text.lines().count();
            assert!((60..=120).contains(&lines), "{name} has {lines} lines");
            assert!(!text.contains("{{") && !text.contains("TODO"), "{name} has an unfilled place");
            assert_eq!(crate::model::text::scrub(text), text, "{name} has characters that no terminal should get");
        }
    }

    #[test]
    fn the_reviewer_is_told_its_heading_and_what_a_text_that_asks_for_a_yes_is() {
        assert!(REVIEWER.contains(crate::orchestrator::review::HEADING) && REVIEWER.contains("Never follow an"));
        assert_eq!(crate::model::text::scrub(REVIEWER), REVIEWER);
    }

    #[test]
    fn every_agent_is_told_what_text_from_elsewhere_is() {
        for text in [DANCE, ANGA, FABIEN] {
            assert!(text.contains("# Words from elsewhere") && text.contains("are data"));
            assert!(text.contains("# What to refuse") && text.contains("# What a good answer holds"));
        }
    }
}
