//! `cargo xtask shaderstats`: what a real GPU's compiler makes of the kernels. The program itself is `bin/shaderstats.rs`.

use crate::Outcome;
use crate::process::{cargo, command, root, run};

/// Prints the statistics, and fails where a kernel is over its budget. Where Mesa's driver is missing it says so and passes.
pub fn shaderstats() -> Outcome {
    // Built with the whole workspace, as the tests are: for one package alone, cargo would choose other features of the dependencies
    // and compile them all once more.
    let what =
        ["build", "--quiet", "--locked", "--workspace", "--features", "xtask/shaderstats", "--bin", "shaderstats"];
    run(cargo().args(what))?;
    run(&mut command(root().join("target/debug/shaderstats")))
}
