//! Arguments → window or headless command, nothing else.

use std::process::ExitCode;

use clap::Parser;
use headlight::headless::{self, Arguments};

/// Training allocates and frees the same sizes again and again; mimalloc makes a step about 6 % quicker.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Ok(program) = std::env::current_exe() {
        headlight::device::allow_probes(program);
    }
    let Arguments { job, window } = Arguments::try_parse().unwrap_or_else(|error| {
        if error.kind() == clap::error::ErrorKind::InvalidUtf8 {
            eprintln!("headlight: {}", headless::printed(&headless::no_utf8(std::env::args_os())));
            std::process::exit(2);
        }
        refuse(&error)
    });
    let done = match job {
        #[cfg(feature = "gui")]
        Some(headless::Job::Screenshots { out }) => headlight::ui::screenshots(&out).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "gui")]
        Some(headless::Job::Bench(arguments)) if arguments.what.includes_window() => bench(arguments),
        Some(job) => headless::run(job),
        None => start_window(window),
    };
    done.unwrap_or_else(|error| {
        // Whoever read the output has seen enough (`headlight … | head`).
        let closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        if error.downcast_ref().is_some_and(closed) {
            return ExitCode::SUCCESS;
        }
        eprintln!("headlight: {}", headless::printed(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

/// Says what is wrong with the arguments, or what they may be, and ends.
fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    if error.use_stderr() {
        eprint!("{}", headless::printed(&text));
    } else {
        print!("{text}");
    }
    std::process::exit(error.exit_code())
}

/// What the command line measures, and then the window.
#[cfg(feature = "gui")]
fn bench(arguments: headless::BenchArguments) -> anyhow::Result<ExitCode> {
    let (first_frame, json) = (arguments.first_frame, arguments.json);
    if arguments.what == headless::BenchKind::All {
        headless::run(headless::Job::Bench(arguments))?;
    }
    headlight::ui::bench(first_frame, json)
}

#[cfg(feature = "gui")]
fn start_window(arguments: headless::WindowArguments) -> anyhow::Result<ExitCode> {
    let options = headlight::ui::WindowOptions {
        device: arguments.device.as_deref().map(Into::into),
        open: arguments.open.clone(),
    };
    match headlight::ui::run_window(options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(headlight::ui::WindowError::Unavailable(why)) => without_window(&why, arguments),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(feature = "gui"))]
fn start_window(arguments: headless::WindowArguments) -> anyhow::Result<ExitCode> {
    without_window("this build has none", arguments)
}

fn without_window(why: &str, arguments: headless::WindowArguments) -> anyhow::Result<ExitCode> {
    println!("no window can be opened ({}); training in the terminal instead", headless::printed(why));
    headless::instead_of_window(arguments)
}
