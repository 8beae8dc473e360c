//! Training through wgpu, on whatever adapter there is; llvmpipe will do.

use std::io::Write;

use crate::{headlight, headlight_ok, small_recipe, text};

/// The losses of the first 20 steps on a device, with or without a stop and a resume after ten.
fn losses(device: &str, interrupted: bool) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = small_file(folder.path());
    let run = folder.path().join("run");
    let stop = if interrupted { "10" } else { "20" };
    let arguments =
        ["train", "--recipe", &recipe, "--device", device, "--stop-at", stop, "--out", text(&run), "--json"];
    let mut output = headlight_ok(&arguments);
    if interrupted {
        output += &headlight_ok(&["resume", text(&run), "--device", device, "--stop-at", "20", "--json"]);
    }
    let events =
        output.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON object a line"));
    events.filter(|event| event["event"] == "step").map(|event| event["loss"].as_f64().expect("a number")).collect()
}

/// A small recipe as a file.
fn small_file(folder: &std::path::Path) -> String {
    let path = folder.join("small.ron");
    let preset = headlight::preset::Preset { recipe: small_recipe(), ..headlight::preset::first() };
    std::fs::write(&path, preset.to_ron()).expect("written");
    text(&path).to_owned()
}

/// The name of an adapter, if there is one here.
fn adapter() -> Option<String> {
    let doctor: serde_json::Value =
        serde_json::from_slice(&headlight(&["doctor", "--device", "cpu", "--json"]).stdout).expect("JSON");
    let name = doctor["adapters"][0]["name"].as_str().map(str::to_owned);
    if name.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have an adapter (llvmpipe will do): {doctor}");
        // The test runner keeps what a passing test prints, but not what goes past `eprintln!`.
        let note = "*** NOT TESTED: there is no graphics adapter here, so nothing of wgpu was tried ***";
        writeln!(std::io::stderr(), "{note}").expect("said");
    }
    name
}

#[test]
fn wgpu_gives_the_cpus_losses_also_after_a_resume() {
    let Some(name) = adapter() else { return };
    let (cpu, gpu, resumed) = (losses("cpu", false), losses(&name, false), losses(&name, true));
    assert_eq!((cpu.len(), gpu.len(), resumed.len()), (20, 20, 20));
    for (step, (cpu, gpu)) in cpu.iter().zip(&gpu).enumerate() {
        assert!((cpu - gpu).abs() < 1e-3, "step {}: {gpu} on {name}, {cpu} on the CPU", step + 1);
    }
    for (step, (whole, resumed)) in gpu.iter().zip(&resumed).enumerate() {
        assert!((whole - resumed).abs() < 1e-5, "step {}: {resumed} after a resume, {whole} without", step + 1);
    }
}

#[test]
fn the_doctor_tests_the_recipe_and_finds_a_fault() {
    let Some(name) = adapter() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = small_file(folder.path());
    let doctor = |more: &[&str]| {
        let arguments = [&["doctor", "--device", &name, "--recipe", &recipe, "--json"], more].concat();
        let output = headlight(&arguments);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.success(), found)
    };
    let (sound, found) = doctor(&[]);
    let reason = found["chosen"]["reason"].as_str().expect("a reason");
    assert!(sound && found["chosen"]["name"] == name.as_str() && reason.contains("the gradients"), "{found}");

    // One operation that computes something else: shown with its size, and the CPU takes over.
    let (sound, found) = doctor(&["--fault"]);
    assert!(!sound && found["chosen"]["kind"] == "cpu", "{found}");
    let error = found["error"].as_str().expect("what is wrong");
    assert!(error.contains("the logits") && error.contains("So the CPU computes"), "{error}");

    // Unless the user insists, and then it is said as loudly.
    let (sound, found) = doctor(&["--fault", "--insist"]);
    assert!(!sound && found["chosen"]["name"] == name.as_str(), "{found}");
    assert!(found["error"].as_str().is_some_and(|error| error.contains("do not trust the numbers")), "{found}");
}
