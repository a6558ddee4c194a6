"""The runner: one model on its way from ONNX to a HEF, and the emulators of its states."""

import contextlib
import functools
import json
import re
import time
from pathlib import Path

import onnx

from hailo_sdk_client import log
from hailo_sdk_client.exposed_definitions import (
    CalibrationDataType,
    InferenceContext,
    InferenceDataType,
    States,
)
from hailo_sdk_client.model_translator import translator
from hailo_sdk_client.model_translator.exceptions import TranslatorException
from hailo_sdk_client.model_translator.network import HailoNN, Network
from hailo_sdk_client.sdk_backend import archive, backend, datasets
from hailo_sdk_client.sdk_backend.script_parser import model_script_parser
from hailo_sdk_client.sdk_backend.sdk_backend_exceptions import (
    BackendRuntimeException,
    BackendScriptParserException,
    InvalidArgumentsException,
    InvalidStateException,
)

ARCHITECTURES = ("hailo8", "hailo8l", "hailo8r")
PARSED = (States.HAILO_MODEL, States.QUANTIZED_MODEL, States.COMPILED_MODEL)
OPTIMIZED = (States.QUANTIZED_MODEL, States.COMPILED_MODEL)


def allowed(*states):
    """Refuse a call in any other state."""

    def wrap(function):
        @functools.wraps(function)
        def call(self, *args, **kwargs):
            if self.state not in states:
                text = f"The execution of {function.__name__} is not available under the state"
                msg = f"{text}: {self.state.value}"
                raise InvalidStateException(msg)
            return function(self, *args, **kwargs)

        return call

    return wrap


