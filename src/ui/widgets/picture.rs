//! The picture of a pane: the window's own pixels, cut to the pane, for the clipboard or as PNG. Encoding is the file
//! desk's work.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;
use eframe::egui::{ColorImage, Context, Rect};

use crate::ui::actions::Pane;

/// A picture of the whole window, and what of it is wanted.
#[derive(Debug, Clone)]
pub struct Picture {
    pub pane: Pane,
    /// The file to write; `None` is the clipboard.
    pub path: Option<PathBuf>,
    image: Arc<ColorImage>,
    /// In pixels: left, top, right, bottom.
    cut: [usize; 4],
}

/// Asks for a picture of a pane, which is at `rect` (in points). It arrives through `taken` a frame or two later, when the
/// menu or dialog that asked is gone.
pub fn request(ctx: &Context, pane: Pane, rect: Rect, path: Option<PathBuf>, taken: Sender<Picture>) {
    let (scale, waker) = (ctx.pixels_per_point(), ctx.clone());
    ctx.request_screenshot(move |image| {
        let edge = |points: f32, limit: usize| ((points * scale).round().max(0.0) as usize).min(limit);
        let [width, height] = image.size;
        let (left, right) = (edge(rect.left(), width), edge(rect.right(), width));
        let (top, bottom) = (edge(rect.top(), height), edge(rect.bottom(), height));
        // A window that takes no more pictures needs none.
        let _ = taken.try_send(Picture { pane, path, image, cut: [left, top, right, bottom] });
        waker.request_repaint();
    });
}

impl Picture {
    /// The pane's pixels.
    ///
    /// # Errors
    /// If the pane has no extent.
    pub fn cut(&self) -> Result<ColorImage, String> {
        let [left, top, right, bottom] = self.cut;
        let (width, height) = (right.saturating_sub(left), bottom.saturating_sub(top));
        if width == 0 || height == 0 {
            return Err("the pane is not in sight".into());
        }
        Ok(self.image.region_by_pixels([left, top], [width, height]))
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    /// If the pane has no extent, or the encoder fails.
    pub fn png(&self) -> Result<Vec<u8>, String> {
        let cut = self.cut()?;
        let [width, height] = cut.size;
        let pixels: Vec<u8> = cut.pixels.iter().flat_map(|color| color.to_array()).collect();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
        written.map_err(|error| format!("the picture could not be encoded: {error}"))?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eframe::egui::Color32;

    #[test]
    fn a_picture_is_cut_and_encoded() {
        let mut image = ColorImage::filled([4, 3], Color32::BLACK);
        image[(2, 1)] = Color32::WHITE;
        let picture = Picture { pane: Pane::Loss, path: None, image: Arc::new(image), cut: [2, 1, 4, 3] };
        let bytes = picture.png().expect("encoded");
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut pixels).expect("an image");
        assert_eq!((info.width, info.height), (2, 2));
        assert_eq!(pixels[..8], [255, 255, 255, 255, 0, 0, 0, 255]);
        let nothing = Picture { cut: [2, 1, 2, 3], ..picture };
        assert!(nothing.png().is_err());
    }
}
