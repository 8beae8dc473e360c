//! How much memory this machine can still give the program, and whether a job fits into it.
//!
//! Asked before the work: memory that is not there ends the whole program, with everything that it has not saved. What
//! bounds it is the machine's own memory, the limits of the control groups that the program runs in, and those of its
//! process.

use std::fmt;

use crate::recipe::{ModelRecipe, Recipe, bytes_text};

/// What is smaller is done without asking: looks come many times a second.
const SMALL_BYTES: u64 = 64 << 20;
/// The part of the free memory that is taken without a word, in percent: estimates are rough, and others want some too.
const EASE_PERCENT: u64 = 80;
/// Rows of a pass over a whole text.
const EVALUATION_ROWS: usize = 16;

/// Memory that can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Free {
    /// Without anything being moved out to disk.
    pub bytes: u64,
    /// With what can be moved out: past it an allocation fails, or the system ends the program.
    pub most: u64,
}

impl Free {
    /// As much as there is, and nothing of it on disk.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        Self { bytes, most: bytes }
    }

    /// The lesser of two bounds.
    #[cfg(target_os = "linux")]
    fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), most: self.most.min(other.most) }
    }

    /// What this process can have now; `None` where the system does not tell.
    #[must_use]
    #[cfg(target_os = "linux")]
    pub fn now() -> Option<Self> {
        linux::free(std::path::Path::new("/"))
    }

    /// What this process can have now; `None` where the system does not tell.
    #[must_use]
    #[cfg(not(target_os = "linux"))]
    pub fn now() -> Option<Self> {
        use sysinfo::{MemoryRefreshKind, RefreshKind, System};
        let asked = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(asked);
        let bytes = system.available_memory();
        (bytes > 0).then(|| Self { bytes, most: bytes.saturating_add(system.free_swap()) })
    }
}

/// A job, and what it takes at most, about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    what: String,
    pub bytes: u64,
    /// What makes it smaller.
    remedy: &'static str,
}

/// There is not enough memory for a job, which was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} needs about {} of memory, and {} are free: {remedy}", bytes_text(*needed), bytes_text(*free))]
pub struct Shortage {
    what: String,
    needed: u64,
    free: u64,
    remedy: &'static str,
}

/// A job fits, but barely: others may have to make room, and the machine may become slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tight {
    what: String,
    needed: u64,
    free: u64,
}

impl fmt::Display for Tight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (needed, free) = (bytes_text(self.needed), bytes_text(self.free));
        write!(formatter, "{} needs about {needed} of memory, and {free} are free", self.what)
    }
}

impl Need {
    #[must_use]
    pub fn new(what: impl Into<String>, bytes: u64, remedy: &'static str) -> Self {
        Self { what: what.into(), bytes, remedy }
    }

    /// Training a recipe on the processor, its checkpoints included; on a graphics device, which has memory of its own, only
    /// the latter.
    #[must_use]
    pub fn training(recipe: &Recipe, vocabulary: usize, on_processor: bool) -> Self {
        let remedy = "lower the batch, the context, the width or the layers, or close other programs";
        let own = if on_processor { recipe.training_bytes(vocabulary) } else { 0 };
        let copies = 2 * recipe.model.checkpoint_bytes(vocabulary);
        // The timeline's writer works beside the training; a checkpoint is saved between two steps, when a pass's values are
        // gone.
        let room = recipe.training.timeline_megabytes.saturating_mul(1_000_000);
        let beside = recipe.model.checkpoint_bytes(vocabulary).saturating_mul(2) <= room;
        let weights = recipe.model.file_bytes(vocabulary).saturating_mul(4);
        let bytes = if beside { own.saturating_add(copies) } else { own.max(weights.saturating_add(copies)) };
        Self::new("training this recipe", bytes, remedy)
    }

    /// Reading a checkpoint of a model into it.
    #[must_use]
    pub fn opening(model: &ModelRecipe, vocabulary: usize) -> Self {
        let bytes = model.checkpoint_bytes(vocabulary).saturating_mul(2).saturating_add(model.file_bytes(vocabulary));
        Self::new("opening this model", bytes, "close other programs")
    }

