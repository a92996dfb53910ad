"""Large initial weights undo the frequency principle (section 6.1.1, figure 6.2)."""

from typing import Any

from ..chapter04.activations import LASTING, conditions, draw_nets, measure_nets, net_scale
from ..claims import Claim
from ..reproduction import Reproduction

_LARGE, _SMALL = "large weights", "small weights"


def _scale(width: int, layers: int, steps: int, seeds: int = 5, networks: int = 5) -> dict[str, Any]:
    nets = {name: {"initialization": (spread,) * (layers + 1)} for name, spread in ((_LARGE, 1.0), (_SMALL, 0.1))}
    return net_scale(nets, {"activation": "tanh", "widths": (width,) * layers, "steps": steps}, seeds, networks)


REPRODUCTIONS = (
    Reproduction(
        id="fig6.2",
        title="With large initial weights high frequencies are no later than low ones",
        source="section 6.1.1, figure 6.2",
        claim=Claim(
            text="From small weights frequencies are learned from low to high. From large ones the high "
            "frequencies are learned first or in no order, and the frequencies that the start brings are not "
            "removed by the training.",
            conditions=(*conditions(_LARGE, kept=False), *conditions(_SMALL, kept=True)),
        ),
        scales={
            "smoke": _scale(20, 2, 50, seeds=1, networks=1),
            "laptop": _scale(100, 3, 3000),
            "paper": _scale(200, 3, 20000, seeds=10),
        },
        measure=measure_nets,
        figure=draw_nets,
        notes="The text gives neither function nor net: sin x + sin 3x + sin 5x at 20 points of the period, tanh, "
        "three hidden layers of 100 units, all weights and biases with the standard deviation 1 or 0.1, Adam 1e-3. 'No "
        f"order' is read as: the highest frequency takes at most 1.5 times the steps of the lowest. {LASTING}What the "
        "start brings is seen between the samples: a test error of a tenth of the variance divides good from bad. It "
        "is that between the first and the last sample, not beyond, as it was when this was first measured.",
    ),
)
