//! What the window remembers between starts, as `settings.ron` in the user's configuration folder.
//!
//! Reading happens once, before the first frame. Writing is the file desk's work; this file only makes the text.

use std::path::{Path, PathBuf};

use eframe::egui::Vec2;
use etcetera::{BaseStrategy, choose_base_strategy};
use serde::{Deserialize, Serialize};

use super::layout::Layout;
use crate::protocol::DeviceChoice;
use crate::recipe::{Recipe, kept_path};
use crate::ui::actions::{Theme, ViewSettings};

/// The format that this program writes; an older or newer file is set aside.
const FORMAT: u32 = 1;
/// How many recent texts and runs are kept.
const RECENT_MAX: usize = 8;
/// Remembered settings are a page of text; what is larger is something else.
const SETTINGS_BYTES_MAX: u64 = 1_000_000;

/// Everything that is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub format: u32,
    pub theme: Theme,
    pub zoom: f32,
    /// Size of the window's inside, in points.
    pub window: Option<(f32, f32)>,
    pub view: ViewSettings,
    /// The recipe that was last worked on, with name and title of what it came from.
    pub draft: Option<Recipe>,
    pub preset: String,
    pub title: String,
    pub device: DeviceChoice,
    /// Take the device although its test finds wrong numbers: asked anew after each start.
    #[serde(skip)]
    pub insist: bool,
    /// Newest first.
    #[serde(with = "kept_path::each")]
    pub recent_texts: Vec<PathBuf>,
    #[serde(with = "kept_path::each")]
    pub recent_runs: Vec<PathBuf>,
    /// Where a file was last opened or saved.
    pub folder: Option<PathBuf>,
    pub layout: Layout,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            format: FORMAT,
            theme: Theme::default(),
            zoom: 1.0,
            window: None,
            view: ViewSettings::default(),
            draft: None,
            preset: String::new(),
            title: String::new(),
            device: DeviceChoice::Auto,
            insist: false,
            recent_texts: Vec::new(),
            recent_runs: Vec::new(),
            folder: None,
            layout: Layout::default(),
        }
    }
}

/// Settings as found at the start.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    pub settings: Settings,
    /// Where they are written; `None` writes them nowhere.
    pub path: Option<PathBuf>,
    /// What the user should know about it, if anything.
    pub notice: Option<String>,
}

impl Loaded {
    /// Reads the user's settings from `HEADLIGHT_HOME`, or from `headlight` in the configuration folder.
    #[must_use]
    pub fn from_home() -> Self {
        let home = std::env::var_os("HEADLIGHT_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        let folder = home.or_else(|| Some(choose_base_strategy().ok()?.config_dir().join("headlight")));
        folder.map_or_else(Self::default, |folder| Self::from_file(&folder.join("settings.ron")))
    }

    /// Reads one file. What cannot be read is set aside as `settings.ron.bad`, never thrown away.
    #[must_use]
    pub fn from_file(path: &Path) -> Self {
        let path_buf = Some(path.to_path_buf());
        if std::fs::metadata(path).is_err() {
            return Self { path: path_buf, ..Self::default() };
        }
        let read = crate::files::read(path, crate::files::Links::Followed, SETTINGS_BYTES_MAX);
        let read = read.map_err(|fault| fault.to_string()).and_then(|bytes| {
            let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
            Settings::parse(&text)
        });
        match read {
            Ok(settings) => Self { settings, path: path_buf, notice: None },
            Err(why) => {
                let bad = path.with_extension("ron.bad");
                let kept = match std::fs::rename(path, &bad) {
                    Ok(()) => format!("the old file is kept as {}", bad.display()),
                    Err(error) => format!("and it could not be set aside: {error}"),
                };
                let notice = format!("{}: {why}; starting with the usual settings, {kept}", path.display());
                Self { settings: Settings::default(), path: path_buf, notice: Some(notice) }
            }
        }
    }
}

impl Settings {
    /// Reads the text of a settings file and puts what it says within bounds.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut settings: Self = ron::from_str(text).map_err(|error| error.to_string())?;
        if settings.format != FORMAT {
            return Err(format!("settings format {} is not known to this program", settings.format));
        }
        settings.zoom = if settings.zoom.is_finite() { settings.zoom.clamp(0.5, 3.0) } else { 1.0 };
        settings.window = settings.window.filter(|(width, height)| width.is_finite() && height.is_finite());
        settings.view.smoothing =
            if settings.view.smoothing.is_finite() { settings.view.smoothing.clamp(0.0, 1.0) } else { 0.0 };
        settings.recent_texts.truncate(RECENT_MAX);
        settings.recent_runs.truncate(RECENT_MAX);
        settings.layout = settings.layout.checked();
        Ok(settings)
    }

    /// The text of a settings file.
    ///
    /// # Panics
    /// Never: settings hold nothing that RON cannot say.
    #[must_use]
    pub fn to_ron(&self) -> String {
        ron::ser::to_string_pretty(self, ron::ser::PrettyConfig::default()).expect("settings are plain data")
    }

    /// The window's size, at least what the panes need.
    #[must_use]
    pub fn window_size(&self) -> Vec2 {
        self.window.map_or(Vec2::new(1280.0, 800.0), |(width, height)| Vec2::new(width.max(960.0), height.max(600.0)))
    }
}

/// Puts a path first in a list of recent ones.
pub fn remember(recent: &mut Vec<PathBuf>, path: &Path) {
    recent.retain(|other| other != path);
    recent.insert(0, path.to_path_buf());
    recent.truncate(RECENT_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    #[test]
    fn settings_survive_writing() {
        let mut settings = Settings {
            theme: Theme::Light,
            zoom: 1.25,
            window: Some((1600.0, 900.0)),
            draft: Some(preset::built_in().remove(0).recipe),
            device: DeviceChoice::Named("llvmpipe".into()),
            recent_texts: vec!["/tmp/a.txt".into()],
            ..Settings::default()
        };
        settings.view.log_loss = true;
        let read = Settings::parse(&settings.to_ron()).expect("own text");
        assert_eq!(read, settings);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_set_aside_and_said() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("settings.ron");
        assert!(Loaded::from_file(&path).notice.is_none(), "a first start is no news");
        for bad in ["(theme: Purple)", "(format: 9)", "not ron at all {"] {
            std::fs::write(&path, bad).expect("written");
            let loaded = Loaded::from_file(&path);
            assert_eq!(loaded.settings, Settings::default(), "{bad}");
            assert!(loaded.notice.expect("said").contains("settings.ron.bad"), "{bad}");
            assert_eq!(std::fs::read_to_string(folder.path().join("settings.ron.bad")).expect("kept"), bad);
        }
    }

    #[test]
    fn nonsense_numbers_are_put_within_bounds() {
        let settings = Settings::parse("(format: 1, zoom: 1e9, view: (smoothing: -4))").expect("read");
        assert_eq!((settings.zoom, settings.view.smoothing), (3.0, 0.0));
        assert_eq!(settings.window_size(), Vec2::new(1280.0, 800.0));
    }

    #[test]
    fn recent_paths_are_few_and_newest_first() {
        let mut recent = Vec::new();
        for number in 0..12 {
            remember(&mut recent, Path::new(&format!("/{number}")));
        }
        remember(&mut recent, Path::new("/6"));
        assert_eq!(recent.len(), 8);
        assert_eq!(recent[..2], [PathBuf::from("/6"), PathBuf::from("/11")]);
    }
}
