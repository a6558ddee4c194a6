"""What the parser raises; names as in the package."""


class TranslatorException(Exception):
    """Root of what the parser raises."""


class MisspellNodeError(TranslatorException):
    """A start or end node that the model does not have."""


class UnsupportedModelError(TranslatorException):
    """A model as a whole that cannot be parsed."""


class UnsupportedOperationError(UnsupportedModelError):
    """An operator that is not known."""


class UnsupportedShuffleLayerError(UnsupportedModelError):
    """A Reshape or Transpose that is no layer."""


class UnexpectedNodeError(UnsupportedModelError):
    """A node that stands where it cannot be read."""


class ParsingWithRecommendationException(TranslatorException):
    """Nodes that cannot run on the device, and the end nodes to take instead."""
