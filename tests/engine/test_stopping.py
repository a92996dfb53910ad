import pytest

from anchorlab.engine import Fitted, Plateau, StoppingRule, TargetAccuracy
from anchorlab.engine.store import MetricRow


def history(*evaluations: dict[str, float]) -> list[MetricRow]:
    """Evaluations at steps 0, 10, …; keys are `split metric`, groups follow a slash."""
    rows = []
    for index, values in enumerate(evaluations):
        for key, value in values.items():
            name, _, group = key.partition("/")
            split, metric = name.split()
            rows.append(MetricRow(10 * index, split, group, metric, value))
    return rows


@pytest.mark.parametrize(
    ("rule", "evaluations", "stops"),
    [
        (Fitted(), [], False),
        (Fitted(), [{"train accuracy": 0.999}], False),
        (Fitted(), [{"train accuracy": 1.0, "test accuracy": 0.2}], True),
        (Fitted(), [{"train accuracy/a,b": 1.0, "train accuracy": 0.9}], False),
        (Fitted(), [{"train accuracy": 1.0}, {"train accuracy": 0.99}], False),
        (TargetAccuracy({"test": 0.9, "ood": 0.5}), [{"test accuracy": 0.9, "ood accuracy": 0.5}], True),
        (TargetAccuracy({"test": 0.9, "ood": 0.5}), [{"test accuracy": 1.0, "ood accuracy": 0.4}], False),
        (TargetAccuracy({"ood": 0.5}), [{"test accuracy": 1.0}], False),
        (TargetAccuracy({"test": 0.9}), [{"test accuracy": 0.95}, {"test accuracy": 0.8}], False),
        (Plateau(2), [{"train loss": 1.0}, {"train loss": 1.0}], False),
        (Plateau(2), [{"train loss": 1.0}, {"train loss": 1.0}, {"train loss": 0.995}], True),
        (Plateau(2), [{"train loss": 1.0}, {"train loss": 1.0}, {"train loss": 0.98}], False),
        (Plateau(1), [{"train loss": 0.5}, {"train loss": 0.4}, {"train loss": 0.7}], True),
        (Plateau(1), [{"train loss": 0.5, "test loss": 9.0}, {"train loss": 0.4, "test loss": 9.0}], False),
    ],
)
def test_rules(rule: StoppingRule, evaluations: list[dict[str, float]], stops: bool) -> None:
    assert (rule.reason(history(*evaluations)) is not None) == stops


def test_reasons_say_what_was_reached() -> None:
    assert TargetAccuracy({"ood": 0.5}).reason(history({"ood accuracy": 0.6})) == "accuracy reached ood 0.5"
    assert "did not fall by 1 % in 1 evaluations" in str(
        Plateau(1).reason(history({"train loss": 1}, {"train loss": 1}))
    )
