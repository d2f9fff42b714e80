"""The RSSM and its latents, against torch's distributions, dense twins and themselves taken step by step."""

import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence

from sb3_lecture.model_based.dreamer_latents import (
    CategoricalLatent,
    GaussianLatent,
    _inverse_cdf,
    categorical_kl,
    embed,
    sample_index,
    uniform_mix,
)
from sb3_lecture.model_based.dreamer_networks import SIZES, Decoder, Encoder, Head, Inputs, make_latent
from sb3_lecture.model_based.dreamer_rssm import RSSM, BlockLinear, SplitLinear, kl_losses, layers

KINDS = {"categorical": CategoricalLatent(4, 6), "gaussian": GaussianLatent(5)}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def seeded():
    th.manual_seed(0)


def make(kind="categorical", norm="layer", blocks=4, prior_layers=1):
    return RSSM(7, 3, KINDS[kind], deter=16, hidden=12, blocks=blocks, prior_layers=prior_layers, norm=norm)


def sequence(t=6, b=5):
    first = th.zeros(t, b, dtype=th.bool)
    return th.randn(t, b, 7), th.randn(t, b, 3), first


# --- latents ---------------------------------------------------------------------------------------------------------


def test_categorical_kl_and_entropy_are_those_of_torch():
    latent, p, q = KINDS["categorical"], th.randn(9, 24), th.randn(9, 24)
    dists = [Categorical(probs=0.99 * x.view(9, 4, 6).softmax(-1) + 0.01 / 6) for x in (p, q)]
    th.testing.assert_close(latent.kl(p, q), kl_divergence(*dists).sum(-1))
    th.testing.assert_close(latent.entropy(p), dists[0].entropy().sum(-1))
    th.testing.assert_close(categorical_kl(p, p), th.zeros(9))


def test_gaussian_kl_and_entropy_are_those_of_torch():
    latent, p, q = KINDS["gaussian"], th.randn(9, 10), th.randn(9, 10)
    dists = [Normal(x[:, :5], th.nn.functional.softplus(x[:, 5:]) + 0.1) for x in (p, q)]
    th.testing.assert_close(latent.kl(p, q), kl_divergence(*dists).sum(-1))
    th.testing.assert_close(latent.entropy(p), dists[0].entropy().sum(-1))


@pytest.mark.parametrize("unimix", [0.0, 0.01, 0.5])
def test_draws_have_the_mixed_frequencies(unimix):
    probs = th.tensor([0.7, 0.0, 0.25, 0.05])
    n = 200_000
    drawn = sample_index(probs.expand(n, 4), unimix)
    assert drawn.dtype == th.int32
    expected = uniform_mix(probs, unimix)
    error = (th.bincount(drawn.long(), minlength=4) / n - expected).abs()
    assert (error < 5 * (expected * (1 - expected) / n).sqrt() + 1e-9).all()


def test_the_compiled_draw_is_the_inverse_cdf():
    probs, u = th.rand(500, 7).softmax(-1), th.rand(500)
    index = np.empty(500, np.int32)
    _inverse_cdf(probs.numpy(), u.numpy(), 0.0, index)
    cdf = probs.double().cumsum(-1)
    near = ((cdf - u.double()[:, None]).abs() < 1e-6).any(-1)  # float32 may decide these either way
    np.testing.assert_array_equal(index[~near], (cdf <= u[:, None]).sum(-1).numpy()[~near])


def test_the_gradient_passes_straight_through_a_draw():
    latent, weights = KINDS["categorical"], th.randn(24)
    params = th.randn(8, 24, requires_grad=True)
    z = latent.sample(params)
    assert ((z.detach() > 0.5).float() - z.detach()).abs().max() < 1e-6  # one-hot …
    assert (z.view(8, 4, 6).detach().argmax(-1) + th.arange(4) * 6 == latent.compact(z)).all()
    (grad,) = th.autograd.grad((z * weights).sum(), params)
    probs = uniform_mix(params.view(8, 4, 6).softmax(-1), 0.01).flatten(1)
    th.testing.assert_close(grad, th.autograd.grad((probs * weights).sum(), params)[0])  # … with the gradient of p


