"""One library function per command. Everything here can be called from Python; the command line only parses."""

from interalign.api.exports import export, export_shortfalls, why_empty
from interalign.api.look import graph, open_run, view, view_export
from interalign.api.measure import (
    audit,
    audit_json,
    calibrate,
    calibration_json,
    compare,
    fidelity,
    missed_gates,
    power,
    print_report,
    report,
    report_json,
    simulator_swap,
    write_calibration_html,
    write_report_html,
    write_report_table,
)
from interalign.api.people_labels import export_labels, import_labels, plan_labels
from interalign.api.pools import (
    calls_of_pool,
    personas_by_model,
    personas_estimate,
    personas_filter,
    personas_generate,
    personas_import,
    personas_split,
    personas_stats,
)
from interalign.api.resolve import run_async
from interalign.api.runs import about_cases, estimate, evaluate, import_conversations, judge, merge, simulate
from interalign.api.seats import check_role, probe_role, roles
from interalign.api.tracing import trace
from interalign.api.training import train

__all__ = [
    "about_cases",
    "audit",
    "audit_json",
    "calibrate",
    "calibration_json",
    "calls_of_pool",
    "check_role",
    "compare",
    "estimate",
    "evaluate",
    "export",
    "export_labels",
    "export_shortfalls",
    "fidelity",
    "graph",
    "import_conversations",
    "import_labels",
    "judge",
    "merge",
    "missed_gates",
    "open_run",
    "personas_by_model",
    "personas_estimate",
    "personas_filter",
    "personas_generate",
    "personas_import",
    "personas_split",
    "personas_stats",
    "plan_labels",
    "power",
    "print_report",
    "probe_role",
    "report",
    "report_json",
    "roles",
    "run_async",
    "simulate",
    "simulator_swap",
    "trace",
    "train",
    "view",
    "view_export",
    "why_empty",
    "write_calibration_html",
    "write_report_html",
    "write_report_table",
]
