//! What the demo, the stories and the benchmarks share: a world to run in, and ways to ask it.

pub mod bench;
pub mod demo;
pub mod heatmap;
pub mod report;
pub mod script;
pub mod wait;
pub mod world;