@every_kind
def test_both_forms_of_a_latent_are_one(kind):
    latent = KINDS[kind]
    z = latent.draw(th.randn(3, 2, latent.n_params))
    assert z.shape == (3, 2, *latent.shape) and z.dtype == latent.dtype
    dense = latent.dense(z)
    assert dense.shape == (3, 2, latent.width)
    th.testing.assert_close(latent.compact(dense), z)
    mode = latent.draw(th.randn(4, latent.n_params), deterministic=True)
    assert mode.shape == (4, *latent.shape)


@every_kind
def test_embed_is_the_product_with_the_dense_form(kind):
    latent = KINDS[kind]
    z = latent.draw(th.randn(50, 2, latent.n_params))
    table = th.randn(latent.width, 70, requires_grad=True)
    weights = th.randn(50, 2, 70)
    results = [embed(form, table) for form in (z, latent.dense(z))]
    th.testing.assert_close(*results)
    grads = [th.autograd.grad((result * weights).sum(), table)[0] for result in results]
    th.testing.assert_close(*grads)


# --- the block-diagonal GRU ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_block_linear_is_its_dense_twin(blocks):
    layer = BlockLinear(8, 24, blocks)
    th.nn.init.normal_(layer.weight)
    th.nn.init.normal_(layer.bias)
    x = th.randn(5, 8)
    th.testing.assert_close(layer(x), x @ layer.dense() + layer.bias)
    assert layer.dense().count_nonzero() == layer.weight.numel() == 8 * 24 // blocks


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_core_is_a_gru_of_dense_block_diagonal_matrices(norm):
    rssm, n, d, g = make(norm=norm), 6, 16, 4
    h, z, a = th.randn(n, d), KINDS["categorical"].draw(th.randn(n, 24)), 3.0 * th.randn(n, 3)
    with th.no_grad():
        actual = rssm.core(h, embed(z, rssm.in_z), rssm.action_features(a))
        bounded = a / a.abs().clamp(min=1.0)
        x = rssm.mix_inputs(th.cat((rssm.in_deter(h), rssm.in_z_act(KINDS["categorical"].dense(z) @ rssm.in_z)), -1))
        x = x + rssm.mix_action(rssm.in_action(bounded)) + h @ rssm.mix_deter.dense() + rssm.mix_deter.bias
        gates = rssm.mix_act(x) @ rssm.gru.dense() + rssm.gru.bias  # [n, g * 3 * (d / g)]
        expected = th.empty(n, d)
        for block in range(g):
            start = block * 3 * (d // g)
            reset, candidate, update = (gates[:, start + i * (d // g) : start + (i + 1) * (d // g)] for i in range(3))
            own = slice(block * (d // g), (block + 1) * (d // g))
            u = th.sigmoid(update - 1.0)
            expected[:, own] = u * th.tanh(th.sigmoid(reset) * candidate) + (1 - u) * h[:, own]
    th.testing.assert_close(actual, expected)


def test_a_wrong_block_count_is_named():
    with pytest.raises(ValueError, match="multiple of"):
        make(blocks=5)


# --- biases: what tells large inputs from small ones ------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_a_layer_is_silu_of_norm_of_the_affine_map(norm):
    """One input x, two units: y = W x + b = (2x, −x + 1), worked out by hand at x = 1 and x = 3."""
    stack = layers(1, 2, 1, norm)
    with th.no_grad():
        stack[0].weight.copy_(th.tensor([[2.0], [-1.0]]))
        stack[0].bias.copy_(th.tensor([0.0, 1.0]))
    for x, y in ((1.0, [2.0, 0.0]), (3.0, [6.0, -2.0])):
        if norm == "rms":  # y / √(mean y² + 10⁻⁴)
            scale = (sum(v * v for v in y) / 2 + 1e-4) ** -0.5
            normed = [v * scale for v in y]
        else:
            mean = sum(y) / 2
            scale = (sum((v - mean) ** 2 for v in y) / 2 + 1e-3) ** -0.5
            normed = [(v - mean) * scale for v in y]
        expected = [v / (1 + math.exp(-v)) for v in normed]
        assert stack(th.tensor([x]))[:].tolist() == pytest.approx(expected, rel=1e-5)


def with_biases(module, std=1.0):
    """Draw the biases, which are 0 at first, as training moves them."""
    with th.no_grad():
        for name, p in module.named_parameters():
            if name.endswith("bias") and ".norm." not in name:
                p.normal_(std=std)
    return module


def test_a_new_layers_biases_are_zero_and_its_weights_of_variance_one_over_fan_in():
    rssm = RSSM(64, 64, KINDS["categorical"], deter=64, hidden=64, blocks=4)
    biases = [p for name, p in rssm.named_parameters() if name.endswith("bias")]
    assert len(biases) == 9 and not any(p.any() for p in biases)
    for weight, fan_in in ((rssm.in_deter[0].weight, 64), (rssm.in_z, 24), (rssm.mix_inputs.weight, 3 * 64 + 64 // 4)):
        assert weight.var().item() == pytest.approx(1 / fan_in, rel=0.15)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_size_of_an_observation_is_seen(norm):
    """Without biases the encodings of 1 and of 1000, both after symlog, differed by 3e-5, whatever the weights."""
    sizes = SIZES["debug"]._replace(norm=norm)
    inputs = Inputs(spaces.Box(-np.inf, np.inf, (1,)), "never")
    encoder = with_biases(Encoder(inputs, sizes))
    small, large = (encoder(inputs(th.tensor([[x]]))[0], None) for x in (1.0, 1000.0))
    assert (small - large).norm() > 0.3 * small.norm()


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_size_of_an_action_is_felt(norm):
    """Without biases the GRU's inputs for the actions 0.2 and 1.0 differed by 0.07 %."""
    rssm = with_biases(RSSM(7, 1, KINDS["categorical"], deter=16, hidden=12, blocks=4, norm=norm))
    weak, strong = rssm.action_features(th.tensor([[0.2]])), rssm.action_features(th.tensor([[1.0]]))
    assert (weak - strong).norm() > 0.1 * strong.norm()


def test_every_map_before_a_norm_has_a_bias_that_counts():
    """Each output moves with each bias: encoder, core, posterior, prior, head, decoder, for vectors and pictures."""
    inputs = Inputs(spaces.Dict({"v": spaces.Box(-9, 9, (2,)), "i": spaces.Box(0, 255, (3, 16, 16), np.uint8)}), "auto")
    sizes = SIZES["debug"]._replace(deter=16, hidden=12, units=12, depth=2, layers=2)
    latent = make_latent("categorical", sizes)
    encoder, decoder = Encoder(inputs, sizes), Decoder(inputs, latent, sizes)
    rssm, head = RSSM(encoder.size, 3, latent, 16, 12, 4, prior_layers=2), Head(5, latent, sizes, 2)
    h, z, a = th.randn(2, 16), latent.draw(th.randn(2, latent.n_params)), th.randn(2, 3)
    embeds = encoder(th.randn(2, 2), th.randn(2, 3, 16, 16))
    new = rssm.core(h, embed(z, rssm.in_z), rssm.action_features(a))
    seen = decoder(h, z)
    outputs = [rssm.posterior(new, rssm.post_embed(embeds)), rssm.prior(new), head(h, z), *seen]
    total = sum((out * th.randn_like(out)).sum() for out in outputs)
    for module in (encoder, decoder, rssm, head):
        maps = [m for m in module.modules() if hasattr(m, "weight") and not isinstance(m, (nn.RMSNorm, nn.LayerNorm))]
        named = dict(module.named_parameters())
        biases = {name: p for name, p in named.items() if name.endswith("bias") and ".norm." not in name}
        parts = 2 if module is rssm else 0  # mix_inputs and mix_action share mix_deter's, post_deter has post_embed's …
        tables = sum(isinstance(m, SplitLinear) for m in module.modules()) + (module is rssm)  # in_z
        assert len(biases) == len(maps) - parts - (module is rssm) + tables
        for grad in th.autograd.grad(total, list(biases.values()), retain_graph=True):
            assert grad.abs().sum() > 0


# --- sequences -------------------------------------------------------------------------------------------------------


@every_kind
def test_the_scan_is_the_steps(kind):
    rssm, (embeds, actions, first) = make(kind), sequence()
    first[3, 1] = True
    latent = rssm.latent
    state = th.randn(5, 16), latent.dense(latent.draw(th.randn(5, latent.n_params)))
    with th.no_grad():
        observed = rssm.observe(embeds, actions, first, state)
        h, z = state[0], latent.compact(state[1])
        for t in range(6):
            h, _ = rssm.observe_step(embeds[t], actions[t], first[t], (h, z))
            th.testing.assert_close(h, observed.deter[t])
            post = rssm.posterior(h, rssm.post_embed(embeds[t]))
            th.testing.assert_close(post, observed.post[t])
            z = latent.compact(observed.z[t])  # the draw that the scan took


def test_an_episode_border_resets_the_latent():
    rssm, (embeds, actions, first) = make(), sequence()
    first[4] = True
    with th.no_grad():
        a = rssm.observe(embeds, actions, first, rssm.initial(5))
        b = rssm.observe(embeds + 1.0, 2.0 * actions, first, (th.randn(5, 16), th.randn(5, 24)))  # another past
        alone = rssm.observe(embeds[4:], actions[4:], first[4:], rssm.initial(5))
    th.testing.assert_close(a.deter[4], b.deter[4])
    th.testing.assert_close(a.deter[4], alone.deter[0])
    assert not th.allclose(a.deter[3], b.deter[3])
    assert not th.allclose(a.deter[5], b.deter[5]), "within the episode what is seen matters"


@every_kind
def test_imagination_follows_the_prior(kind):
    rssm, latent = make(kind), KINDS[kind]
    h, z = th.randn(8, 16), latent.draw(th.randn(8, latent.n_params))
    dream = rssm.imagine(h, z, lambda h, z: th.arange(8) % 3, 4, n_actions=3)
    assert dream.deter.shape == (5, 8, 16) and dream.z.shape == (5, 8, *latent.shape) and dream.actions.shape == (4, 8)
    one_hot = th.eye(3)[th.arange(8) % 3]
    step = rssm.core(dream.deter[2], embed(dream.z[2], rssm.in_z), rssm.action_features(one_hot))
    th.testing.assert_close(step, dream.deter[3])


def test_gradients_pass_through_imagined_states_only_if_asked():
    rssm, latent = make(), KINDS["categorical"]
    h, z = th.randn(8, 16), latent.draw(th.randn(8, 24))
    action = th.zeros(8, 3, requires_grad=True)
    dream = rssm.imagine(h, latent.dense(z), lambda h, z: action, 3, differentiable=True)
    through_z = th.autograd.grad(dream.z[-1].square().sum(), action)[0]
    assert through_z.abs().sum() > 0
    assert not rssm.imagine(h, z, lambda h, z: action, 3).z.is_floating_point()


# --- the KL losses ---------------------------------------------------------------------------------------------------


@every_kind
def test_each_kl_teaches_one_side_and_both_are_one_number(kind):
    latent = KINDS[kind]
    post = (2 * th.randn(9, latent.n_params)).requires_grad_()
    prior = (2 * th.randn(9, latent.n_params)).requires_grad_()
    dyn, rep = kl_losses(latent, post, prior, free_bits=0.0)
    th.testing.assert_close(dyn, rep)
    for loss, learns, rests in ((dyn, prior, post), (rep, post, prior)):
        assert th.autograd.grad(loss.sum(), learns, retain_graph=True)[0].abs().sum() > 0
        assert th.autograd.grad(loss.sum(), rests, allow_unused=True, retain_graph=True)[0] is None


def test_free_bits_stop_the_gradient_below_them():
    latent, post = KINDS["categorical"], th.randn(9, 24)
    prior = (post + 0.01 * th.randn(9, 24)).requires_grad_()
    dyn, _ = kl_losses(latent, post, prior, free_bits=1.0)
    th.testing.assert_close(dyn, th.ones(9))
    assert th.autograd.grad(dyn.sum(), prior)[0].abs().sum() == 0


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_the_gradient_reaches_every_weight(norm):
    rssm, (embeds, actions, first) = make(norm=norm, prior_layers=2), sequence()
    observed = rssm.observe(embeds, actions, first, rssm.initial(5))
    dyn, rep = kl_losses(rssm.latent, observed.post, rssm.prior(observed.deter), free_bits=0.0)
    (dyn + rep).mean().backward()
    for name, p in rssm.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name
