"""What is raised behind the runner; names as in the package, or as seen in public logs.

Some stand elsewhere in the real one: BadInputsShape in hailo_model_optimization, HailoNNException
in hailo_sdk_common. Programs know them by name.
"""


class SDKBackendException(Exception):
    """Root of these."""


class BackendRuntimeException(SDKBackendException):
    """A step that cannot be done with the model as it stands."""


class BackendScriptParserException(SDKBackendException):
    """A model script that does not follow the grammar."""


class AllocatorScriptParserException(SDKBackendException):
    """A command of a model script with a wrong argument."""


class HailoNNException(SDKBackendException):
    """A layer that the network does not have."""


class InvalidArgumentsException(SDKBackendException):
    """An argument of a call that cannot be."""


class InvalidStateException(SDKBackendException):
    """A call that the state does not allow."""


class HailoArchiveException(SDKBackendException):
    """A file that is no HAR."""


class BadInputsShape(SDKBackendException):
    """Data whose shape is not that of an input layer."""

    def __init__(self, layer, expected, found):
        text = f"Data shape {tuple(found)} for layer {layer} doesn't match network's input shape"
        super().__init__(f"{text} {tuple(expected)}")


class AccelerasValueError(SDKBackendException):
    """A value that the optimization cannot take."""
