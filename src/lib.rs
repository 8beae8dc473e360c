//! Headlight: a desktop lab for micro language models.
//!
//! # The map of the house
//!
//! The way of the data, one direction each way. A pane never reaches round a corner for something: it reads the store and
//! returns an `Action`.
//!
//! ```text
//! text file ─► corpus ─► tokenizer ─► windows ─► trainer ─► Event ─► channel ─► RunStore ─► panes
//!                                       ▲           │                              │
//!                                       └─ Command ◄┼───── channel ◄──── Action ◄──┘
//!                                                   └─► run folder (recipe, metrics, checkpoints)
//! ```
//!
//! | room | what it is for | may use |
//! |---|---|---|
//! | [`recipe`] | what the user asks for, and every way in which it can be wrong | nothing of ours |
//! | [`files`] | opening what anybody may have put there | `recipe` |
//! | [`memory`] | how much memory there is, and whether a job fits | `recipe` |
//! | [`text`] | corpus, tokenizer, windows, the texts that the program makes itself | `files`, `recipe` |
//! | [`preset`] | recipes with a commentary, as files | `recipe` |
//! | [`protocol`] | commands, events, what a run is started with: plain data that nearly everyone shares | `recipe` |
//! | [`kernels`] | fused operations for the CPU, each with a plain twin that it must equal | nothing of ours |
//! | [`model`] | the network, its first weights, what a pass may record | `kernels`, `recipe` |
//! | [`train`] | trainer, optimizer, probe, sampler: one call at a time | `kernels`, `model`, `text`, `recipe`, `protocol` |
//! | [`runs`] | run folder, checkpoints, models in and out | `train`, `model`, `text`, `memory`, `preset`, `files`, `recipe`, `protocol` |
//! | [`device`] | adapters: list, try in a child process, open, explain | `protocol` |
//! | [`lab`] | `worker/`, the thread that owns a run's tensors; `jobs/`, what window and command line ask for; the file worker | `protocol`, `device`, `runs`, `train`, `model`, `kernels`, `text`, `memory`, `preset`, `files`, `recipe` |
//! | [`store`] | what is known of a run | `protocol`, `recipe` |
//! | [`findings`] | what was measured, as text for other programs: JSON, CSV, a page; nanoGPT's own losses | `protocol`, `store`, `preset`, `recipe` |
//! | [`headless`] | the command line | `lab`, `protocol`, `runs`, `findings`, `preset`, `recipe` |
//! | [`ui`] | the window: `app/`, `actions/`, `widgets/`, and one folder a capability | `store`, `findings`, `protocol`, `lab::handle`, `lab::file_worker`, `preset`, `files`, `recipe` |
//!
//! A room uses all of itself, and nothing imports upwards: `tests/all/invariants.rs` reads this table and holds every import to
//! it, and there is no circle of rooms or of files. What each file is for stands at its top.
//!
//! # Words
//!
//! The field's where it has one: what TransformerLens, nanoGPT or Hugging Face call so is the same here.
//!
//! | word | meaning |
//! |---|---|
//! | step | an optimizer step that is done; step 0 is the model with its initial weights |
//! | checkpoint | weights, moments and training state in a file; `last` and `best` of a run |
//! | kept step, timeline | a step whose checkpoint stays in the run folder, and all of them |
//! | probe | the text that the views look at while the model trains |
//! | view, look | what the panes ask of a model, and the answer |
//! | qkv | queries, keys and values side by side, as one projection makes them |
//! | scores, pattern, z | query · key / √head_width; after mask and softmax; what the pattern mixes of the values |
//! | resid_mid, resid_post | the residual stream behind a block's attention, and behind its MLP |
//! | kv_heads | key/value heads, each for `heads / kv_heads` query heads |
//! | role | what a head does, as a score: previous, current, first, duplicate token, induction |
//! | switch, cut | an ablation: of a head or MLP (to zero or its mean), of a single weight of the pattern |
//! | effect | how much worse the model predicts without a part |
//! | desk | the file worker: the window's only way to the disk |
//! | part | a file or folder that is not whole yet, hidden beside its place |
//!
//! # Invariants
//!
//! `tests/all/invariants.rs` holds those that can be read off the sources.
//!
//! 1. Only [`ui`] and the start of the window in `main.rs` name egui, eframe or rfd; the library builds without them.
//! 2. The window, the store and the protocol never name burn: what crosses the channel is plain data.
//! 3. Only [`device`] chooses a backend; everything else takes a burn `Device`. [`kernels`] is the CPU's own room: it names
//!    Flex, whose memory it works on, and leaves every other device to burn.
//! 4. One named thread owns every tensor of a run. The window never waits for it: no blocking send, no read of a tensor,
//!    no file on the window's thread.
//! 5. Only [`store::RunStore::apply`] changes what is known of a run; only `App::apply` changes the window's own state.
//! 6. The plain forward pass is the truth, for bad numbers too: a fast path has a test that holds it to the plain one, NaN
//!    and infinities included. What is not finite is shown as what it is.
//! 7. What a file says is never trusted: sizes are checked before memory is taken, an error names the file and what is wrong
//!    with it, and nothing that was there is replaced before the new thing is whole.

pub mod device;
pub mod files;
pub mod findings;
pub mod headless;
pub mod kernels;
pub mod lab;
pub mod memory;
pub mod model;
pub mod preset;
pub mod protocol;
pub mod recipe;
pub mod runs;
pub mod store;
pub mod text;
pub mod train;
#[cfg(feature = "gui")]
pub mod ui;
