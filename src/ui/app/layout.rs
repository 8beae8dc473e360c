//! Where the panes stand: a tree of tiles that the user may move, share out, hide and restore.

use eframe::egui::{self, Color32, Frame, Margin, Rect, Response, Stroke, Ui, Visuals, WidgetText};
use egui_tiles::{
    Behavior, Container, EditAction, Linear, LinearDir, SimplificationOptions, TabState, Tile, TileId, Tiles, Tree,
    UiResponse,
};
use serde::{Deserialize, Serialize};

use crate::ui::actions::{Action, Pane, PickPurpose};
use crate::ui::widgets::theme;

/// The tree of panes. As long as the user has not touched it, it follows the window's size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layout {
    tree: Tree<Pane>,
    edited: bool,
    #[serde(skip)]
    made_for: egui::Vec2,
}

impl PartialEq for Layout {
    /// As far as it is remembered: one that follows the window is as good as any other that does.
    fn eq(&self, other: &Self) -> bool {
        self.edited == other.edited && (!self.edited || self.tree == other.tree)
    }
}

impl Default for Layout {
    fn default() -> Self {
        let size = egui::vec2(1280.0, 740.0);
        Self { tree: first_tree(size.x), edited: false, made_for: size }
    }
}

impl Layout {
    /// The same layout if each pane is in it exactly once, as a file may say anything; else the default one.
    #[must_use]
    pub fn checked(self) -> Self {
        let count =
            |pane| self.tree.tiles.tiles().filter(|tile| matches!(tile, Tile::Pane(found) if *found == pane)).count();
        let whole = self.tree.root.is_some() && Pane::ALL.iter().all(|pane| count(*pane) == 1);
        if whole { self } else { Self::default() }
    }

    #[must_use]
    pub fn is_shown(&self, pane: Pane) -> bool {
        self.tree.tiles.find_pane(&pane).is_some_and(|tile| self.tree.is_visible(tile))
    }

    /// Brings a pane into sight, or hides it when it is.
    pub fn toggle(&mut self, pane: Pane) {
        self.show(pane, self.rect(pane).is_none());
    }

    /// Shows or hides a pane; a shown one also comes to the front of its tabs.
    pub fn show(&mut self, pane: Pane, shown: bool) {
        self.edited = true;
        if let Some(tile) = self.tree.tiles.find_pane(&pane) {
            self.tree.set_visible(tile, shown);
            if shown {
                self.tree.make_active(|id, _| id == tile);
            }
        }
    }

    /// The rectangle in which a pane was last painted, if it was in sight.
    #[must_use]
    pub fn rect(&self, pane: Pane) -> Option<Rect> {
        let tile = self.tree.tiles.find_pane(&pane)?;
        self.tree.active_tiles().contains(&tile).then(|| self.tree.tiles.rect(tile))?
    }

    /// Lays the panes out and paints each with `paint`. `head_title` names the chosen head. Returns what was asked at the
    /// tabs.
    pub fn ui(&mut self, ui: &mut Ui, head_title: &str, paint: &mut dyn FnMut(Pane, &mut Ui)) -> Vec<Action> {
        let size = ui.available_size();
        if !self.edited && size != self.made_for {
            share_out(&mut self.tree, size.x);
            self.made_for = size;
        }
        let mut shown = Shown { paint, head_title, edited: false, closed: None, actions: Vec::new() };
        self.tree.ui(&mut shown, ui);
        let Shown { edited, closed, actions, .. } = shown;
        self.edited |= edited;
        if let Some(tile) = closed {
            self.edited = true;
            self.tree.set_visible(tile, false);
        }
        actions
    }
}

/// The layout that the window begins with.
fn first_tree(width: f32) -> Tree<Pane> {
    let mut tiles = Tiles::default();
    let mut tabs = |panes: &[Pane]| {
        let panes = panes.iter().map(|pane| tiles.insert_pane(*pane)).collect();
        tiles.insert_tab_tile(panes)
    };
    let (recipe, loss, heads) = (tabs(&[Pane::Recipe]), tabs(&[Pane::Loss]), tabs(&[Pane::Heads, Pane::Roles]));
    // The drawing in the highest place, and not over the recipe that it follows.
    let (head, sample) =
        (tabs(&[Pane::Head, Pane::Tokens, Pane::Lens, Pane::Architecture]), tabs(&[Pane::Sample, Pane::Log]));
    let middle = tiles.insert_container(Linear::new_binary(LinearDir::Vertical, [loss, heads], 0.5));
    let right = tiles.insert_container(Linear::new_binary(LinearDir::Vertical, [head, sample], 0.62));
    let columns = Linear::new(LinearDir::Horizontal, vec![recipe, middle, right]);
    let root = tiles.insert_container(Container::Linear(columns));
    let mut tree = Tree::new(egui::Id::unique("headlight panes"), root, tiles);
    share_out(&mut tree, width);
    tree
}

/// Fits the first layout to a window: a recipe column of fixed width, the rest shared out.
fn share_out(tree: &mut Tree<Pane>, width: f32) {
    let recipe = (320.0 / width.max(900.0)).clamp(0.1, 0.4);
    let root = tree.root.and_then(|root| tree.tiles.get_mut(root));
    if let Some(Tile::Container(Container::Linear(columns))) = root {
        let shares = [recipe, (1.0 - recipe) * 0.55, (1.0 - recipe) * 0.45];
        for (column, share) in columns.children.clone().into_iter().zip(shares) {
            columns.shares.set_share(column, share);
        }
    }
}

