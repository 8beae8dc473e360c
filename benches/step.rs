//! Times whole training steps of nanoGPT's two sizes on the CPU: `cargo bench --bench step [-- small|large [STEPS]]`.
//!
//! One line of JSON for each size, as the PyTorch peer prints it: the median over all steps but the first ten of batch,
//! forward, backward, clip and update. The text is random letters, on which the time does not depend.

use std::sync::Arc;
use std::time::Instant;

use headlight::recipe::{ModelRecipe, Recipe};
use headlight::text::Dataset;
use headlight::train::Trainer;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|word| word == name);
    let count = wanted.iter().find_map(|word| word.parse::<usize>().ok());
    let base = headlight::preset::find("nanogpt-cpu").expect("built in").recipe;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let letters: Vec<char> = ('A'..='z').chain("0123456".chars()).collect();
    let text: String = (0..200_000).map(|_| letters[rng.random_range(0..letters.len())]).collect();
    let dataset = Arc::new(Dataset::from_text("random letters", &text).expect("a sound text"));
    for (name, layers, heads, width, context, batch, steps) in
        [("small", 4, 4, 128, 64, 12, 110), ("large", 6, 6, 384, 256, 4, 25)]
    {
        if !chosen(name) {
            continue;
        }
        let mut recipe =
            Recipe { model: ModelRecipe { layers, heads, width, context, ..base.model.clone() }, ..base.clone() };
        recipe.training.batch = batch;
        let mut trainer = Trainer::new(recipe, Arc::clone(&dataset), headlight::device::cpu());
        let mut times = Vec::new();
        for _ in 0..count.unwrap_or(steps) {
            let start = Instant::now();
            trainer.step().expect("finite numbers");
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let mut times = times.split_off(10);
        times.sort_by(f64::total_cmp);
        let (median, best) = (times[times.len() / 2], times[0]);
        println!("{{\"size\": \"{name}\", \"ms_per_step\": {median:.2}, \"fastest_ms\": {best:.2}}}");
    }
}
