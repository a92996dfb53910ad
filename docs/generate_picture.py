"""Draw the README's picture from the two runs of the main job.

python docs/generate_picture.py [runs/demo]
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from anchorlab import Run

COLOURS = {"test": "#0072B2", "ood": "#D55E00"}
LABELS = {"test": "ID: seen pairs in new rows", "ood": "OOD: unseen pairs"}


def draw(folder: Path) -> Figure:
    """Accuracy over steps of both members side by side."""
    figure = Figure(figsize=(9, 2.9), layout="constrained", dpi=150)
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("memorising", "reasoning"), strict=True):
        run = Run.open(folder / name)
        table = run.metrics().query("metric == 'accuracy' and group == ''")
        for split, colour in COLOURS.items():
            history = table[table.split == split]
            axes.plot(history.step, history.value, color=colour, label=LABELS[split], linewidth=2)
        gamma, decay = run.config["initialization_rate"], run.config["weight_decay"]
        axes.set_title(f"{name}: γ = {gamma:g}, λ = {decay:g}")
        axes.set_xlabel("step")
        axes.set_ylim(-0.03, 1.03)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(loc="center right", frameon=False)
    return figure


if __name__ == "__main__":
    source = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo")
    target = Path(__file__).parent / "images" / "contrast.png"
    target.parent.mkdir(exist_ok=True)
    draw(source).savefig(target)
    print(target)
