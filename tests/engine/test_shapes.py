"""The shapes in the annotations are those of the arrays: the engine runs with every annotation checked."""

import subprocess
import sys

PROGRAM = """
from jaxtyping import TypeCheckError, install_import_hook
with install_import_hook("anchorlab.engine.sequences", "beartype.beartype"):
    from anchorlab.engine.sequences import Rows, SequenceMember, SequenceProblem, _cross_entropy
import torch
from anchorlab import models
tokens = torch.arange(40).reshape(10, 4) % 7
rows = Rows(tokens, tokens[:, 1], torch.zeros(10, dtype=torch.long), ("only",))
for name in ("post_ln", "lstm"):
    model = models.build(name, 7, 4, layers=1, heads=1, width=8)
    problem = SequenceProblem(model, [SequenceMember({"train": rows}, lambda m: None, s) for s in (0, 1)], batch_size=3)
    members = [problem.initialize(0), problem.initialize(1)]
    stacked = {name: torch.stack([m[name] for m in members]) for name in members[0]}
    problem.loss(stacked, problem.batch([0, 1], 0))
    problem.evaluate(stacked, [0, 1])
for wrong in (lambda: Rows(tokens, tokens[:9, 1], torch.zeros(10, dtype=torch.long), ()),
              lambda: _cross_entropy(torch.zeros(2, 3, 7), torch.zeros(3, 2, dtype=torch.long))):
    try:
        wrong()
    except TypeCheckError:
        print("refused")
"""


def test_annotated_shapes_hold_and_wrong_ones_are_noticed() -> None:
    result = subprocess.run([sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["refused", "refused"]
