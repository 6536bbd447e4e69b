//! The built-in prompts, by the path at which a stage may keep its own copy.

/// Every built-in prompt: path below the stage, text.
pub const ALL: [(&str, &str); 4] = [
    ("prompts/orchestrator.md", include_str!("../../prompts/orchestrator.md")),
    ("prompts/DANCE.md", include_str!("../../prompts/DANCE.md")),
    ("prompts/ANGA.md", include_str!("../../prompts/ANGA.md")),
    ("prompts/FABIEN.md", include_str!("../../prompts/FABIEN.md")),
];
