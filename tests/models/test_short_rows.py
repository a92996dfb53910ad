"""Operations on short rows against autograd's own gradients of their definitions."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional

from anchorlab.models.activations import gelu_tanh
from anchorlab.models.short_rows import (
    add_mixtures,
    causal_attention,
    gather,
    inverse_deviation,
    mixtures,
    products,
    softmax,
)
from anchorlab.models.stacked import attend


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_softmax_is_torchs_also_with_hidden_scores():
    scores = normal(4, 3, 5)
    scores[0, :, 3:] = -torch.inf
    assert torch.allclose(softmax(scores), scores.softmax(-1), atol=1e-15)
    assert softmax(scores.bfloat16()).dtype == torch.float32
    assert torch.allclose(softmax(1e4 * scores), (1e4 * scores).softmax(-1))
    assert gradcheck(softmax, normal(2, 3, 5).requires_grad_())


@pytest.mark.parametrize(("left", "right"), [(3, 4), (1, 4), (3, 1)])
def test_products_and_mixtures_are_their_definitions(left, right):
    queries, rows = normal(2, left, 5).requires_grad_(), normal(2, right, 5, seed=1).requires_grad_()
    weights = normal(2, left, right, seed=2).requires_grad_()
    assert torch.allclose(products(queries, rows), torch.einsum("blw,brw->blr", queries, rows))
    assert torch.allclose(mixtures(weights, rows), torch.einsum("blr,brw->blw", weights, rows))
    assert gradcheck(products, (queries, rows))
    assert gradcheck(mixtures, (weights, rows))
    assert gradcheck(lambda base, *rest: add_mixtures(2 * base, *rest), (normal(1, 2, left, 5), weights, rows))
    base = normal(1, 2, left, 5).requires_grad_()
    assert gradcheck(lambda *given: add_mixtures(2 * given[0], *given[1:]), (base, weights, rows))


def test_products_keep_their_type_under_autocast():
    rows = normal(2, 3, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert products(rows, rows).dtype == mixtures(rows[:, :, :3], rows).dtype == torch.float32


def test_inverse_deviation_is_the_scale_of_layer_norm():
    rows = normal(3, 6)
    rows -= rows.mean(-1, keepdim=True)
    assert torch.allclose(rows * inverse_deviation(rows, 0.1), functional.layer_norm(rows, (6,), eps=0.1))
    assert gradcheck(lambda rows: inverse_deviation(rows, 0.1), rows.requires_grad_())


@pytest.mark.parametrize("width", [3, 300])
@pytest.mark.parametrize("members", [1, 2])
def test_gather_reads_each_members_own_table(members, width):
    table = normal(members, 4, width).requires_grad_()
    index = torch.tensor([[[0, 3, 3], [1, 0, 3]], [[2, 2, 2], [0, 1, 0]]])[:members]
    rows = gather(table, index, torch.float64)
    expected = torch.stack([table[member][index[member]] for member in range(members)])
    assert torch.equal(rows, expected)
    weights = normal(*rows.shape, seed=1)
    ours, theirs = (torch.autograd.grad((kind * weights).sum(), table)[0] for kind in (rows, expected))
    assert torch.allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("width", [2, 300])
def test_gradients_of_narrow_rows_add_up_in_the_tables_type(width):
    table = torch.ones(1, 2, width, requires_grad=True)
    rows = gather(table, torch.zeros(1, 3000, dtype=torch.long), torch.bfloat16)
    assert rows.dtype == torch.bfloat16
    rows.sum().backward()
    assert torch.equal(table.grad[0, 0], torch.full((width,), 3000.0))


@pytest.mark.parametrize("queries", [1, 3, 4])
def test_causal_attention_is_that_of_the_last_positions(queries):
    query, key = normal(5, 4, 6), normal(5, 4, 6, seed=1)
    full = functional.scaled_dot_product_attention(query, key, torch.eye(4).double().expand(5, 4, 4), is_causal=True)
    assert torch.allclose(causal_attention(query[:, -queries:], key), full[:, -queries:], atol=1e-12)


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_in_bfloat16_is_the_fused_kernels(heads):
    rows = [normal(2, 3, 5, 8, seed=seed) for seed in range(3)]
    exact = attend(*rows, heads)
    assert (attend(*(part.bfloat16() for part in rows), heads) - exact).abs().max() < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_gelu_and_its_gradient_are_those_of_the_tanh_form(dtype):
    hidden = (4 * normal(70, 2000, dtype=dtype)).mT.requires_grad_()  # more than one chunk, not contiguous
    exact = hidden.detach().double().requires_grad_()
    tolerance = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 0.04}[dtype]
    value, expected = gelu_tanh(hidden), functional.gelu(exact, approximate="tanh")
    assert torch.allclose(value.double(), expected, atol=tolerance)
    value.sum().backward()
    expected.sum().backward()
    assert torch.allclose(hidden.grad.double(), exact.grad, atol=tolerance)
    with torch.no_grad():
        assert torch.equal(gelu_tanh(hidden), value)


def test_gelu_says_that_it_has_no_second_derivative_in_float32():
    hidden = normal(3, dtype=torch.float32).requires_grad_()
    (slope,) = torch.autograd.grad(gelu_tanh(hidden).square().sum(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
