//! What each part of the model adds to one logit, and what the model would predict from the middle of its way.

use burn::module::Param;
use burn::tensor::Tensor;

use super::gpt::Gpt;
use super::trace::Trace;
use super::values_of;

/// The parts of one logit (direct logit attribution, Elhage et al. 2021): they sum to it.
#[derive(Debug, Clone, PartialEq)]
pub struct LogitParts {
    /// Token embedding, and position's where it is learned.
    pub embedding: f32,
    /// `[layer][head]`, the heads that the layer has.
    pub heads: Vec<Vec<f32>>,
    pub mlps: Vec<f32>,
    /// Biases of the attention's projections, of the last norm and of the output.
    pub biases: f32,
}

impl Gpt {
    /// Logits from a residual stream `[batch, position, width]`: the last norm and the head.
    #[must_use]
    pub fn unembed(&self, x: Tensor<3>) -> Tensor<3> {
        self.logits(self.normed(x))
    }

    /// The last norm of a residual stream `[batch, position, width]`.
    #[must_use]
    pub fn normed(&self, x: Tensor<3>) -> Tensor<3> {
        self.norm.forward(x)
    }

    /// The parts of the logit of `token` after `position`, in a pass that was recorded in `trace`, batch of one. The last norm
    /// divides by the stream's size, which all parts share: that divisor is taken as it was.
    ///
    /// # Panics
    /// If the trace is not of a whole pass of this model.
    #[must_use]
    pub fn attribute(&self, trace: &Trace, position: usize, token: usize) -> LogitParts {
        let whole = "a trace of a whole pass";
        let row = |x: &Tensor<3>| {
            let width = x.dims()[2];
            values_of(x.clone().slice([0..1, position..position + 1, 0..width]))
        };
        let stream = |x: &Option<Tensor<3>>| row(x.as_ref().expect(whole));
        let last = stream(&trace.layers.last().expect(whole).resid_post);
        let direction = self.direction(&last, token);
        let along = |part: &[f32]| dot(part, &direction.weights);
        let mut parts = LogitParts {
            embedding: along(&stream(&trace.embedding)),
            heads: Vec::new(),
            mlps: Vec::new(),
            biases: direction.constant,
        };
        for (block, layer) in self.blocks.iter().zip(&trace.layers) {
            let (z, resid_mid, resid_post) = (stream(&layer.z), stream(&layer.resid_mid), stream(&layer.resid_post));
            let (attention, width) = (&block.attention, resid_mid.len());
            let projection = values_of(attention.projection.weight.val()); // [heads × head_width, width]
            // What a unit of each of the mixed values adds to the logit.
            let worth: Vec<f32> = projection.chunks_exact(width).map(along).collect();
            let size = attention.head_width();
            let heads = z.chunks_exact(size).zip(worth.chunks_exact(size)).map(|(z, worth)| dot(z, worth));
            parts.heads.push(heads.collect());
            parts.biases += attention.projection.bias.as_ref().map_or(0.0, |bias| along(&values_of(bias.val())));
            let wrote: Vec<f32> =
                resid_post.iter().zip(&resid_mid).map(|(resid_post, resid_mid)| resid_post - resid_mid).collect();
            parts.mlps.push(along(&wrote));
        }
        parts
    }

    /// The logit of `token` as a linear function of the stream, the norm's divisor as it is at `stream`.
    fn direction(&self, stream: &[f32], token: usize) -> Direction {
        let width = stream.len();
        let column = |weight: Tensor<2>, place: [std::ops::Range<usize>; 2]| values_of(weight.slice(place));
        let output = match &self.head {
            Some(head) => column(head.weight.val(), [0..width, token..token + 1]),
            None => column(self.token_embedding.weight.val(), [token..token + 1, 0..width]),
        };
        let values = |param: &Param<Tensor<1>>| values_of(param.val());
        let gamma = values(&self.norm.gamma);
        let mean = if self.norm.centred { mean_of(stream) } else { 0.0 };
        let variance = stream.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / width as f64;
        let divisor = (variance + self.norm.epsilon).sqrt();
        let scaled: Vec<f64> =
            output.iter().zip(&gamma).map(|(&output, &gamma)| f64::from(output) * f64::from(gamma) / divisor).collect();
        // Centring the stream is the same as centring what it is multiplied with.
        let centre = if self.norm.centred { scaled.iter().sum::<f64>() / width as f64 } else { 0.0 };
        let shift = self.norm.beta.as_ref().map_or(0.0, |beta| dot(&values(beta), &output));
        let bias = self.head.as_ref().and_then(|head| head.bias.as_ref());
        let bias = bias.map_or(0.0, |bias| values_of(bias.val())[token]);
        Direction { weights: scaled.iter().map(|weight| (weight - centre) as f32).collect(), constant: shift + bias }
    }
}

struct Direction {
    weights: Vec<f32>,
    constant: f32,
}

fn mean_of(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
}

fn dot(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32
}

/// Attention rollout (Abnar & Zuidema 2020, section 3): how much of each position's stream comes from each token, if a
/// block passes on half of the stream and half of the mean of its heads. Batch of one; the result is `[query, key]`, rows sum
/// to 1.
#[must_use]
pub fn rollout(trace: &Trace) -> Vec<f32> {
    let Some(first) = trace.layers.first().map(|layer| &layer.pattern) else { return Vec::new() };
    let (positions, device) = (first.dims()[3], first.device());
    let identity = Tensor::<2>::eye(positions, &device);
    let all = trace.layers.iter().fold(identity.clone(), |before, layer| {
        let mean = layer.pattern.clone().mean_dim(1).reshape([positions, positions]);
        ((mean + identity.clone()) / 2.0).matmul(before)
    });
    values_of(all)
}
