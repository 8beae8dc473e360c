//! The thread team of the kernels under [loom](https://docs.rs/loom), which runs a few threads in every order in which they
//! can meet and lets each read see every value that the memory model allows.
//!
//! ```text
//! CARGO_TARGET_DIR=target/loom cargo test --manifest-path tests/loom/Cargo.toml
//! ```
//!
//! The file under test is the program's own: `src/kernels/team.rs`, whose `sync` module takes loom's atomics, locks and cells
//! here. What the parts of a job write are loom's cells too, so that a part done twice at once, or read by the owner before
//! the helper's write is visible, fails. loom goes no further than a few threads; eight real ones are driven in that file's
//! own tests.
#![cfg(test)]

#[path = "../../../src/kernels/team.rs"]
#[allow(dead_code)] // the program's own team, which lives as long as the program
mod team;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use team::Team;

/// Runs `model` in every order of its threads with at most `preemptions` interruptions of one that could go on (`None` is
/// all of them). Few are enough for nearly every fault (Musuvathi and Qadeer, 2007), and the number of orders explodes.
fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 100_000;
    builder.check(model);
}

fn team_of(threads: usize) -> (Arc<Team>, Vec<JoinHandle<()>>) {
    let team = Arc::new(Team::new(threads - 1));
    let helpers = (1..threads).map(|_| {
        let team = Arc::clone(&team);
        thread::spawn(move || team.wait_for_jobs())
    });
    let helpers = helpers.collect();
    (team, helpers)
}

fn end(team: &Team, helpers: Vec<JoinHandle<()>>) {
    team.dismiss();
    for helper in helpers {
        helper.join().expect("the helper ends");
    }
}

/// The numbers that a job writes, a cell for each part.
struct Cells(Vec<UnsafeCell<usize>>);

// SAFETY: each part writes its own cell, and the owner reads them when all is done; loom fails the test where that is not so.
unsafe impl Sync for Cells {}

/// One operation: each part adds to its cell; afterwards the caller sees what all of them wrote.
fn spread(team: &Team, parts: usize) {
    let cells = Cells((0..parts).map(UnsafeCell::new).collect());
    let cells = &cells;
    team.spread(parts, |part| {
        // SAFETY: as above.
        cells.0[part].with_mut(|cell| unsafe { *cell += 10 });
    });
    for (part, cell) in cells.0.iter().enumerate() {
        // SAFETY: as above.
        assert_eq!(cell.with(|cell| unsafe { *cell }), part + 10);
    }
}

fn jobs(threads: usize, jobs: usize, parts: usize, preemptions: Option<usize>) {
    check(preemptions, move || {
        let (team, helpers) = team_of(threads);
        for _ in 0..jobs {
            spread(&team, parts);
        }
        end(&team, helpers);
    });
}

#[test]
fn one_thread() {
    jobs(1, 2, 2, None);
}

#[test]
fn two_threads() {
    jobs(2, 3, 2, Some(4));
}

#[test]
fn three_threads() {
    jobs(3, 1, 3, Some(2));
}

#[test]
fn three_threads_and_two_jobs() {
    jobs(3, 2, 2, Some(2));
}

/// Who finds the team taken works alone, and neither sees the other's job.
#[test]
fn two_callers_and_a_helper() {
    check(Some(3), || {
        let (team, helpers) = team_of(2);
        let other = {
            let team = Arc::clone(&team);
            thread::spawn(move || spread(&team, 2))
        };
        spread(&team, 2);
        other.join().expect("the other caller ends");
        end(&team, helpers);
    });
}

/// A part that fails ends the job, reaches who asked for it, and leaves a team that works on.
#[test]
fn a_failure_reaches_the_one_who_asked() {
    check(Some(3), || {
        let (team, helpers) = team_of(2);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            team.spread(2, |part| {
                if part == 1 {
                    resume_unwind(Box::new("on purpose"));
                }
            });
        }));
        assert!(failed.is_err());
        spread(&team, 2);
        end(&team, helpers);
    });
}
