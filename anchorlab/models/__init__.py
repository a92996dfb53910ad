"""Models of the anchor tasks, their initialization, and the exact last-position short-cut.

Importing this package registers its classes with `AutoConfig` and `AutoModelForCausalLM`.
"""

from .initialization import InitializationRow, initialization_table, initialize, rules, takes_rate
from .last_position import Forward, last_position_logits
from .module_map import COMPONENTS
from .post_ln import PostLNConfig, PostLNForCausalLM
from .registry import ARCHITECTURES, build, check_options, load, names, options, save

__all__ = [
    "ARCHITECTURES",
    "COMPONENTS",
    "Forward",
    "InitializationRow",
    "PostLNConfig",
    "PostLNForCausalLM",
    "build",
    "check_options",
    "initialization_table",
    "initialize",
    "last_position_logits",
    "load",
    "names",
    "options",
    "rules",
    "save",
    "takes_rate",
]
