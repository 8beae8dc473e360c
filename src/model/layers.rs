//! How one layer's parts are computed: the one seam where weights meet numbers.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::Tensor;

use crate::kernels::{self, DropoutMask};
use crate::recipe::{Activation, ModelRecipe};

/// LayerNorm (Ba et al. 2016), or RMSNorm (Zhang & Sennrich 2019), which leaves the mean as it is.
#[derive(Module, Debug)]
pub(super) struct Norm {
    pub(super) gamma: Param<Tensor<1>>,        // [width]
    pub(super) beta: Option<Param<Tensor<1>>>, // [width]
    pub(super) epsilon: f64,
    pub(super) centred: bool,
}

impl Norm {
    pub(super) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (gamma, beta) = (self.gamma.val(), self.beta.as_ref().map(Param::val));
        match self.centred {
            true => kernels::layer_norm(x, gamma, beta, self.epsilon),
            false => kernels::rms_norm(x, gamma, self.epsilon),
        }
    }
}

pub(super) const fn function_of(activation: Activation) -> kernels::Activation {
    match activation {
        Activation::Gelu => kernels::Activation::Gelu,
        Activation::GeluTanh => kernels::Activation::GeluTanh,
        Activation::Relu => kernels::Activation::Relu,
        Activation::SwiGlu => kernels::Activation::Silu,
    }
}

/// x · W + b
pub(super) fn linear(layer: &Linear, x: Tensor<3>) -> Tensor<3> {
    kernels::linear(x, layer.weight.val(), layer.bias.as_ref().map(Param::val))
}

/// residual + dropout(x · W + b)
pub(super) fn add_linear(residual: Tensor<3>, layer: &Linear, x: Tensor<3>, dropout: &Dropout) -> Tensor<3> {
    if dropout.prob > 0.0 && x.device().is_autodiff() {
        return residual + drop(dropout, linear(layer, x));
    }
    kernels::linear_onto(residual, x, layer.weight.val(), layer.bias.as_ref().map(Param::val))
}

/// Some numbers set to 0 and the others grown, in training only.
pub(super) fn drop(dropout: &Dropout, x: Tensor<3>) -> Tensor<3> {
    match DropoutMask::draw(dropout.prob, &x.device()) {
        Some(mask) => kernels::dropout(x, mask),
        None => dropout.forward(x),
    }
}

pub(super) fn dropout(recipe: &ModelRecipe) -> Dropout {
    DropoutConfig::new(recipe.dropout).init()
}
