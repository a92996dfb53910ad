"""The `models` command group: listing, sizes, standard deviations, and one-line refusals."""

import json

import pytest
from typer.testing import CliRunner

from anchorlab import models
from anchorlab.cli.models import app
from anchorlab.errors import InputError


def run(*arguments):
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_listing_names_every_model_its_options_and_its_size():
    text = run()
    for name in models.names():
        assert f"{name}: " in text
        assert all(option in text for option in models.options(name))
    assert f"{sum(p.numel() for p in models.build('lstm', 201, 20).parameters()):,} parameters" in text


def test_listing_as_json():
    listing = json.loads(run("--json", "--vocabulary", "50", "--length", "9"))
    assert [entry["name"] for entry in listing] == list(models.names())
    sizes = {entry["name"]: entry["parameters"] for entry in listing}
    assert sizes["simplified"] == (50 + 9) * 50 + 6 * 50 * 50
    assert listing[0]["options"]["layers"]["default"] == models.options("gpt2")["layers"].default


def test_show_prints_the_published_size_and_the_deviations():
    text = run("show", "post_ln", "--set", "head_width=200", "--gamma", "0.8")
    assert "2,732,201 parameters" in text
    (line,) = [line for line in text.splitlines() if line.startswith("layers.1.mlp.down_proj.weight")]
    assert f"{1200**-0.8:.3g}" in line
    assert "1200" in line


def test_show_as_json_with_another_rule():
    shown = json.loads(run("show", "gpt2", "--json", "--rule", "arxiv-2501.08537", "--set", "width=64", "--gamma", "1"))
    assert shown["rule"] == "arxiv-2501.08537"
    assert {row["part"] for row in shown["initialization"]} == {"", "q", "k", "v"}
    assert shown["initialization"][0]["std"] == pytest.approx(1 / 64)


def test_show_pytorch_default_has_no_rate():
    assert "gamma" not in run("show", "lstm", "--rule", "pytorch")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "gpt3"], "did you mean 'gpt2'"),
        (["show", "gpt2", "--set", "depth=3"], "option of model gpt2: unknown value 'depth'"),
        (["show", "gpt2", "--set", "vocabulary_size=3"], "option of model gpt2: unknown value 'vocabulary_size'"),
        (["show", "gpt2", "--rule", "kaiming"], "rule: unknown value 'kaiming'"),
        (["show", "gpt2", "--gamma", "-1"], "at least 0, got -1"),
        (["--length", "0"], "max_length"),
    ],
)
def test_wrong_values_are_input_errors(arguments, message):
    with pytest.raises(InputError) as caught:
        run(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
