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


def test_show_takes_rates_of_components_and_the_uniform_law():
    arguments = ["--component", "mlp=0.8", "--component", "qk=1", "--gamma", "0.5", "--distribution", "uniform"]
    shown = json.loads(run("show", "post_ln", "--json", *arguments))["initialization"]
    assert {row["component"]: row["rate"] for row in shown} == {
        **{"embedding": 0.5, "qk": 1.0, "vo": 0.5, "mlp": 0.8, "head": 0.5},
    }
    assert {row["distribution"] for row in shown} == {"uniform"}
    for row in shown:
        assert row["std"] * 3**0.5 == pytest.approx(row["fan_in"] ** -row["rate"])
    assert "gamma embedding 0.5, qk 1, vo 0.5, mlp 0.8, head 0.5" in run("show", "post_ln", *arguments)


def test_show_scaled_lecun_has_the_other_sign():
    shown = json.loads(run("show", "post_ln", "--json", "--rule", "scaled-lecun", "--gamma", "2"))["initialization"]
    assert all(row["std"] == pytest.approx(2 / row["fan_in"] ** 0.5) for row in shown)


def test_help_names_every_rule():
    text = CliRunner().invoke(app, ["show", "--help"], env={"COLUMNS": "400"}).output
    assert all(rule in text for rule in models.rules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "gpt3"], "did you mean 'gpt2'"),
        (["show", "gpt2", "--set", "depth=3"], "option of model gpt2: unknown value 'depth'"),
        (["show", "gpt2", "--set", "vocabulary_size=3"], "option of model gpt2: unknown value 'vocabulary_size'"),
        (["show", "gpt2", "--rule", "kaiming"], "rule: unknown value 'kaiming'"),
        (["show", "gpt2", "--gamma", "-1"], "at least 0, got -1"),
        (["show", "gpt2", "--rule", "pytorch", "--gamma", "0.8"], "--gamma: the rule 'pytorch' has its own law"),
        (["show", "gpt2", "--rule", "pytorch", "--component", "mlp=1"], "--component: the rule 'pytorch'"),
        (["show", "gpt2", "--rule", "pytorch", "--distribution", "uniform"], "--distribution: the rule 'pytorch'"),
        (["show", "gpt2", "--distribution", "unifrom"], "did you mean 'uniform'"),
        (["show", "gpt2", "--component", "mpl=1"], "did you mean 'mlp'"),
        (["show", "gpt2", "--component", "mlp"], "'mlp' is not NAME=RATE"),
        (["show", "gpt2", "--component", "mlp=large"], "'mlp=large' is not NAME=RATE"),
        (["show", "gpt2", "--component", "mlp=nan"], "initialization rate of mlp: must be a finite number"),
        (["show", "gpt2", "--component", "mlp=1", "--component", "mlp=2"], "given twice"),
        (["--length", "0"], "max_length"),
    ],
)
def test_wrong_values_are_input_errors(arguments, message):
    with pytest.raises(InputError) as caught:
        run(*arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
