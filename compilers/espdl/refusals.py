"""What an exception out of esp-ppq means for the model: the node it was at, and what to do."""

from __future__ import annotations

import traceback

from device_graph import FloatIslands
from esp_ppq.IR import Operation, Variable

REMEDIES = {
    "LSTM": "Export it with its first state (initial_h, initial_c) as inputs of the model.",
    "GRU": "Export it with its first state (initial_h) as an input of the model.",
    "Einsum": "Write it as MatMul and Transpose.",
    "Gather": "Leave the look-up to the host: make its result the input of the model.",
    "ArgMax": "End the model before it; its largest output is found on the host.",
    "InstanceNormalization": "Train with batch normalization, which is folded into weights.",
}
REMEDY = "Rewrite it with other operators, or end the model before it and run the rest on the host."


class Refused(Exception):
    """What the compiler raises under the same class name, with its remedy."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class BadInput(Refused):
    """An option or calibration data that is wrong."""


class Unsupported(Refused):
    """The chip's library, or esp-ppq for it, cannot run the model."""


def explained(error: Exception) -> Refused | None:
    """What an exception out of esp-ppq means for the model; None where the model is not to blame.

    esp-ppq fails with whatever Python raises. Which node it was at, its frames tell.
    """
    if isinstance(error, Refused):
        return error
    if isinstance(error, FloatIslands):
        msg = f"ESP-DL would compute in float: {error}"
        return Unsupported(msg, REMEDIES.get(error.nodes[0][1], REMEDY))
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    op = node_of(error)
    if op is None or isinstance(error, (MemoryError, OSError)):
        return None
    said = f"{type(cause).__name__}: {cause}".splitlines()[0][:200]
    reason = "it has no such operator" if isinstance(cause, NotImplementedError) else said
    msg = f"esp-ppq cannot quantize node {op.name!r} ({op.type}): {reason}"
    return Unsupported(msg, REMEDIES.get(op.type, REMEDY))


def node_of(error: BaseException) -> Operation | None:
    """The node that esp-ppq was at when it failed, by the innermost frame that tells."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if "esp_ppq" not in frame.f_code.co_filename:
            continue
        for name in ("operation", "op", "variable", "var"):
            value = frame.f_locals.get(name)
            if isinstance(value, Operation):
                return value
            if isinstance(value, Variable) and value.source_op is not None:
                return value.source_op
    return None
