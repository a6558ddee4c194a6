"""Times by operator or by kernel, from PyTorch's profiler in a run of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

if TYPE_CHECKING:
    from gpu_calls import Bound
    from gpu_program import Program

Table = dict[str, Any]
Tensor = torch.Tensor
WARM_UP_RUNS = 3
MARK = "layer/"


class Marked(torch.fx.Interpreter):
    """Runs a graph's operators one after another, each between marks that name it."""

    def run_node(self, n: torch.fx.Node) -> object:
        """The value of one node."""
        if n.op != "call_function":
            return super().run_node(n)
        with record_function(MARK + n.name):
            return super().run_node(n)


def operator_times(
    program: Program, inputs: list[Tensor], count: int, *, on_card: bool
) -> list[Table]:
    """Mean seconds of each operator in `count` inferences, in the order they run.

    On a card these are the times of the kernels that an operator started, on a CPU its own.
    """
    graph = program.module.graph
    operators = {node.name: str(node.target) for node in graph.nodes if node.op == "call_function"}
    held = [program.held(value) for value in inputs]
    marked = Marked(program.module)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    for _ in range(WARM_UP_RUNS):
        marked.run(*held)
    with profile(activities=activities) as told:
        for _ in range(count):
            marked.run(*held)
        if on_card:
            torch.cuda.synchronize()
    times: dict[str, float] = {}
    for event in told.key_averages():
        if event.key.startswith(MARK) and event.device_type.name == "CPU":
            total_us = event.device_time_total if on_card else event.cpu_time_total
            times[event.key.removeprefix(MARK)] = total_us / 1e6 / count
    return [
        {"name": name, "op": operator.rpartition("::")[2], "time_s": times[name]}
        for name, operator in operators.items()
        if name in times
    ]


def kernel_times(bound: Bound, count: int) -> list[Table]:
    """Mean seconds of each kernel on the card in one inference, the longest first."""
    for _ in range(WARM_UP_RUNS):
        bound()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as told:
        for _ in range(count):
            bound()
    found = [
        {"name": event.key, "op": "kernel", "time_s": event.self_device_time_total / 1e6 / count}
        for event in told.key_averages()
        if event.device_type.name == "CUDA" and event.self_device_time_total
    ]
    return sorted(found, key=lambda row: -row["time_s"])
