"""Reports: figures of result tables, and self-contained HTML pages about runs and about a phase diagram."""

from .page import check_writable, render, write
from .phase_figures import phase_map, rate_slice
from .phase_page import write_phase_page
from .sections import Finding, findings

__all__ = ["Finding", "check_writable", "findings", "phase_map", "rate_slice", "render", "write", "write_phase_page"]
