//! Colours of numbers about zero: blue below, orange above, a pair that every eye tells apart, and the ground's own tone
//! in the middle, so that zero is quiet in light and dark.

use eframe::egui::{Color32, Mesh, Rect, Role, Sense, Shape, TextStyle, Ui, Visuals, WidgetInfo, pos2, vec2};

use super::theme;

/// From the middle outwards.
const DARK: [[[u8; 3]; 3]; 2] =
    [[[43, 46, 52], [52, 112, 178], [150, 205, 255]], [[43, 46, 52], [186, 96, 30], [255, 204, 140]]];
const LIGHT: [[[u8; 3]; 3]; 2] =
    [[[244, 244, 240], [110, 168, 220], [10, 62, 130]], [[244, 244, 240], [240, 160, 84], [138, 56, 0]]];

/// The colour of a value between -1 and 1; values outside take the nearer end.
#[must_use]
pub fn diverging(value: f32, visuals: &Visuals) -> Color32 {
    let sides = if visuals.dark_mode { &DARK } else { &LIGHT };
    let stops = &sides[usize::from(value > 0.0)];
    // `min` takes NaN to the end; a number that is none is no quiet zero.
    let place = value.abs().min(1.0) * 2.0;
    let below = (place as usize).min(1);
    let [red, green, blue] = std::array::from_fn(|channel| {
        let (low, high) = (f32::from(stops[below][channel]), f32::from(stops[below + 1][channel]));
        (low + (high - low) * (place - below as f32)).round() as u8
    });
    Color32::from_rgb(red, green, blue)
}

/// A bar of the map with the numbers at its ends. `what` says of what.
pub fn diverging_legend(ui: &mut Ui, limit: f32, what: &str) {
    let font = TextStyle::Small.resolve(ui.style());
    let color = theme::muted(ui.visuals());
    let ends = [(0.0, -limit), (0.5, 0.0), (1.0, limit)];
    let labels = ends.map(|(place, value)| {
        let text = if value == 0.0 { "0".to_owned() } else { format!("{value:+.3}") };
        (place, ui.painter().layout_no_wrap(text, font.clone(), color))
    });
    let margin = labels[0].1.size().x / 2.0;
    let bar = vec2(110.0, 8.0);
    let size = vec2(bar.x + 2.0 * margin, bar.y + labels[0].1.size().y + 1.0);
    let (area, response) = ui.allocate_exact_size(size, Sense::hover());
    let bar = Rect::from_min_size(area.min + vec2(margin, 1.0), bar);
    let mut mesh = Mesh::default();
    for part in 0..=32 {
        let place = part as f32 / 32.0;
        let fill = diverging(2.0 * place - 1.0, ui.visuals());
        for y in [bar.top(), bar.bottom()] {
            mesh.colored_vertex(pos2(bar.left() + place * bar.width(), y), fill);
        }
        if part > 0 {
            let last = 2 * part;
            mesh.add_triangle(last - 2, last - 1, last);
            mesh.add_triangle(last - 1, last, last + 1);
        }
    }
    ui.painter().add(Shape::mesh(mesh));
    for (place, galley) in labels {
        let x = bar.left() + place * bar.width() - galley.size().x / 2.0;
        ui.painter().galley(pos2(x, bar.bottom()), galley, color);
    }
    let name = format!("Colours of {what}, from {:.3} to {limit:.3}, zero in the middle", -limit);
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(color: Color32) -> f32 {
        let [red, green, blue, _] = color.to_array().map(f32::from);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn both_sides_leave_the_middle_evenly_and_stay_apart() {
        for visuals in [Visuals::dark(), Visuals::light()] {
            let sign = if visuals.dark_mode { 1.0 } else { -1.0 };
            for side in [-1.0, 1.0] {
                let levels: Vec<f32> =
                    (0..=20).map(|level| sign * luminance(diverging(side * level as f32 / 20.0, &visuals))).collect();
                assert!(levels.windows(2).all(|pair| pair[1] > pair[0]), "side {side}: {levels:?}");
            }
            for level in 1..=10 {
                let value = level as f32 / 10.0;
                let (below, above) = (diverging(-value, &visuals), diverging(value, &visuals));
                assert!(below.b() > below.r() && above.r() > above.b(), "{value}: {below:?} and {above:?}");
            }
            assert_eq!(diverging(7.0, &visuals), diverging(1.0, &visuals));
            assert_eq!(diverging(f32::NAN, &visuals), diverging(-1.0, &visuals));
            assert_eq!(diverging(-0.0, &visuals), diverging(0.0, &visuals));
        }
    }
}