class ClientRunner:
    """One model. `hw_arch` is the chip, `har` an archive to go on from."""

    def __init__(self, hw_arch=None, har=None):
        if hw_arch is not None and hw_arch not in ARCHITECTURES:
            message = f"hw_arch is {hw_arch!r}, expected one of {', '.join(ARCHITECTURES)}"
            raise InvalidArgumentsException(message)
        self._hw_arch = hw_arch
        self._state = States.UNINITIALIZED
        self._network = None
        self._script_text = ""
        self._script = []
        self._float_done = False
        self._results = None
        self._noise = None
        self._open = []
        self.hef = None
        if har is not None:
            self.load_har(har)

    @property
    def state(self):
        return self._state

    @property
    def hw_arch(self):
        return self._hw_arch or "hailo8"

    @property
    def model_name(self):
        return self._network.name if self._network else None

    @property
    def model_script(self):
        return self._script_text

    @allowed(States.UNINITIALIZED)
    def translate_onnx_model(
        self,
        model=None,
        net_name="model",
        *,
        start_node_names=None,
        end_node_names=None,
        net_input_shapes=None,
        disable_onnx_simplifier=False,
    ):
        """Parse an ONNX file or model; answers its network as a dict and its weights by name."""
        name = re.sub(r"[^\w-]", "_", net_name)
        begin = time.perf_counter()
        log.info(f"Translation started on ONNX model {name}")
        loaded = onnx.load(str(model)) if isinstance(model, str | Path) else model
        if not isinstance(loaded, onnx.ModelProto):
            message = f"model is {type(model).__name__}, expected a path or an ONNX model"
            raise InvalidArgumentsException(message)
        took = log.clock(time.perf_counter() - begin)
        log.info(f"Restored ONNX model {name} (completion time: {took})")
        try:
            network = translator.translate(
                loaded, name, start_node_names, end_node_names, net_input_shapes
            )
        except TranslatorException:
            if not disable_onnx_simplifier:
                took = log.clock(time.perf_counter() - begin)
                text = "Simplified ONNX model for a parsing retry attempt (completion time:"
                log.info(f"{text} {took})")
            raise
        starts, ends = translator.mapped(network)
        log.info(f"Start nodes mapped from original model: {starts}.")
        log.info(f"End nodes mapped from original model: {ends}.")
        took = log.clock(time.perf_counter() - begin)
        log.info(f"Translation completed on ONNX model {name} (completion time: {took})")
        self._network, self._state = network, States.HAILO_MODEL
        return self.get_hn(), self.get_params()

    @allowed(*PARSED)
    def save_har(self, har_path, compressed=False, save_original_model=False):
        """Write the model and its state."""
        record = {
            "state": self.state.value,
            "hw_arch": self.hw_arch,
            "network": self._network.as_dict(),
            "script": self._script_text,
            "float_done": self._float_done,
            "noise": self._noise,
        }
        files = {"har.json": record, "body.onnx": self._network.body}
        if self._results is not None:
            files |= self._results.files()
        Path(har_path).write_bytes(archive.packed(files))
        log.info(f"Saved HAR to: {Path(har_path).resolve()}")

    @allowed(States.UNINITIALIZED)
    def load_har(self, har):
        """Go on from an archive; the chip is the archive's unless one was named."""
        files = archive.unpacked(har)
        record = files["har.json"]
        self._network = Network.from_dict(record["network"], files["body.onnx"])
        self._hw_arch = self._hw_arch or record["hw_arch"]
        self._script_text = record["script"]
        self._script = model_script_parser.parse(self._script_text, self._network)
        self._float_done = record["float_done"]
        self._noise = record["noise"]
        self._state = States(record["state"])
        self._results = backend.Results.of(files)

    @allowed(*PARSED)
    def load_model_script(self, model_script=None, append=False):
        """Take the commands of a text, or of the file of this name."""
        text, origin = str(model_script), "string"
        if "\n" not in text and "(" not in text:
            if not Path(text).is_file():
                message = f"Model script file {text} was not found"
                raise BackendScriptParserException(message)
            text, origin = Path(text).read_text(encoding="utf-8"), text
        log.info(f"Loading model script commands to {self._network.name} from {origin}")
        whole = "\n".join([self._script_text.rstrip("\n"), text]) if append else text
        self._script = model_script_parser.parse(whole, self._network)
        self._script_text = whole

    @allowed(States.HAILO_MODEL)
    def optimize_full_precision(self, calib_data=None, data_type=CalibrationDataType.auto):
        """Put into the float model what the script adds."""
        if calib_data is not None:
            datasets.read(self._network, calib_data)
        backend.check_script(self._script)
        log.info("Starting Full Precision Optimization")
        log.info("Full Precision Optimization is done")
        self._float_done = True

    @allowed(States.HAILO_MODEL)
    def optimize(self, calib_data, data_type=CalibrationDataType.auto, *, work_dir=None):
        """Quantize, with raw data where the script normalizes."""
        data = datasets.read(self._network, calib_data)
        if not self._float_done:
            backend.check_script(self._script)
        self._results = backend.optimize(self._network, self._script, data)
        self._float_done = True
        self._state = States.QUANTIZED_MODEL

    @allowed(*PARSED)
    def compile(self):
        """The bytes of the HEF."""
        if self._results is None:
            text = "Model requires quantized weights in order to run on HW, but none were given."
            log.error(f"Failed to compile the model: {text} Did you forget to quantize?")
            message = f"{text} Did you forget to quantize?"
            raise BackendRuntimeException(message)
        made = backend.compile_network(self._network, self._script, self._results, self.hw_arch)
        self._state = States.COMPILED_MODEL
        return made

    @allowed(*PARSED)
    def get_hn_dict(self):
        """The network as a dict; what the script added stands in it once it is done."""
        return backend.hn(self._network, self._script if self._float_done else [])

    def get_hn(self):
        return self.get_hn_dict()

    @allowed(*PARSED)
    def get_hn_model(self):
        return HailoNN(self._network)

    @allowed(*PARSED)
    def get_params(self):
        return backend.params(self._network)

    @contextlib.contextmanager
    def infer_context(self, inference_context, device_info=None):
        """An emulator to infer in, for the time of a `with`."""
        if inference_context not in set(InferenceContext):
            message = f"{inference_context!r} is no InferenceContext"
            raise InvalidArgumentsException(message)
        needs = {
            InferenceContext.SDK_NATIVE: self.state in PARSED,
            InferenceContext.SDK_FP_OPTIMIZED: self.state in PARSED and self._float_done,
            InferenceContext.SDK_QUANTIZED: self.state in OPTIMIZED,
        }
        if inference_context not in needs:
            message = f"this stand-in has no {inference_context.name}"
            raise InvalidArgumentsException(message)
        if not needs[inference_context]:
            text = f"{inference_context.name} is not available under the state {self.state.value}"
            raise InvalidStateException(text)
        context = backend.Context(inference_context)
        self._open.append(context)
        try:
            yield context
        finally:
            self._open.remove(context)

    def infer(
        self,
        context,
        dataset,
        data_type=InferenceDataType.auto,
        *,
        data_count=None,
        batch_size=8,
    ):
        """Outputs (N, …) of an open context: one array, or a list in the order of the outputs."""
        if context not in self._open:
            message = "infer needs a context that infer_context of this runner has opened"
            raise InvalidArgumentsException(message)
        if not isinstance(batch_size, int) or batch_size < 1:
            message = f"batch_size is {batch_size!r}, expected a number of 1 or more"
            raise InvalidArgumentsException(message)
        data = datasets.read(self._network, dataset)
        data = {name: array[:data_count] for name, array in data.items()}
        outputs = context.infer(self._network, self._script, self._results, data, batch_size)
        return outputs if len(outputs) > 1 else outputs[0]

    @allowed(*PARSED)
    def profile(self, should_use_logical_layers=True, hef_filename=None):
        """A static estimate as a dict."""
        if hef_filename is not None and not Path(hef_filename).is_file():
            message = f"{hef_filename} was not found"
            raise FileNotFoundError(message)
        return backend.profile(self._network, self.hw_arch)

    @allowed(*OPTIMIZED)
    def analyze_noise(self, dataset, batch_size=2, data_count=64, analyze_mode="simple"):
        """Signal to noise by layer, kept in the archive alone."""
        if analyze_mode not in {"simple", "advanced"}:
            message = f"analyze_mode is {analyze_mode!r}, expected 'simple' or 'advanced'"
            raise InvalidArgumentsException(message)
        data = datasets.read(self._network, dataset)
        data = {name: array[:data_count] for name, array in data.items()}
        with log.step("Layer Noise Analysis"):
            found = backend.noise(self._network, self._script, self._results, data, batch_size)
        self._noise = json.loads(json.dumps(found))
