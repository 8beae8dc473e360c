//! Training through wgpu, on whatever adapter there is; llvmpipe will do.

use std::io::Write;

use crate::{headlight, headlight_ok, small_recipe, text};

/// The losses of the first 20 steps on a device.
fn losses(device: &str) -> Vec<f64> {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = folder.path().join("small.ron");
    let preset = headlight::preset::Preset { recipe: small_recipe(), ..headlight::preset::first() };
    std::fs::write(&recipe, preset.to_ron()).expect("written");
    let run = folder.path().join("run");
    let arguments =
        ["train", "--recipe", text(&recipe), "--device", device, "--stop-at", "20", "--out", text(&run), "--json"];
    let output = headlight_ok(&arguments);
    let events =
        output.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a JSON object a line"));
    events.filter(|event| event["event"] == "step").map(|event| event["loss"].as_f64().expect("a number")).collect()
}

#[test]
fn wgpu_gives_the_cpus_losses() {
    let doctor: serde_json::Value =
        serde_json::from_slice(&headlight(&["doctor", "--device", "cpu", "--json"]).stdout).expect("JSON");
    let Some(name) = doctor["adapters"][0]["name"].as_str() else {
        assert!(std::env::var_os("CI").is_none(), "CI must have an adapter (llvmpipe will do): {doctor}");
        // The test runner keeps what a passing test prints, but not what goes past `eprintln!`.
        let note = "*** NOT TESTED: there is no graphics adapter here, so training through wgpu was not tried ***";
        writeln!(std::io::stderr(), "{note}").expect("said");
        return;
    };
    let (cpu, gpu) = (losses("cpu"), losses(name));
    assert_eq!((cpu.len(), gpu.len()), (20, 20));
    for (step, (cpu, gpu)) in cpu.iter().zip(&gpu).enumerate() {
        assert!((cpu - gpu).abs() < 1e-3, "step {}: {gpu} on {name}, {cpu} on the CPU", step + 1);
    }
}
