"""Models of the anchor tasks, their initialization, and the exact last-position short-cut.

Importing this package registers its classes with `AutoConfig` and `AutoModelForCausalLM`.
"""

from .all_positions import ForwardEverywhere, all_position_logits
from .initialization import OWN, InitializationRow, initialization_table, initialize, rules, takes_rate
from .last_position import Forward, last_position_logits
from .module_map import COMPONENTS
from .post_ln import PostLNConfig, PostLNForCausalLM
from .registry import ARCHITECTURES, build, check_options, kinds, load, names, options, save, settled_options

__all__ = [
    "ARCHITECTURES",
    "COMPONENTS",
    "OWN",
    "Forward",
    "ForwardEverywhere",
    "InitializationRow",
    "PostLNConfig",
    "PostLNForCausalLM",
    "all_position_logits",
    "build",
    "check_options",
    "initialization_table",
    "initialize",
    "kinds",
    "last_position_logits",
    "load",
    "names",
    "options",
    "rules",
    "save",
    "settled_options",
    "takes_rate",
]
