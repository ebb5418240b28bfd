from __future__ import annotations

import pytest
import torch

from trainables.chance import MOST_LAYERS, dropout_keys
from trainables.layers import Dropout

KEYS = torch.from_numpy(dropout_keys(12345, steps=50, layers=3))


def kept(key, rows=64, units=128, rate=0.5, layer=None):
    """Which units a training step keeps."""
    layer = layer or Dropout(rate)
    layer.key = key
    return layer(torch.ones(rows, units)) > 0


def correlation(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return torch.corrcoef(torch.stack([a, b]))[0, 1].item()


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.9])
def test_the_share_is_the_rate_and_the_mean_stays(rate):
    layer = Dropout(rate)
    masks = torch.stack([kept(key, layer=layer) for key in KEYS[:, 0]]).double()
    # 50 masks of 8,192 units: six standard errors.
    assert masks.mean().item() == pytest.approx(1 - rate, abs=6 * (rate * (1 - rate) / masks.numel()) ** 0.5)
    # A mask's own share scatters as a coin's does, neither more nor less.
    scatter = masks.mean((1, 2)).std().item() / (rate * (1 - rate) / masks[0].numel()) ** 0.5
    assert 0.65 < scatter < 1.5
    layer.key = KEYS[0, 0]
    out = layer(torch.ones(64, 128))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)])


def test_steps_layers_and_neighbours_are_independent():
    limit = 5 / 8192**0.5  # five standard errors
    masks = [kept(key) for key in KEYS[:12].flatten()]
    for number, mask in enumerate(masks):
        for other in masks[:number]:
            assert abs(correlation(mask, other)) < limit
        for shift in (1, 2, 64):
            assert abs(correlation(mask[:, shift:], mask[:, :-shift])) < 1.5 * limit
        for shift in (1, 2):
            assert abs(correlation(mask[shift:], mask[:-shift])) < limit


def test_no_row_or_column_or_stretch_of_steps_is_favoured():
    masks = torch.stack([kept(key) for key in KEYS.flatten()]).double()  # (150, 64, 128)
    for dims in ((0, 1), (0, 2), (1, 2)):
        shares = masks.mean(dims)
        error = 0.5 / (masks.numel() / len(shares)) ** 0.5
        assert (shares - 0.5).abs().max().item() < 5 * error


def test_the_spectrum_of_a_mask_is_flat():
    power = torch.stack([torch.fft.rfft2(kept(key).double() - 0.5).abs() ** 2 for key in KEYS[:40, 0]]).mean(0)
    power = power.flatten()[1:] / (0.25 * 8192)
    # A visible pattern is a line far above 1, the height of noise; 40 masks' mean scatters by 0.16 (0.22 where real).
    assert power.max().item() < 2.5 and power.min().item() > 0.3


def test_lanes_drop_what_each_would_alone():
    layer, rates = Dropout([0.0, 0.3, 0.5]), [0.0, 0.3, 0.5]
    layer.key = KEYS[0]
    x = torch.rand(3, 10, 7) + 0.1
    together = layer(x)
    for lane, rate in enumerate(rates):
        alone = Dropout(rate)
        alone.key = KEYS[0, lane]
        assert torch.equal(together[lane], alone(x[lane]))


def test_a_smaller_last_batch_drops_the_same_units():
    layer = Dropout(0.5)
    whole = kept(KEYS[0, 0], layer=layer)
    assert torch.equal(kept(KEYS[0, 0], rows=5, layer=layer), whole[:5])
    assert torch.equal(kept(KEYS[0, 0], rows=5), whole[:5])


def test_evaluation_and_a_rate_of_0_change_nothing():
    x = torch.rand(4, 3)
    layer = Dropout(0.5)
    layer.key = KEYS[0, 0]
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x and Dropout([0.0, 0])(x) is x


def test_without_a_key_torchs_generator_decides():
    torch.manual_seed(1)
    first = Dropout(0.5)(torch.ones(100))
    torch.manual_seed(1)
    assert torch.equal(first, Dropout(0.5)(torch.ones(100)))
    assert 20 < (first == 0).sum() < 80


def test_gradients_reach_kept_units_only():
    layer = Dropout(0.5)
    layer.key = KEYS[0, 0]
    x = torch.ones(8, 16, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_no_two_steps_or_layers_share_a_key():
    keys = torch.from_numpy(dropout_keys(7, 400, MOST_LAYERS)).flatten()
    assert len(keys.unique()) == len(keys)
