//! What is told to screen readers.

use eframe::egui::accesskit::Node;
use eframe::egui::{Context, FullOutput, Plugin};

/// Takes NUL out of every text that leaves the window. A model may draw it, and a text may hold it; on Linux it cannot be
/// sent, and the bus shuts out for good whoever tries: the whole window would be gone for a screen reader.
pub(super) struct SendableText;

impl Plugin for SendableText {
    fn debug_name(&self) -> &'static str {
        "sendable text"
    }

    fn output_hook(&mut self, _ctx: &Context, output: &mut FullOutput) {
        let Some(update) = &mut output.platform_output.accesskit_update else { return };
        update.nodes.iter_mut().for_each(|(_, node)| clean(node));
    }
}

/// A stand-in of one byte, as a node may tell how long each of its characters is.
fn clean(node: &mut Node) {
    let sendable = |text: Option<&str>| text.filter(|text| text.contains('\0')).map(|text| text.replace('\0', "?"));
    if let Some(text) = sendable(node.label()) {
        node.set_label(text);
    }
    if let Some(text) = sendable(node.value()) {
        node.set_value(text);
    }
    if let Some(text) = sendable(node.description()) {
        node.set_description(text);
    }
    if let Some(text) = sendable(node.placeholder()) {
        node.set_placeholder(text);
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui::accesskit::{NodeId, Role, TreeId, TreeUpdate};

    use super::*;

    #[test]
    fn no_text_with_nul_leaves_the_window() {
        let mut node = Node::new(Role::Label);
        node.set_label("Sample: a\0b");
        node.set_value("\0\0");
        node.set_description("whole");
        let mut output = FullOutput::default();
        output.platform_output.accesskit_update =
            Some(TreeUpdate { nodes: vec![(NodeId(1), node)], tree: None, tree_id: TreeId::ROOT, focus: NodeId(1) });
        SendableText.output_hook(&Context::default(), &mut output);
        let update = output.platform_output.accesskit_update.expect("an update");
        let node = &update.nodes[0].1;
        assert_eq!((node.label(), node.value(), node.description()), (Some("Sample: a?b"), Some("??"), Some("whole")));
    }
}
