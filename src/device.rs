//! The only file that names a backend: lists adapters, tries them in a child process, opens one and says why.
//!
//! A graphics driver can crash the process that loads it (Mesa 22.3 and 25.0 are known to, on some shaders), so
//! adapters are listed and tried by a child of the same program (`headlight doctor --probe …`). Only then does this
//! process touch the driver.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use burn::tensor::{Device, DeviceKind};
use burn_wgpu::WgpuBackend;
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use burn_wgpu::wgpu;
use serde::{Deserialize, Serialize};

use crate::lab::protocol::{DeviceChoice, DeviceClass, DeviceReport};

/// How long the listing of adapters may take before the driver counts as hung.
const LIST_LIMIT: Duration = Duration::from_secs(20);
/// How long a first training step may take on an adapter: a software adapter compiles its kernels for half a minute.
const PROBE_LIMIT: Duration = Duration::from_secs(180);

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
    #[error("{adapter} failed its test: {why}")]
    Unsound { adapter: String, why: String },
    #[error("{adapter} could not be opened: {why}. After a failure of the device, start the program again to use it")]
    Open { adapter: String, why: String },
    #[error("the device's test was called off")]
    Cancelled,
}

/// The program whose child processes list and try adapters. Without it no adapter is ever tried.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Allows child processes of `program` (which must understand `doctor --list` and `doctor --probe NAME`).
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
            let output =
                run_child(&["doctor", "--list"], LIST_LIMIT, &mut || true).map_err(Option::unwrap_or_default)?;
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

/// Chooses and opens a device: a GPU only after its test in a child process; a software adapter only by name.
/// The test can take a while: `say` is told, and `false` from `goes_on` calls it off.
///
/// # Errors
/// If a device that was asked for (not `Auto`) cannot be had: what was found, and what to do.
pub fn open(
    choice: &DeviceChoice,
    say: &mut dyn FnMut(String),
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<(Device, DeviceReport), DeviceError> {
    let found = if *choice == DeviceChoice::Cpu { Ok(Vec::new()) } else { survey() };
    let (adapters, trouble) = match found {
        Ok(adapters) => (adapters, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    match choose(choice, &adapters, trouble.as_deref())? {
        Choice::Cpu(reason) => Ok((cpu(), cpu_report(reason))),
        Choice::Adapter(adapter, reason) => match test_and_open(adapter, say, goes_on) {
            Ok(device) => Ok((device, report(adapter, reason))),
            Err(DeviceError::Cancelled) => Err(DeviceError::Cancelled),
            Err(error) if *choice == DeviceChoice::Auto => {
                Ok((cpu(), cpu_report(format!("{error}; so the CPU computes"))))
            }
            Err(error) => Err(error),
        },
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

fn test_and_open(
    adapter: &Adapter,
    say: &mut dyn FnMut(String),
    goes_on: &mut dyn FnMut() -> bool,
) -> Result<Device, DeviceError> {
    if let Some(device) = opened().get(&adapter.selector) {
        return Ok(device.clone());
    }
    say(format!("testing {} in a process of its own (its kernels are compiled the first time)…", adapter.name));
    if let Err(why) = run_child(&["doctor", "--probe", &adapter.name], PROBE_LIMIT, goes_on) {
        return Err(match why {
            Some(why) => DeviceError::Unsound { adapter: adapter.name.clone(), why },
            None => DeviceError::Cancelled,
        });
    }
    say(format!("preparing kernels on {}…", adapter.name));
    open_here(adapter)
}

/// Devices of this process: burn initialises each only once.
fn opened() -> std::sync::MutexGuard<'static, HashMap<Selector, Device>> {
    static OPENED: OnceLock<Mutex<HashMap<Selector, Device>>> = OnceLock::new();
    OPENED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has each device tested again before its next use, since one of them failed.
pub fn forget_opened() {
    opened().clear();
}

/// Opens an adapter in this process, without a test.
///
/// # Errors
/// As the driver says.
pub fn open_here(adapter: &Adapter) -> Result<Device, DeviceError> {
    let kind = match adapter.selector {
        Selector::Discrete(index) => DeviceKind::DiscreteGpu(index),
        Selector::Integrated(index) => DeviceKind::IntegratedGpu(index),
        Selector::Virtual(index) => DeviceKind::VirtualGpu(index),
        Selector::Software => DeviceKind::Cpu,
    };
    let fail =
        |error: burn_wgpu::WgpuInitError| DeviceError::Open { adapter: adapter.name.clone(), why: error.to_string() };
    let device = Device::wgpu_options().device_kind(kind).graphics_api(WgpuBackend::Auto).init().map_err(fail)?;
    opened().insert(adapter.selector.clone(), device.clone());
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

/// Runs this program with `arguments` and returns what it printed.
///
/// # Errors
/// If there is no program to run, or it crashed, failed or hung: in words for the user. `None` when `goes_on` ended it.
fn run_child(arguments: &[&str], limit: Duration, goes_on: &mut dyn FnMut() -> bool) -> Result<String, Option<String>> {
    let Some(program) = PROGRAM.get() else { return Err(Some("this program does not try graphics drivers".into())) };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| Some(format!("{} could not be started: {error}", program.display())))?;
    let stdout = child.stdout.take();
    let reader = std::thread::Builder::new().name("headlight-probe".into()).spawn(move || {
        let mut text = String::new();
        stdout.map(|mut pipe| pipe.read_to_string(&mut text));
        text
    });
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {
                let late = started.elapsed() > limit;
                if late || !goes_on() {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(late.then(|| format!("its driver gave no answer within {} seconds", limit.as_secs())));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(Some(format!("its test could not be watched: {error}"))),
        }
    };
    let text = reader.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
    if status.success() {
        Ok(text)
    } else if status.code().is_some() {
        Err(Some(text.trim().lines().last().unwrap_or("its test failed without a word").to_owned()))
    } else {
        Err(Some(format!("its driver crashed ({status})")))
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