/// What the tree asks for while it is painted.
struct Shown<'a> {
    paint: &'a mut dyn FnMut(Pane, &mut Ui),
    head_title: &'a str,
    edited: bool,
    closed: Option<TileId>,
    actions: Vec<Action>,
}

impl Behavior<Pane> for Shown<'_> {
    fn pane_ui(&mut self, ui: &mut Ui, _tile: TileId, pane: &mut Pane) -> UiResponse {
        let fill = ui.visuals().panel_fill;
        Frame::new().fill(fill).inner_margin(Margin::symmetric(10, 8)).show(ui, |ui| {
            ui.set_min_size(ui.available_size());
            (self.paint)(*pane, ui);
        });
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, pane: &Pane) -> WidgetText {
        if *pane == Pane::Head { self.head_title.into() } else { pane.title().into() }
    }

    fn is_tab_closable(&self, _tiles: &Tiles<Pane>, _tile: TileId) -> bool {
        true
    }

    fn on_tab_button(&mut self, tiles: &mut Tiles<Pane>, tile: TileId, button: Response) -> Response {
        if let Some(&Tile::Pane(pane)) = tiles.get(tile) {
            button.context_menu(|ui| self.actions.extend(tab_menu(ui, pane)));
        }
        button
    }

    fn on_tab_close(&mut self, _tiles: &mut Tiles<Pane>, tile: TileId) -> bool {
        // Hidden, not removed: its place is kept for when it is shown again.
        self.closed = Some(tile);
        false
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions { all_panes_must_have_tabs: true, ..SimplificationOptions::default() }
    }

    fn on_edit(&mut self, action: EditAction) {
        self.edited |= action != EditAction::TabSelected;
    }

    fn gap_width(&self, _style: &egui::Style) -> f32 {
        6.0
    }

    fn min_size(&self) -> f32 {
        96.0
    }

    fn tab_bar_height(&self, _style: &egui::Style) -> f32 {
        26.0
    }

    fn tab_title_spacing(&self, _visuals: &Visuals) -> f32 {
        10.0
    }

    fn tab_bar_color(&self, visuals: &Visuals) -> Color32 {
        theme::backdrop(visuals)
    }

    fn tab_outline_stroke(&self, _: &Visuals, _: &Tiles<Pane>, _: TileId, _: &TabState) -> Stroke {
        Stroke::NONE
    }

    fn tab_bar_hline_stroke(&self, _visuals: &Visuals) -> Stroke {
        Stroke::NONE
    }

    fn tab_text_color(&self, visuals: &Visuals, _: &Tiles<Pane>, _: TileId, state: &TabState) -> Color32 {
        if state.active { visuals.strong_text_color() } else { theme::muted(visuals) }
    }

    fn drag_preview_stroke(&self, visuals: &Visuals) -> Stroke {
        Stroke::new(1.5, theme::accent(visuals))
    }

    fn drag_preview_color(&self, visuals: &Visuals) -> Color32 {
        theme::accent(visuals).gamma_multiply(0.2)
    }
}

/// What the right button offers at a pane's tab.
#[must_use]
pub fn tab_menu(ui: &mut Ui, pane: Pane) -> Vec<Action> {
    let mut actions = Vec::new();
    if ui.button("Save picture (PNG)…").clicked() {
        actions.push(Action::Pick(PickPurpose::SavePicture(pane)));
    }
    if ui.button("Copy picture").clicked() {
        actions.push(Action::CopyPicture(pane));
    }
    if !actions.is_empty() {
        ui.close();
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pane_can_be_hidden_and_restored() {
        let mut layout = Layout::default();
        layout.show(Pane::Loss, false);
        assert!(!layout.is_shown(Pane::Loss));
        layout.show(Pane::Loss, true);
        assert!(Pane::ALL.iter().all(|pane| layout.is_shown(*pane)));
    }

    #[test]
    fn a_pane_behind_another_comes_to_the_front_and_stays_there_when_the_window_grows() {
        let mut layout = Layout::default();
        let paint = |layout: &mut Layout, width| {
            let harness = egui_kittest::Harness::builder().with_size([width, 700.0]);
            drop(harness.build_ui(|ui| drop(layout.ui(ui, "Head", &mut |_, _| ()))));
        };
        paint(&mut layout, 1000.0);
        assert!(layout.is_shown(Pane::Log) && layout.rect(Pane::Log).is_none(), "behind the sample");
        layout.toggle(Pane::Log);
        layout.edited = false;
        paint(&mut layout, 1400.0);
        assert!(layout.rect(Pane::Log).is_some());
        assert!(layout.rect(Pane::Recipe).is_some_and(|rect| (310.0..330.0).contains(&rect.width())));
        layout.toggle(Pane::Log);
        assert!(!layout.is_shown(Pane::Log));
    }

    #[test]
    fn a_layout_without_all_panes_is_not_trusted() {
        let mut layout = Layout::default();
        let loss = layout.tree.tiles.find_pane(&Pane::Loss).expect("there");
        layout.tree.remove_recursively(loss);
        layout.edited = true;
        assert!(layout.checked().is_shown(Pane::Loss));
    }

    #[test]
    fn a_layout_survives_writing() {
        let mut layout = Layout::default();
        layout.show(Pane::Log, false);
        let text = ron::to_string(&layout).expect("written");
        let read: Layout = ron::from_str(&text).expect("read");
        assert!(read.edited && !read.is_shown(Pane::Log) && read.is_shown(Pane::Loss));
    }
}
