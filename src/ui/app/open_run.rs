//! What belongs to the one run that is open.

use crate::lab::handle::RunHandle;
use crate::recipe::Recipe;
use crate::ui::actions::AfterEnd;

/// The run that is there.
#[derive(Debug)]
pub(in crate::ui) struct ActiveRun {
    pub handle: RunHandle,
    /// What it was made from, with what it took over since. Its probe and sampling are those on the screen.
    pub recipe: Recipe,
    /// Opened from its folder.
    pub opened: bool,
    /// The draft is another recipe: the run was opened to be looked at.
    pub apart: bool,
    /// Changed, and not handed over yet.
    pub rate_unsent: bool,
    pub probe_unsent: bool,
    pub view_unsent: bool,
    /// Asked to stop, and what comes after.
    pub ending: Option<AfterEnd>,
}

/// Where the closing of the window stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::ui) enum Closing {
    #[default]
    No,
    /// The run is being saved; the window closes after it.
    Saving,
    Now,
}
