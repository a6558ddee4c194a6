"""Calls of the command line with bad targets, workloads, code and runs, and what each must say."""

from collections.abc import Sequence

from bad_calls import DEPLOY, FP32, QUICK, SHAPE

# what is typed, the exit code, and parts of what is said
CASES: dict[str, tuple[Sequence[str], int, Sequence[str]]] = {
    # --- targets
    "an unknown target": (
        (*DEPLOY, "-t", "hots"),
        2,
        ["target 'hots' is not known", "do: Did you mean 'host'?"],
    ),
    "no target": ((*DEPLOY, "-t", ","), 2, ["no target is named", "do: Known: cuda-ort, "]),
    "a target file that is not there": (
        (*DEPLOY, "-t", "wrong-typ.toml"),
        2,
        ["target file wrong-typ.toml does not exist", "do: Did you mean 'wrong-type.toml'?"],
    ),
    "a wrong type in a target": (
        (*DEPLOY, "-t", "wrong-type.toml"),
        2,
        ["target wrong-type.toml: Expected `int`, got `str` - at `$.opset`"],
    ),
    "an unknown key in a target": (
        (*DEPLOY, "-t", "unknown-key.toml"),
        2,
        ["unknown field `compilr`", "do: Did you mean 'compiler'?"],
    ),
    "a target without a board": (
        (*DEPLOY, "-t", "no-board.toml"),
        2,
        ["target no-board.toml: Object missing required field `board`"],
    ),
    "an unknown transport": (
        (*DEPLOY, "-t", "far.toml"),
        2,
        [
            "target far.toml: transport 'telepathy' is not known",
            "do: Known: local, qemu, serial, ssh.",
        ],
    ),
    "an unknown compiler": (
        (*FP32, "-t", "no-compiler.toml"),
        2,
        ["compiler 'orrt' is not known: no compilers/orrt.py", "Did you mean 'ort'?"],
    ),
    "a target of opset 99": (
        (*FP32, "-t", "opset99.toml"),
        2,
        ["opset 99 is asked for; opsets up to "],
    ),
    "an unknown run option": (
        (*FP32, "-t", "option.toml"),
        2,
        ["option 'thread' is not known", "Did you mean 'threads'?"],
    ),
    # --- workloads
    "an unknown workload": (
        ("export", "digit"),
        2,
        ["'digit' is neither a built-in workload", "do: Did you mean 'digits'?"],
    ),
    "a workload that is not there": (
        ("export", "job-kye.toml"),
        2,
        ["workload file job-kye.toml does not exist", "do: Did you mean 'job-key.toml'?"],
    ),
    "an unknown key": (
        ("export", "job-key.toml"),
        2,
        ["unknown field `cont` - at `$.calibration`", "do: Did you mean 'count'?"],
    ),
    "a wrong type": (
        ("export", "job-type.toml"),
        2,
        ["workload job-type.toml: Expected `int`, got `str` - at `$.verify_samples`"],
    ),
    "an unknown layout": (
        ("export", "job-layout.toml"),
        2,
        ["Invalid enum value 'tfrecord' - at `$.calibration.layout`"],
    ),
    "no TOML": (
        ("export", "job-syntax.toml"),
        2,
        ["workload file job-syntax.toml is not TOML", "do: Mend the line named."],
    ),
    "nothing in it": (
        ("export", "job-empty.toml"),
        2,
        ["workload job-empty.toml: Object missing required field `model`"],
    ),
    "another dtype": (
        ("export", "job-dtype.toml"),
        2,
        ["input 'x' is declared uint8; the model's is float32"],
    ),
    "another input": (
        ("export", "job-input.toml"),
        2,
        ["the workload declares inputs image; the model's are x"],
    ),
    "an unknown quantize option": (
        ("deploy", "job-quantize.toml", "-p", "int8", *QUICK),
        2,
        ["'per_chanel' is not known", "Did you mean 'per_channel'?"],
    ),
    # --- code and weights
    "a module that raises": (
        ("export", "raises.py:build", *SHAPE),
        2,
        ["model 'raises.py:build': importing ", "raised RuntimeError: half way there"],
    ),
    "an import that fails": (
        ("export", "imports.py:build", *SHAPE),
        2,
        ["raised ModuleNotFoundError: No module named 'no_such_package'"],
    ),
    "a syntax error": (("export", "syntax.py:build", *SHAPE), 2, ["raised SyntaxError: "]),
    "no such file": (
        ("export", "cod.py:build", *SHAPE),
        2,
        ["data 'cod.py' not found: looked at "],
    ),
    "no such module": (
        ("export", "no_such.place:build", *SHAPE),
        2,
        ["model 'no_such.place:build': there is no module 'no_such.place'"],
    ),
    "no such callable": (
        ("export", "code.py:biuld", *SHAPE),
        2,
        ["has no 'biuld'", "do: Did you mean 'build'?"],
    ),
    "a callable that raises": (
        ("export", "code.py:raising", *SHAPE),
        2,
        ["code.py:raising: calling it raised ValueError: no such depth"],
    ),
    "no module": (
        ("export", "code.py:number", *SHAPE),
        2,
        ["code.py:number answered int, expected a torch.nn.Module"],
    ),
    "a shape the module does not take": (
        ("export", "code.py:build", "--shape", "1,8,8,3"),
        2,
        ["the model raised RuntimeError on inputs input (1, 8, 8, 3): ", "layout of the inputs"],
    ),
    "no shape for a module": (
        ("export", "job-shapeless.toml"),
        2,
        ["declares no inputs, and a PyTorch model does not tell", "--shape 1,3,224,224"],
    ),
    "a branch on values": (
        ("export", "code.py:Branch", *SHAPE),
        2,
        [
            "no exporter gives a sound model: torchscript: tracing is not safe for this model",
            "do: Look for Python branches on values",
        ],
    ),
    "weights beside a model's own": (
        ("export", "job-double.toml"),
        2,
        ["weights 'evil.pt' are given, but 'net.onnx' holds its own"],
    ),
    "weights that are not there": (
        ("export", "job-gone.toml"),
        2,
        ["data 'w.pt' not found: looked at "],
    ),
    "weights that do not fit": (
        ("export", "job-unfit.toml"),
        2,
        ["do not fit code.py:build: Error(s) in loading state_dict for Conv2d"],
    ),
    "weights that are a pickled object": (
        ("export", "job-evil.toml"),
        2,
        ["evil.pt do not load as data: they hold more than tensors", "pickled objects are refused"],
    ),
    # --- runs
    "no run yet": (("report",), 2, ["there is no run in ", "do: Make one: edgedeploy deploy"]),
    "an unknown run": (("report", "20260101-digits"), 2, ["run '20260101-digits' is not in "]),
    "an unknown run to go on with": (
        ("deploy", "--resume", "20260101-digits"),
        2,
        ["run '20260101-digits' is not in "],
    ),
    "unknown runs to compare": (("compare", "one", "two"), 2, ["run 'one' is not in "]),
    "an unknown gate": (
        ("compare", "one", "two", "--fail-if", "quicker"),
        2,
        ["quicker", "slower"],
    ),
}
