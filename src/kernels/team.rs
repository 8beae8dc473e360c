//! The threads that share an operation's work with the thread that called it.
//!
//! A training step is some two hundred operations of 20 to 500 µs. A general pool puts its caller to sleep for each one
//! (rayon: nearly 900 context switches a step); here the caller works along, the helpers look for the next
//! operation a little while before they sleep, and the caller waits only for helpers that took part.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{OnceLock, PoisonError};

use sync::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, UnsafeCell};

/// What a team is made of: the standard library's parts.
#[cfg(not(loom))]
mod sync {
    pub use std::hint::spin_loop;
    pub use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub use std::sync::{Condvar, Mutex};
    pub use std::thread::yield_now;

    /// Looks before a helper sleeps: some 50 µs, the time between two operations of a step.
    pub const LOOKS: usize = 2_000;

    /// As loom's: what reads or writes it is a closure, so that loom sees how long that takes.
    pub struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
            read(self.0.get())
        }

        pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
            write(self.0.get())
        }
    }

    /// Where the one order of all `SeqCst` operations is relied on, which they have without a fence.
    pub fn one_order() {}
}

/// The same from loom, which tries every order in which threads can meet (`tests/loom`).
#[cfg(loom)]
mod sync {
    pub use loom::cell::UnsafeCell;
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
    pub use loom::sync::{Condvar, Mutex};
    pub use loom::thread::yield_now;

    pub const LOOKS: usize = 1;

    /// loom takes `SeqCst` operations for `AcqRel` ones; only its fences are in one order.
    pub fn one_order() {
        loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    }
}

/// The bit of [`Team::state`] that says a job may be joined; the bits below count the helpers that are in it, those above
/// the jobs so far.
const OPEN: u64 = 1 << 16;
const INSIDE: u64 = OPEN - 1;
const NEXT_JOB: u64 = OPEN << 1;

pub(super) struct Team {
    helpers: usize,
    /// Held by the thread whose job the team is on.
    owner: Mutex<()>,
    state: AtomicU64,
    /// What an open job is; none sends the helpers home.
    job: UnsafeCell<Option<Job>>,
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

/// What a panic carries.
type Failure = Box<dyn Any + Send>;

struct Progress {
    parts: usize,
    next: AtomicUsize,
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
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
static LIMIT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(usize::MAX);

/// At most so many threads for an operation, the caller's included. To be said before the first operation.
pub fn limit_threads(threads: usize) {
    LIMIT.store(threads.max(1), Ordering::Relaxed);
}

fn team() -> &'static Team {
    static TEAM: OnceLock<Team> = OnceLock::new();
    static STARTED: std::sync::Once = std::sync::Once::new();
    let team = TEAM.get_or_init(|| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Team::new(threads.min(LIMIT.load(Ordering::Relaxed)) - 1)
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
    team().spread(parts, work);
}

impl Team {
    /// A team without its threads: each of the `helpers` is to call [`Team::wait_for_jobs`].
    pub(super) fn new(helpers: usize) -> Self {
        Self {
            helpers,
            owner: Mutex::new(()),
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            sleepers: AtomicUsize::new(0),
            bell: (Mutex::new(()), Condvar::new()),
        }
    }

    pub(super) fn spread(&self, parts: usize, work: impl Fn(usize) + Sync) {
        if parts <= 1 || self.helpers == 0 {
            return (0..parts).for_each(work);
        }
        let Ok(owner) = self.owner.try_lock() else {
            // Another thread's operation has the team: this one is done alone.
            return (0..parts).for_each(work);
        };
        let failure = self.run(parts, &work);
        // Before unwinding: a failed job leaves the team as it was.
        drop(owner);
        if let Some(failure) = failure {
            resume_unwind(failure);
        }
    }

