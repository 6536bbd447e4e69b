//! Order: what may start, and what should start first.

use crate::model::Plan;

/// What running a plan should take.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Forecast {
    /// Minutes from start to end.
    pub makespan_minutes: f64,
    /// Minutes of all tasks together.
    pub work_minutes: f64,
}
impl Forecast {
    /// How much faster than one after another.
    pub fn speedup(&self) -> f64 {
        if self.makespan_minutes > 0.0 { self.work_minutes / self.makespan_minutes } else { 1.0 }
    }
}
/// Forecasts a plan with `slots` per agent.
pub fn forecast(_plan: &Plan, _slots: impl Fn(&str) -> u32) -> Forecast {
    Forecast::default()
}
/// Upward rank of each plan task, in minutes.
pub fn ranks(_plan: &Plan) -> Vec<(String, f64)> {
    Vec::new()
}