    /// Two checkpoints of a model, and writing them.
    #[must_use]
    pub fn forking(model: &ModelRecipe, vocabulary: usize) -> Self {
        let bytes = model.checkpoint_bytes(vocabulary).saturating_mul(4);
        Self::new("making a run of this model", bytes, "close other programs")
    }

    /// Reading the weights of another program, and writing them as a checkpoint.
    #[must_use]
    pub fn importing(model: &ModelRecipe, vocabulary: usize) -> Self {
        let bytes = model.file_bytes(vocabulary).saturating_mul(5);
        Self::new("reading this model", bytes, "close other programs")
    }

    /// Writing a model that is open for another program, and reading it back.
    #[must_use]
    pub fn exporting(model: &ModelRecipe, vocabulary: usize) -> Self {
        let bytes = model.file_bytes(vocabulary).saturating_mul(8);
        Self::new("exporting this model", bytes, "close other programs")
    }

    /// The attention of every head on so many tokens, with what can be seen beside it.
    #[must_use]
    pub fn looking(model: &ModelRecipe, vocabulary: usize, tokens: usize) -> Self {
        let remedy = "take a shorter text, or close other programs";
        let bytes = model.look_bytes(vocabulary, tokens);
        Self::new(format!("the attention of every head on {tokens} tokens"), bytes, remedy)
    }

    /// The loss over a whole text.
    #[must_use]
    pub fn evaluating(model: &ModelRecipe, vocabulary: usize) -> Self {
        let bytes = model.pass_bytes(vocabulary, EVALUATION_ROWS);
        Self::new("the loss over the whole validation text", bytes, "close other programs")
    }

    /// Losses of batches as large as in training.
    #[must_use]
    pub fn measuring(recipe: &Recipe, vocabulary: usize) -> Self {
        let bytes = recipe.model.pass_bytes(vocabulary, recipe.training.batch);
        Self::new("measuring on this run's batches", bytes, "close other programs")
    }

    /// A text in memory, as the numbers of its tokens.
    #[must_use]
    pub fn text(name: impl fmt::Display, file_bytes: u64) -> Self {
        let remedy = "take a part of it, or close other programs";
        Self::new(format!("reading {name}"), file_bytes.saturating_mul(2), remedy)
    }

