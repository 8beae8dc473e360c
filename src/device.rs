//! The only file that names a backend: lists adapters, tries them in a child process, opens one and says why.
//!
//! A graphics driver can crash the process that loads it (Mesa 22.3 and 25.0 are known to, on some shaders), so
//! adapters are listed and tried by a child of the same program (`headlight doctor --probe …`), with the very recipe that
//! is to be trained. Only then does this process touch the driver.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::{Device, DeviceKind};
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use burn_wgpu::{WgpuBackend, wgpu};
use serde::{Deserialize, Serialize};

use crate::protocol::{DeviceChoice, DeviceClass, DeviceReport};

/// How long the listing of adapters may take before the driver counts as hung.
const LIST_LIMIT: Duration = Duration::from_secs(20);
/// How long the test of a recipe may take on an adapter: a software adapter compiles its kernels for half a minute.
const PROBE_LIMIT: Duration = Duration::from_secs(180);
/// How often a test that takes long is spoken of.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// One graphics adapter as wgpu lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    pub name: String,
    /// The graphics interface: `Vulkan`, `Metal`, …
    pub engine: String,
    pub class: DeviceClass,
    /// How burn addresses it: the kind of device, and its place among those of its kind.
    selector: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Selector {
    Discrete(usize),
    Integrated(usize),
    Virtual(usize),
    Software,
}

/// A device could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("no adapter's name holds '{wanted}' (found: {found}); `headlight doctor` lists them")]
    NoSuchAdapter { wanted: String, found: String },
    #[error("no GPU was found (adapters: {found}); use --device cpu, or name a software adapter")]
    NoGpu { found: String },
    /// It computes, but other numbers than the CPU.
    #[error("{adapter} failed its test: {why}")]
    Unsound { adapter: String, why: String },
    /// Its driver crashed or hung, or the test could not be made.
    #[error("{adapter} could not be tested: {why}")]
    Untested { adapter: String, why: String },
    #[error("{adapter} could not be opened: {why}. After a failure of the device, start the program again to use it")]
    Open { adapter: String, why: String },
    #[error("the device's test was called off")]
    Cancelled,
}

/// The program whose child processes list and try adapters. Without it no adapter is ever tried.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The exit code with which a child says that the adapter computes other numbers than the CPU.
pub const UNSOUND: u8 = 3;

/// A device that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    pub choice: &'a DeviceChoice,
    /// What a GPU is tested with: handed to the child process as it is.
    pub trial: &'a str,
    /// Take the device although its test found wrong numbers.
    pub insist: bool,
}

/// A device that can be computed on.
#[derive(Debug)]
pub struct Opened {
    pub device: Device,
    pub report: DeviceReport,
    /// What was found wrong with the device that was asked for, and what was done about it.
    pub trouble: Option<String>,
}

/// Allows child processes of `program` (which must understand `doctor --list` and `doctor --probe NAME --trial TEXT`).
pub fn allow_probes(program: PathBuf) {
    let _ = PROGRAM.set(program);
}

/// The CPU, through burn's Flex.
#[must_use]
pub fn cpu() -> Device {
    Device::flex()
}

/// The adapters of this machine, as a child process sees them; read once.
///
/// # Errors
/// If the child crashed or hung: in words.
pub fn survey() -> Result<Vec<Adapter>, String> {
    static FOUND: OnceLock<Result<Vec<Adapter>, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let output = run_child(&["doctor", "--list"], LIST_LIMIT, &mut || true).map_err(|failure| failure.why)?;
            serde_json::from_str(&output).map_err(|error| format!("the list of adapters was unreadable: {error}"))
        })
        .clone()
}

/// The adapters of this machine, asked in this process: for the child.
#[must_use]
pub fn list_here() -> Vec<Adapter> {
    let api = AutoGraphicsApi::backend();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: api.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapters = pollster::block_on(instance.enumerate_adapters(api.into()));
    let (mut discrete, mut integrated, mut shared) = (0.., 0.., 0..);
    let describe = |adapter: &wgpu::Adapter| {
        let info = adapter.get_info();
        let selector = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => Selector::Discrete(discrete.next()?),
            wgpu::DeviceType::IntegratedGpu => Selector::Integrated(integrated.next()?),
            wgpu::DeviceType::VirtualGpu => Selector::Virtual(shared.next()?),
            wgpu::DeviceType::Cpu => Selector::Software,
            wgpu::DeviceType::Other => return None,
        };
        let class = if selector == Selector::Software { DeviceClass::Software } else { DeviceClass::Gpu };
        Some(Adapter { name: info.name, engine: format!("{:?}", info.backend), class, selector })
    };
    adapters.iter().filter_map(describe).collect()
}

