//! The house rules of `src/lib.rs`, held against the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            // Words in comments do no harm.
            let code: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            found.push((path, code.join("\n")));
        }
    }
    found
}

/// Files outside `allowed` (paths below `src`) in which one of `words` stands.
fn offenders(words: &[&str], allowed: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (path, code) in sources(&root) {
        let inside = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        if allowed.iter().any(|place| inside.starts_with(place)) {
            continue;
        }
        for word in words {
            if code.contains(word) {
                found.push(format!("{inside} names {word}"));
            }
        }
    }
    found
}

#[test]
fn only_the_window_names_egui() {
    assert_eq!(offenders(&["egui", "eframe", "rfd::"], &["ui/", "main.rs"]), [] as [String; 0]);
}

#[test]
fn window_store_and_protocol_never_name_burn() {
    let rooms = ["burn::", "burn_wgpu", "burn_autodiff", "crate::model", "crate::train"];
    let allowed = [
        "device.rs",
        "model/",
        "kernels/",
        "train/",
        "runs/",
        "lab/ask.rs",
        "lab/bench.rs",
        "lab/branch.rs",
        "lab/import.rs",
        "lab/looking.rs",
        "lab/measuring.rs",
        "lab/start.rs",
        "lab/trial.rs",
        "lab/worker",
    ];
    assert_eq!(offenders(&rooms, &allowed), [] as [String; 0]);
}

#[test]
fn only_device_names_a_backend() {
    let backends = [
        "burn_wgpu",
        "wgpu_options",
        "Device::flex",
        "Device::wgpu",
        "Device::vulkan",
        "Device::default",
        "DeviceKind",
    ];
    assert_eq!(offenders(&backends, &["device.rs"]), [] as [String; 0]);
}

/// The fused operations work on Flex's own memory, so they name it; nobody else does.
#[test]
fn only_the_kernels_name_the_processors_backend() {
    assert_eq!(
        offenders(&["FlexTensor", "backend::Flex", "backend::flex", "gemm::"], &["device.rs", "kernels/"]),
        [] as [String; 0]
    );
}

#[test]
fn rooms_import_only_what_the_map_allows() {
    let forbidden: [(&str, &[&str]); 12] = [
        ("kernels/", &["crate::model", "crate::train", "crate::recipe", "crate::lab", "crate::device", "crate::ui"]),
        ("preset.rs", &["crate::lab", "crate::text", "crate::model", "crate::train", "crate::runs", "crate::device"]),
        ("device.rs", &["crate::model", "crate::train", "crate::runs", "crate::text", "crate::store", "crate::ui"]),
        ("runs/", &["crate::lab::worker", "crate::lab::handle", "crate::store", "crate::ui", "crate::headless"]),
        ("headless/", &["crate::model", "crate::train", "crate::text", "crate::device", "crate::ui", "burn"]),
        ("text/", &["crate::"]),
        (
            "findings/",
            &[
                "crate::model",
                "crate::train",
                "crate::runs",
                "crate::text",
                "crate::store",
                "crate::device",
                "crate::ui",
                "crate::headless",
            ],
        ),
        ("recipe", &["crate::"]),
        ("model/", &["crate::lab", "crate::train", "crate::runs", "crate::store", "crate::ui", "crate::headless"]),
        (
            "train/",
            &[
                "crate::lab::worker",
                "crate::lab::handle",
                "crate::runs",
                "crate::store",
                "crate::ui",
                "crate::headless",
            ],
        ),
        (
            "store",
            &["crate::model", "crate::train", "crate::runs", "crate::ui", "crate::headless", "crate::lab::worker"],
        ),
        ("ui/", &["crate::model", "crate::train", "crate::headless", "crate::device", "crate::runs"]),
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for (path, code) in sources(&root) {
        let inside = path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/");
        // Tests may reach further: they build what they look at. They come last in a file.
        let code = code.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let test_file = inside.contains("tests");
        for (room, words) in forbidden {
            if inside.starts_with(room) && !test_file {
                found.extend(
                    words.iter().filter(|word| code.contains(**word)).map(|word| format!("{inside} names {word}")),
                );
            }
        }
    }
    assert_eq!(found, [] as [String; 0]);
}
