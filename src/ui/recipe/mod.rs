//! What the user asks for: the recipe's panel, the draft, the diagram.

pub(super) mod architecture_view;
pub(super) mod draft;
pub(super) mod recipe_panel;