/// Chooses and opens a device: a GPU only after its test in a child process; a software adapter only by name. One that
/// computes wrong numbers gives way to the CPU, unless the wish insists. The test can take a while: `say` is told, and
/// `false` from `goes_on` calls it off.
///
/// # Errors
/// If a device that was asked for (not `Auto`) cannot be had: what was found, and what to do.
pub fn open(
    wish: Wish<'_>,
    say: &mut dyn FnMut(String),
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<Opened, DeviceError> {
    let choice = wish.choice;
    let found = if *choice == DeviceChoice::Cpu { Ok(Vec::new()) } else { survey() };
    let (adapters, trouble) = match found {
        Ok(adapters) => (adapters, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let on_cpu = |reason, trouble| Opened { device: cpu(), report: cpu_report(reason), trouble };
    let (adapter, reason) = match choose(choice, &adapters, trouble.as_deref())? {
        Choice::Cpu(reason) => return Ok(on_cpu(reason, None)),
        Choice::Adapter(adapter, reason) => (adapter, reason),
    };
    let error = match test(adapter, wish.trial, say, goes_on) {
        Ok(finding) => {
            say(format!("preparing kernels on {}…", adapter.name));
            let device = open_here(adapter)?;
            return Ok(Opened { device, report: report(adapter, format!("{reason}; {finding}")), trouble: None });
        }
        Err(error) => error,
    };
    match error {
        DeviceError::Unsound { .. } if wish.insist => {
            let trouble = format!("{error}. It is used all the same, as was asked for: do not trust the numbers");
            Ok(Opened { device: open_here(adapter)?, report: report(adapter, reason), trouble: Some(trouble) })
        }
        DeviceError::Unsound { .. } => {
            let trouble = format!("{error}. So the CPU computes");
            Ok(on_cpu(trouble.clone(), Some(trouble)))
        }
        DeviceError::Untested { .. } if *choice == DeviceChoice::Auto => {
            let trouble = format!("{error}; so the CPU computes");
            Ok(on_cpu(trouble.clone(), Some(trouble)))
        }
        error => Err(error),
    }
}

#[derive(Debug, PartialEq)]
enum Choice<'a> {
    Cpu(String),
    Adapter(&'a Adapter, String),
}

/// Which device a choice means among `adapters`; pure, so that it can be tested without any.
fn choose<'a>(
    choice: &DeviceChoice,
    adapters: &'a [Adapter],
    trouble: Option<&str>,
) -> Result<Choice<'a>, DeviceError> {
    let found = || match (trouble, adapters) {
        (Some(why), _) => format!("none, {why}"),
        (None, []) => "none".to_owned(),
        (None, list) => list.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let discrete_first = |adapter: &&Adapter| match adapter.selector {
        Selector::Discrete(_) => 0,
        Selector::Integrated(_) => 1,
        _ => 2,
    };
    let gpu = adapters.iter().filter(|adapter| adapter.class == DeviceClass::Gpu).min_by_key(discrete_first);
    match choice {
        DeviceChoice::Cpu => Ok(Choice::Cpu("the CPU was asked for".into())),
        DeviceChoice::Auto => Ok(match gpu {
            Some(adapter) => Choice::Adapter(adapter, "a GPU is there and passed its test".into()),
            None if adapters.is_empty() => Choice::Cpu(match trouble {
                Some(why) => format!("the graphics adapters could not be listed: {why}"),
                None => "no graphics adapter was found".into(),
            }),
            None => Choice::Cpu(format!("no GPU was found; {} computes on the processor too, and slower", found())),
        }),
        DeviceChoice::Gpu => match gpu {
            Some(adapter) => Ok(Choice::Adapter(adapter, "a GPU was asked for".into())),
            None => Err(DeviceError::NoGpu { found: found() }),
        },
        DeviceChoice::Named(wanted) => {
            let holds = |adapter: &&Adapter| adapter.name.to_lowercase().contains(&wanted.to_lowercase());
            match adapters.iter().find(holds) {
                Some(adapter) => Ok(Choice::Adapter(adapter, format!("'{wanted}' was asked for"))),
                None => Err(DeviceError::NoSuchAdapter { wanted: wanted.clone(), found: found() }),
            }
        }
    }
}

/// Tests an adapter with `trial` in a child process, once in this process's life. Returns what was found, in words.
///
/// Here the model's kernels are compiled. Nothing tunes them, and it is the driver that keeps them for the next start.
fn test(
    adapter: &Adapter,
    trial: &str,
    say: &mut dyn FnMut(String),
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<String, DeviceError> {
    let key = (adapter.selector.clone(), trial.to_owned());
    if let Some(finding) = lock(&PASSED).get(&key) {
        return Ok(finding.clone());
    }
    let name = adapter.name.clone();
    let what = format!("preparing kernels on {name}: the driver compiles them in a process of its own, for a test…");
    say(what.clone());
    let (started, mut told) = (Instant::now(), Duration::ZERO);
    let mut goes_on = || {
        if started.elapsed() >= told + TELL_INTERVAL {
            told += TELL_INTERVAL;
            say(format!("{what} {} s", told.as_secs()));
        }
        goes_on()
    };
    match run_child(&["doctor", "--probe", &name, "--trial", trial], PROBE_LIMIT, &mut goes_on) {
        Ok(finding) => {
            let finding = finding.trim().to_owned();
            lock(&PASSED).insert(key, finding.clone());
            Ok(finding)
        }
        Err(Failure { cancelled: true, .. }) => Err(DeviceError::Cancelled),
        Err(Failure { code: Some(code), why, .. }) if code == i32::from(UNSOUND) => {
            Err(DeviceError::Unsound { adapter: name, why })
        }
        Err(Failure { why, .. }) => Err(DeviceError::Untested { adapter: name, why }),
    }
}

/// Devices of this process: burn initialises each only once.
static OPENED: LazyLock<Mutex<HashMap<Selector, Device>>> = LazyLock::new(Mutex::default);
/// What was found in the tests that adapters passed, by adapter and trial.
static PASSED: LazyLock<Mutex<HashMap<(Selector, String), String>>> = LazyLock::new(Mutex::default);

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has each device tested again before its next use, since one of them failed.
pub fn forget_opened() {
    lock(&OPENED).clear();
    lock(&PASSED).clear();
}

/// Opens an adapter in this process, without a test; the same one again if it is open.
///
/// # Errors
/// As the driver says.
pub fn open_here(adapter: &Adapter) -> Result<Device, DeviceError> {
    if let Some(device) = lock(&OPENED).get(&adapter.selector) {
        return Ok(device.clone());
    }
    let kind = match adapter.selector {
        Selector::Discrete(index) => DeviceKind::DiscreteGpu(index),
        Selector::Integrated(index) => DeviceKind::IntegratedGpu(index),
        Selector::Virtual(index) => DeviceKind::VirtualGpu(index),
        Selector::Software => DeviceKind::Cpu,
    };
    let fail =
        |error: burn_wgpu::WgpuInitError| DeviceError::Open { adapter: adapter.name.clone(), why: error.to_string() };
    let device = Device::wgpu_options().device_kind(kind).graphics_api(WgpuBackend::Auto).init().map_err(fail)?;
    lock(&OPENED).insert(adapter.selector.clone(), device.clone());
    Ok(device)
}

fn report(adapter: &Adapter, reason: String) -> DeviceReport {
    DeviceReport { kind: adapter.class, name: adapter.name.clone(), engine: format!("wgpu {}", adapter.engine), reason }
}

fn cpu_report(reason: String) -> DeviceReport {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let plural = if threads == 1 { "thread" } else { "threads" };
    DeviceReport {
        kind: DeviceClass::Cpu,
        name: format!("CPU, {threads} {plural}"),
        engine: "burn Flex".into(),
        reason,
    }
}

/// How a child process failed.
#[derive(Debug, Default)]
struct Failure {
    /// In words for the user.
    why: String,
    /// Its exit code, when it ended by itself.
    code: Option<i32>,
    /// It was ended because nobody waits for it any more.
    cancelled: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, ..Self::default() }
    }
}

/// Runs this program with `arguments` and returns what it printed.
///
/// # Errors
/// If there is no program to run, or it crashed, failed, hung, or was called off by `goes_on`.
fn run_child(arguments: &[&str], limit: Duration, goes_on: &mut dyn FnMut() -> bool) -> Result<String, Failure> {
    match PROGRAM.get() {
        Some(program) => run_program(program, arguments, limit, goes_on),
        None => Err("this program does not try graphics drivers".to_owned().into()),
    }
}

fn run_program(
    program: &Path,
    arguments: &[&str],
    limit: Duration,
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<String, Failure> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{} could not be started: {error}", program.display()))?;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::Builder::new().name("headlight-probe".into()).spawn(move || {
            let mut text = Vec::new();
            pipe.map(|mut pipe| pipe.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let reader = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let errors = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {
                let late = started.elapsed() > limit;
                if late || !goes_on() {
                    let _ = child.kill();
                    let _ = child.wait();
                    let why = format!("its driver gave no answer within {} seconds", limit.as_secs());
                    return Err(Failure { why, code: None, cancelled: !late });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(format!("its test could not be watched: {error}").into()),
        }
    };
    let text = reader.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
    match status.code() {
        Some(0) => Ok(text),
        Some(code) => {
            // A panic speaks on the other pipe.
            let errors = errors.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
            let said = [&text, &errors].into_iter().find_map(|text| text.trim().lines().last());
            let why = said.unwrap_or("its test failed without a word").to_owned();
            Err(Failure { why, code: Some(code), cancelled: false })
        }
        None => Err(format!("its driver crashed ({status})").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, class: DeviceClass, selector: Selector) -> Adapter {
        Adapter { name: name.into(), engine: "Vulkan".into(), class, selector }
    }

    #[test]
    fn a_software_adapter_is_only_taken_by_name() {
        let software = [adapter("llvmpipe (LLVM 15)", DeviceClass::Software, Selector::Software)];
        assert!(
            matches!(choose(&DeviceChoice::Auto, &software, None), Ok(Choice::Cpu(why)) if why.contains("llvmpipe"))
        );
        assert!(matches!(choose(&DeviceChoice::Gpu, &software, None), Err(DeviceError::NoGpu { .. })));
        let named = choose(&DeviceChoice::Named("LLVMpipe".into()), &software, None);
        assert!(matches!(named, Ok(Choice::Adapter(found, _)) if *found == software[0]));
        let missing = choose(&DeviceChoice::Named("radeon".into()), &software, None).expect_err("not there");
        assert!(missing.to_string().contains("radeon") && missing.to_string().contains("llvmpipe"), "{missing}");
    }

    #[test]
    #[cfg(unix)]
    fn a_driver_that_crashes_hangs_or_fails_is_reported_as_such() {
        // Stand-ins for a child whose driver does so.
        let run = |script: &str, millis| {
            run_program(Path::new("sh"), &["-c", script], Duration::from_millis(millis), &mut || true)
        };
        let crashed = run("kill -SEGV $$", 20_000).expect_err("it crashed");
        assert!(crashed.why.contains("crashed") && crashed.code.is_none(), "{crashed:?}");
        let hung = run("exec sleep 60", 200).expect_err("it hung");
        assert!(hung.why.contains("no answer within") && !hung.cancelled, "{hung:?}");
        let unsound = run("echo first; echo the gradients are apart; exit 3", 20_000).expect_err("it failed");
        assert_eq!((unsound.why.as_str(), unsound.code), ("the gradients are apart", Some(i32::from(UNSOUND))));
        assert_eq!(run("echo fine", 20_000).expect("it works").trim(), "fine");
    }

    #[test]
    fn auto_prefers_the_discrete_gpu_and_says_what_went_wrong() {
        let both = [
            adapter("small", DeviceClass::Gpu, Selector::Integrated(0)),
            adapter("large", DeviceClass::Gpu, Selector::Discrete(0)),
        ];
        assert!(
            matches!(choose(&DeviceChoice::Auto, &both, None), Ok(Choice::Adapter(found, _)) if found.name == "large")
        );
        let crashed = choose(&DeviceChoice::Auto, &[], Some("its driver crashed"));
        assert!(matches!(crashed, Ok(Choice::Cpu(why)) if why.contains("its driver crashed")));
    }
}
