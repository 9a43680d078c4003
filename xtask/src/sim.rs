// SPDX-License-Identifier: Apache-2.0
//! `sim`: the simulated network of the package e2e-tests, in release and for as many seeds as wanted.

use crate::command::Cargo;
use crate::workspace::Workspace;

/// The test that goes through seeds.
const TEST: &str = "faults_that_end_leave_every_node_at_the_tip";

pub(crate) fn run(workspace: &Workspace, seeds: u64, first_seed: u64) -> anyhow::Result<()> {
    Cargo::new(workspace.root(), ["test", "--release", "-p", "e2e-tests"])
        .args(["--test", "sim", "--", "--exact", TEST, "--nocapture"])
        .env("BLOCKCAST_SIM_FIRST", &first_seed.to_string())
        .env("BLOCKCAST_SIM_SEEDS", &seeds.to_string())
        .run()
}
