//! The threads that share an operation's work with the thread that called it.
//!
//! A training step is some two hundred operations of 20 to 500 µs. A general pool puts its caller to sleep for each one
//! (rayon: nearly 900 context switches a step); here the caller works along, the helpers look for the next
//! operation a little while before they sleep, and the caller waits only for helpers that took part.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, TryLockError};

/// Looks before a helper sleeps: some 50 µs, the time between two operations of a step.
const LOOKS: usize = 2_000;

/// The bit of [`Team::state`] that says a job may be joined; the bits below count the helpers that are in it, those above
/// the jobs so far.
const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const NEXT_JOB: u64 = OPEN << 1;

struct Team {
    helpers: usize,
    /// Held by the thread whose job the team is on.
    owner: Mutex<()>,
    state: AtomicU64,
    job: std::cell::UnsafeCell<Option<Job>>,
    sleepers: AtomicUsize,
    bell: (Mutex<()>, Condvar),
}

// SAFETY: `job` is written only by the owner while no helper is inside and the job is closed, and read only by helpers
// that are counted inside.
unsafe impl Sync for Team {}

#[derive(Clone, Copy)]
struct Job {
    /// The closure on the owner's stack; the owner does not return while a helper is inside.
    work: *const (dyn Fn(usize) + Sync),
    progress: *const Progress,
}

// SAFETY: it points to what other threads may use: a `Sync` closure and atomics.
unsafe impl Send for Job {}

struct Progress {
    parts: usize,
    next: AtomicUsize,
    failed: AtomicBool,
    failure: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Progress {
    /// Takes parts until there are none, and never unwinds.
    fn help(&self, work: &(dyn Fn(usize) + Sync)) {
        loop {
            let part = self.next.fetch_add(1, Ordering::Relaxed);
            if part >= self.parts || self.failed.load(Ordering::Relaxed) {
                return;
            }
            if let Err(failure) = catch_unwind(AssertUnwindSafe(|| work(part))) {
                self.failed.store(true, Ordering::Relaxed);
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            }
        }
    }
}

/// The threads that work on one operation, the caller's included.
#[must_use]
pub fn threads() -> usize {
    team().helpers + 1
}

/// What [`limit_threads`] asked for.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

/// At most so many threads for an operation, the caller's included. To be said before the first operation.
pub fn limit_threads(threads: usize) {
    LIMIT.store(threads.max(1), Ordering::Relaxed);
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    static STARTED: std::sync::Once = std::sync::Once::new();
    let team = TEAM.get_or_init(|| Team {
        helpers: std::thread::available_parallelism().map_or(1, usize::from).min(LIMIT.load(Ordering::Relaxed)) - 1,
        owner: Mutex::default(),
        state: AtomicU64::new(0),
        job: std::cell::UnsafeCell::new(None),
        sleepers: AtomicUsize::new(0),
        bell: Default::default(),
    });
    STARTED.call_once(|| {
        for helper in 0..team.helpers {
            // A helper that can't be started is one that never joins.
            let name = format!("headlight-kernels-{helper}");
            let _ = std::thread::Builder::new().name(name).spawn(move || team.wait_for_jobs());
        }
    });
    team
}

/// Calls `work` with every number below `parts`, on all cores, and returns when all is done. What a part computes must
/// not depend on who computes it.
pub(super) fn spread(parts: usize, work: impl Fn(usize) + Sync) {
    let team = team();
    if parts <= 1 || team.helpers == 0 {
        return (0..parts).for_each(work);
    }
    let _owner = match team.owner.try_lock() {
        Ok(owner) => owner,
        // A job failed, and its owner had the failure.
        Err(TryLockError::Poisoned(owner)) => owner.into_inner(),
        // Another thread's operation has the team: this one is done alone.
        Err(TryLockError::WouldBlock) => return (0..parts).for_each(work),
    };
    team.run(parts, &work);
}

impl Team {
    fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) {
        let progress =
            Progress { parts, next: AtomicUsize::new(0), failed: AtomicBool::new(false), failure: Mutex::default() };
        // SAFETY: only the lifetime is forgotten. Below, this function waits until no helper is inside, and after the job
        // is closed none can enter.
        let work_for_all: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(work) };
        // SAFETY: the caller holds `owner`, the last job is closed and nobody is inside.
        unsafe { *self.job.get() = Some(Job { work: work_for_all, progress: &raw const progress }) };
        let before = self.state.load(Ordering::Relaxed);
        self.state.store((before & !(OPEN | INSIDE)) + NEXT_JOB + OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _bell = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
            self.bell.1.notify_all();
        }
        progress.help(work);
        let mut state = self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while state & INSIDE != 0 {
            looks += 1;
            if looks % 256 == 0 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
            state = self.state.load(Ordering::Acquire);
        }
        let failure = progress.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failure {
            resume_unwind(failure);
        }
    }

    /// A helper's life.
    fn wait_for_jobs(&self) {
        let mut seen = 0;
        loop {
            let state = self.wait_for_job_after(seen);
            seen = state / NEXT_JOB;
            let joined = self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
            if joined.is_err() {
                // Another helper joined first, or the job was closed: look again.
                seen = seen.wrapping_sub(1);
                continue;
            }
            // SAFETY: this helper is counted inside an open job, so the owner waits for it and both pointers live.
            unsafe {
                if let Some(job) = *self.job.get() {
                    (*job.progress).help(&*job.work);
                }
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// The state with an open job that is not number `seen`.
    fn wait_for_job_after(&self, seen: u64) -> u64 {
        let fresh = |state: u64| state & OPEN != 0 && state / NEXT_JOB != seen;
        for _ in 0..LOOKS {
            let state = self.state.load(Ordering::Acquire);
            if fresh(state) {
                return state;
            }
            std::hint::spin_loop();
        }
        let mut bell = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            let state = self.state.load(Ordering::SeqCst);
            if fresh(state) {
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                return state;
            }
            bell = self.bell.1.wait(bell).unwrap_or_else(PoisonError::into_inner);
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for parts in [0, 1, 2, 7, 1000] {
            let counts: Vec<_> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            for round in 1..=200 {
                spread(parts, |part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
            }
        }
    }

    #[test]
    fn several_threads_may_ask_at_once_and_a_failure_reaches_the_one_who_asked() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let total = AtomicUsize::new(0);
                        spread(10, |part| {
                            total.fetch_add(part, Ordering::Relaxed);
                        });
                        assert_eq!(total.into_inner(), 45);
                    }
                });
            }
        });
        let failed = catch_unwind(|| spread(10, |part| assert_ne!(part, 7, "on purpose")));
        assert!(failed.is_err());
        every_part_is_done_once();
    }
}