    /// Does a job with all helpers that come in time, and returns what a part of it failed with.
    fn run(&self, parts: usize, work: &(dyn Fn(usize) + Sync)) -> Option<Failure> {
        let progress =
            Progress { parts, next: AtomicUsize::new(0), failed: AtomicBool::new(false), failure: Mutex::new(None) };
        // SAFETY: only the lifetime is forgotten. Below, this function waits until no helper is inside, and after the job
        // is closed none can enter.
        let work_for_all: *const (dyn Fn(usize) + Sync) =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(work) };
        self.open(Some(Job { work: work_for_all, progress: &raw const progress }));
        progress.help(work);
        let mut state = self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while state & INSIDE != 0 {
            looks += 1;
            if looks % 256 == 0 {
                sync::yield_now();
            } else {
                sync::spin_loop();
            }
            state = self.state.load(Ordering::Acquire);
        }
        progress.failure.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets helpers join. The caller holds `owner`.
    fn open(&self, job: Option<Job>) {
        // SAFETY: the caller holds `owner`, the last job is closed and nobody is inside.
        self.job.with_mut(|place| unsafe { *place = job });
        let before = self.state.load(Ordering::Relaxed);
        self.state.store((before & !(OPEN | INSIDE)) + NEXT_JOB + OPEN, Ordering::SeqCst);
        sync::one_order();
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _bell = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
            self.bell.1.notify_all();
        }
    }

    /// Ends the helpers' lives. The program's own team stays; those of the tests end.
    #[cfg(any(test, loom))]
    pub(super) fn dismiss(&self) {
        let _owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        self.open(None);
    }

    /// A helper's life.
    pub(super) fn wait_for_jobs(&self) {
        let mut seen = 0;
        loop {
            let state = self.wait_for_job_after(seen);
            seen = state / NEXT_JOB;
            let qkv = self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed);
            if qkv.is_err() {
                // Another helper joined first, or the job was closed: look again.
                seen = seen.wrapping_sub(1);
                continue;
            }
            // SAFETY: this helper is counted inside an open job, so the owner waits for it and both pointers live.
            let dismissed = self.job.with(|job| unsafe {
                let Some(job) = &*job else { return true };
                (*job.progress).help(&*job.work);
                false
            });
            self.state.fetch_sub(1, Ordering::Release);
            if dismissed {
                return;
            }
        }
    }

    /// The state with an open job that is not number `seen`.
    fn wait_for_job_after(&self, seen: u64) -> u64 {
        let fresh = |state: u64| state & OPEN != 0 && state / NEXT_JOB != seen;
        for _ in 0..sync::LOOKS {
            let state = self.state.load(Ordering::Acquire);
            if fresh(state) {
                return state;
            }
            sync::spin_loop();
        }
        let mut bell = self.bell.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            sync::one_order();
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

#[cfg(all(test, not(loom)))]
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

    /// Sends the helpers of a test's team home, also where the test fails.
    struct Dismiss<'a>(&'a Team);

    impl Drop for Dismiss<'_> {
        fn drop(&mut self) {
            self.0.dismiss();
        }
    }

    /// What loom tries in every order for up to three threads (`tests/loom`), as often as it happens to come here.
    #[test]
    fn teams_of_any_size_compute_the_same() {
        const JOBS: usize = 300;
        let value = |job: usize, part: usize| ((job * 31 + part) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let places = |job: usize| job % 41;
        let expected = (0..JOBS).flat_map(|job| (0..places(job)).map(move |part| value(job, part)));
        let expected = expected.fold(0u64, u64::wrapping_add);
        for threads in [1, 2, 3, 8] {
            let team = Team::new(threads - 1);
            std::thread::scope(|scope| {
                let _dismiss = Dismiss(&team);
                for _ in 1..threads {
                    scope.spawn(|| team.wait_for_jobs());
                }
                // Two callers: the one who finds the team taken works alone.
                let caller = || {
                    let mut sum = 0u64;
                    for job in 0..JOBS {
                        let found: Vec<_> = (0..places(job)).map(|_| std::sync::atomic::AtomicU64::new(0)).collect();
                        team.spread(places(job), |part| {
                            found[part].fetch_add(value(job, part), Ordering::Relaxed);
                        });
                        sum = found.into_iter().map(AtomicU64::into_inner).fold(sum, u64::wrapping_add);
                    }
                    sum
                };
                let other = scope.spawn(caller);
                assert_eq!(caller(), expected, "{threads} threads");
                assert_eq!(other.join().expect("the other caller ends"), expected, "{threads} threads");
            });
        }
    }
}
