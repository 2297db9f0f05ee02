//! Lands with the planner.
