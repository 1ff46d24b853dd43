//! `cargo xtask shaderstats`: what a real GPU's compiler makes of the kernels. The program itself is `bin/shaderstats.rs`.

use crate::Outcome;
use crate::process::{cargo, run};

/// Prints the statistics, and fails where a kernel is over its budget. Where Mesa's driver is missing it says so and passes.
pub fn shaderstats() -> Outcome {
    let mut program = cargo();
    program.args(["run", "--quiet", "--locked", "--package", "xtask", "--features", "shaderstats"]);
    run(program.args(["--bin", "shaderstats"]))
}