    /// This job while another one's memory is held.
    #[must_use]
    pub fn beside(self, other: &Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), ..self }
    }

    /// Whether it fits into what is free; a word where it does so barely.
    ///
    /// # Errors
    /// If it does not fit: with both numbers, and what helps.
    pub fn weigh(&self, free: Option<Free>) -> Result<Option<Tight>, Shortage> {
        let Some(free) = free.filter(|_| self.bytes > SMALL_BYTES) else { return Ok(None) };
        let (what, needed) = (self.what.clone(), self.bytes);
        if needed > free.most {
            return Err(Shortage { what, needed, free: free.most, remedy: self.remedy });
        }
        let ease = free.bytes / 100 * EASE_PERCENT;
        Ok((needed > ease).then_some(Tight { what, needed, free: free.bytes }))
    }

    /// As [`weigh`](Self::weigh), with what is free now.
    ///
    /// # Errors
    /// As [`weigh`](Self::weigh).
    pub fn check(&self) -> Result<Option<Tight>, Shortage> {
        // Asked only where it matters: the question reads files.
        if self.bytes > SMALL_BYTES { self.weigh(Free::now()) } else { Ok(None) }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::Free;

    /// Read from the system's files below `root`.
    pub(super) fn free(root: &Path) -> Option<Free> {
        [machine(root), process(root)].into_iter().chain(groups(root)).flatten().reduce(Free::and)
    }

    fn read(path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    /// The value in kilobytes of a line `name: 123 kB`, in bytes.
    fn kilobytes(text: &str, name: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    fn machine(root: &Path) -> Option<Free> {
        let text = read(&root.join("proc/meminfo"))?;
        let bytes = kilobytes(&text, "MemAvailable").or_else(|| kilobytes(&text, "MemFree"))?;
        Some(Free { bytes, most: bytes.saturating_add(kilobytes(&text, "SwapFree").unwrap_or(0)) })
    }

    /// What `ulimit -v` and `ulimit -d` leave.
    fn process(root: &Path) -> Option<Free> {
        let (limits, status) = (read(&root.join("proc/self/limits"))?, read(&root.join("proc/self/status"))?);
        let left = |limit: &str, used: &str| {
            // Soft limit, hard limit, unit; "unlimited" is no number.
            let soft = limits.lines().find_map(|line| line.strip_prefix(limit))?.split_whitespace().next()?;
            Some(Free::of(soft.parse::<u64>().ok()?.saturating_sub(kilobytes(&status, used)?)))
        };
        let bounds = [left("Max address space", "VmSize"), left("Max data size", "VmData")];
        bounds.into_iter().flatten().reduce(Free::and)
    }

    /// What each control group that the process is in leaves, and each one above it.
    fn groups(root: &Path) -> Vec<Option<Free>> {
        let Some(text) = read(&root.join("proc/self/cgroup")) else { return Vec::new() };
        let mut found = Vec::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
            let mounts = root.join("sys/fs/cgroup");
            match controllers {
                // Version 2; beside version 1 it has a place of its own.
                "" => {
                    let beside = mounts.join("unified");
                    let mount = if beside.is_dir() { beside } else { mounts };
                    found.extend(upwards(&mount, path).iter().map(|group| second_version(group)));
                }
                _ if controllers.split(',').any(|controller| controller == "memory") => {
                    found.extend(upwards(&mounts.join("memory"), path).iter().map(|group| first_version(group)));
                }
                _ => {}
            }
        }
        found
    }

    /// The folders of a group and of those above it. In a container the path may be that of the outer machine, and only the
    /// mount itself is there.
    fn upwards(mount: &Path, path: &str) -> Vec<PathBuf> {
        let own = mount.join(path.trim_start_matches('/'));
        own.ancestors().take_while(|folder| folder.starts_with(mount)).map(Path::to_path_buf).collect()
    }

    fn number(path: &Path) -> Option<u64> {
        read(path)?.trim().parse().ok()
    }

    /// A line `name 123` of a group's statistics.
    fn statistic(group: &Path, name: &str) -> u64 {
        let text = read(&group.join("memory.stat")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    /// Pages of files that nobody has asked for lately are counted as used, and go when memory is wanted.
    fn left(limit: u64, used: u64, idle: u64) -> Free {
        Free::of(limit.saturating_sub(used.saturating_sub(idle)))
    }

    fn second_version(group: &Path) -> Option<Free> {
        // "max" is no number: no limit.
        let limits = ["memory.max", "memory.high"].map(|name| number(&group.join(name)));
        let limit = limits.into_iter().flatten().min()?;
        Some(left(limit, number(&group.join("memory.current"))?, statistic(group, "inactive_file")))
    }

    fn first_version(group: &Path) -> Option<Free> {
        let limit = number(&group.join("memory.limit_in_bytes"))?;
        Some(left(limit, number(&group.join("memory.usage_in_bytes"))?, statistic(group, "total_inactive_file")))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// A machine with 8 GiB of which 6 are free, and 1 to move out to.
        fn machine_with(files: &[(&str, &str)]) -> Option<Free> {
            let root = tempfile::tempdir().expect("a folder");
            let usual = [("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable:   6291456 kB\nSwapFree: 1048576 kB\n")];
            for (path, text) in usual.iter().chain(files) {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
                fs::write(path, text).expect("written");
            }
            free(root.path())
        }

        const GIB: u64 = 1 << 30;

        #[test]
        fn the_least_of_all_bounds_counts() {
            assert_eq!(machine_with(&[]), Some(Free { bytes: 6 * GIB, most: 7 * GIB }));
            let limits = "Limit  Soft Limit  Hard Limit  Units\nMax address space     3221225472  unlimited  bytes\n\
                          Max data size  unlimited unlimited bytes\n";
            let process = [("proc/self/limits", limits), ("proc/self/status", "VmSize:\t 1048576 kB\nVmData: 9 kB\n")];
            assert_eq!(machine_with(&process), Some(Free::of(2 * GIB)));
        }

        #[test]
        fn a_group_and_those_above_it_bound_the_memory() {
            let own = ("proc/self/cgroup", "0::/user/app\n");
            let group = |limit: &'static str| {
                machine_with(&[
                    own,
                    ("sys/fs/cgroup/user/app/memory.max", "max\n"),
                    ("sys/fs/cgroup/user/app/memory.current", "1073741824\n"),
                    ("sys/fs/cgroup/user/memory.max", limit),
                    ("sys/fs/cgroup/user/memory.current", "2147483648\n"),
                    ("sys/fs/cgroup/user/memory.stat", "anon 5\ninactive_file 1073741824\n"),
                ])
            };
            assert_eq!(group("max\n"), Some(Free { bytes: 6 * GIB, most: 7 * GIB }), "no limit");
            assert_eq!(group("4294967296\n"), Some(Free::of(3 * GIB)), "what is idle can be had");
            assert_eq!(group("5\n"), Some(Free::of(0)), "more is used than may be");
        }

        #[test]
        fn the_first_version_and_a_container_s_own_view_are_read() {
            let found = machine_with(&[
                ("proc/self/cgroup", "3:cpu,cpuacct:/\n5:memory:/docker/abc\n0::/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1073741824\n"),
                ("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 536870912\n"),
            ]);
            assert_eq!(found, Some(Free::of(GIB + GIB / 2)));
        }

        #[test]
        fn this_machine_has_memory() {
            assert!(Free::now().is_some_and(|free| free.bytes > 0 && free.most >= free.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn a_job_fits_barely_or_not_and_the_numbers_are_said() {
        let free = Some(Free { bytes: 10_000_000_000, most: 12_000_000_000 });
        let need = |bytes| Need::new("training this recipe", bytes, "lower the batch").weigh(free);
        assert_eq!(need(7_000_000_000), Ok(None));
        let tight = need(9_000_000_000).expect("it fits").expect("barely");
        assert_eq!(tight.to_string(), "training this recipe needs about 9.0 GB of memory, and 10.0 GB are free");
        let short = need(31_000_000_000).expect_err("it does not fit");
        assert_eq!(
            short.to_string(),
            "training this recipe needs about 31.0 GB of memory, and 12.0 GB are free: lower the batch"
        );
        assert_eq!(Need::new("it", u64::MAX, "").weigh(None), Ok(None), "where nothing is known nothing is refused");
        assert_eq!(Need::new("it", 1000, "").weigh(Some(Free::of(0))), Ok(None), "little is not asked about");
    }

    #[test]
    fn needs_grow_with_what_is_asked_and_never_overflow() {
        let mut recipe = preset::first().recipe;
        let training = |recipe: &Recipe| Need::training(recipe, 65, true).bytes;
        let before = training(&recipe);
        assert!(training(&recipe) > Need::training(&recipe, 65, false).bytes);
        recipe.training.batch *= 2;
        assert!(training(&recipe) > before);
        let model = &recipe.model;
        assert!(Need::looking(model, 65, 64).bytes > 4 * Need::looking(model, 65, 16).bytes);
        recipe.training.batch = usize::MAX;
        (recipe.model.width, recipe.model.context, recipe.model.layers) = (usize::MAX, usize::MAX, usize::MAX);
        recipe.model.heads = 1;
        assert_eq!(training(&recipe), u64::MAX);
        assert_eq!(Need::looking(&recipe.model, usize::MAX, usize::MAX).bytes, u64::MAX);
        assert_eq!(Need::forking(&recipe.model, usize::MAX).bytes, u64::MAX);
    }
}
