"""Calls of the command line with bad models, options and data, and what each must say."""

from collections.abc import Sequence

QUICK = ("--runs", "5", "--duration", "0.01")
SHAPE = ("--shape", "1,3,8,8")
DEPLOY = ("deploy", "net.onnx", *QUICK)
FP32 = (*DEPLOY, "-p", "fp32")
INT8 = (*DEPLOY, "-p", "int8")

# what is typed, the exit code, and parts of what is said
CASES: dict[str, tuple[Sequence[str], int, Sequence[str]]] = {
    # --- model files
    "missing": (
        ("export", "nett.onnx"),
        2,
        ["error: model nett.onnx does not exist", "do: Did you mean 'net.onnx'?"],
    ),
    "a folder": (
        ("export", "folder.onnx"),
        2,
        ["model folder.onnx is a folder, not a file", "do: Name the file itself."],
    ),
    "empty": (
        ("export", "empty.onnx"),
        2,
        ["model empty.onnx is empty (0 bytes)", "do: Export or copy it again."],
    ),
    "truncated": (
        ("export", "cut.onnx"),
        2,
        ["cut.onnx is not ONNX, or is truncated (", "do: Export or copy it again."],
    ),
    "no ONNX": (("export", "page.onnx"), 2, ["page.onnx is not ONNX, or is truncated (26 bytes)"]),
    "another suffix": (
        ("export", "net.tflite"),
        2,
        ["'net.tflite' is neither a built-in workload nor a .toml file nor a model"],
    ),
    "a constant": (
        ("export", "constant.onnx"),
        2,
        ["the model has no input: it is a constant", "do: Export with the input as an argument"],
    ),
    "a dead output": (
        ("export", "dead.onnx"),
        2,
        ["output 'y' depends on no input: the export baked in a constant"],
    ),
    "a model of opset 99": (
        ("export", "future.onnx"),
        4,
        ["has opset 99; opsets up to ", "do: Export it again with opset_version=18."],
    ),
    "NaN weights": (
        ("export", "nan.onnx"),
        2,
        ["weight 'w1' holds NaN", "do: The checkpoint is broken, or training diverged."],
    ),
    "an unknown operator": (
        ("export", "unknown-operator.onnx"),
        2,
        ["the model is not valid ONNX (opset 18): ", "Frobnicate"],
    ),
    "text inputs": (
        ("export", "text.onnx"),
        2,
        ["'x' is text or a sequence: tensors of numbers are needed"],
    ),
    "symbolic sizes": (
        ("export", "free.onnx"),
        2,
        ["input 'x' has a symbolic dimension: (n, 3, h, w)", "do: Give it: --shape x=N,3,N,N"],
    ),
    "cut TorchScript": (
        ("export", "cut.pt", *SHAPE),
        2,
        ["cut.pt is not TorchScript, or is truncated: "],
    ),
    "a cut program": (
        ("export", "cut.pt2"),
        2,
        ["cut.pt2 is not an exported program, or is truncated: "],
    ),
    "a pickled object as model": (
        ("export", "evil.pt", *SHAPE),
        2,
        [
            "evil.pt holds a state_dict or a pickled module, not TorchScript",
            "do: For a state_dict name its architecture: [model] source = 'file.py:build'",
        ],
    ),
    # --- options
    "opset 99": (
        ("export", "net.onnx", "--opset", "99"),
        2,
        ["opset 99 is asked for; opsets up to "],
    ),
    "opset 0": (("export", "net.onnx", "--opset", "0"), 2, ["Invalid value for '--opset'"]),
    "another shape": (
        ("export", "net.onnx", "--shape", "x=1,3,9,9"),
        2,
        ["input 'x' of the model is (1, 3, 8, 8), the shape asked for (1, 3, 9, 9)"],
    ),
    "another layout": (
        ("export", "net.onnx", "--shape", "1,8,8,3"),
        2,
        ["do: The layout differs (NCHW or NHWC): give the shape in the model's own order."],
    ),
    "a shape for nobody": (
        ("export", "net.onnx", "--shape", "image=1,3,8,8"),
        2,
        ["the workload declares inputs image; the model's are x"],
    ),
    "no shape": (
        ("export", "net.onnx", "--shape", "1x3x8x8"),
        2,
        ["--shape '1x3x8x8' is not a shape", "do: Write name=1,3,224,224 with whole numbers"],
    ),
    "no mean": (
        ("export", "net.onnx", "--mean", "half"),
        2,
        ["--mean 'half' is not numbers", "do: Write --mean 0.485,0.456,0.406, one a channel."],
    ),
    "too many means": (
        ("export", "net.onnx", "--mean", "1,2"),
        2,
        ["input 'x': mean has 2 values for 3 channels", "do: Give 1 or 3."],
    ),
    "std 0": (("export", "net.onnx", "--std", "0"), 2, ["input 'x': std contains 0"]),
    "fp64": (
        (*DEPLOY, "-p", "fp64"),
        4,
        ["target host has no precision 'fp64'", "It has: fp32, int8."],
    ),
    "no samples": (("export", "net.onnx", "--samples", "0"), 2, ["Invalid value for '--samples'"]),
    "no threads": ((*FP32, "--threads", "0"), 2, ["Invalid value for '--threads'"]),
    "no runs": (("deploy", "net.onnx", "--runs", "0"), 2, ["Invalid value for '--runs'"]),
    "runs in words": (
        ("bench", "net.onnx", "--runs", "ten"),
        2,
        ["Invalid value for '--runs': Input should be a valid integer"],
    ),
    "no time": (
        (*FP32, "--timeout", "0.1"),
        1,
        ["export gave no answer to export_model within 0.1 s", "do: Raise --timeout"],
    ),
    "a metric without data": (
        (*FP32, "--metric", "top5"),
        2,
        ["--metric top5 judges an evaluation set, and workload 'net' has none"],
    ),
    "an unknown option": (("export", "net.onnx", "--sahpe", "1"), 2, ["No such option: --sahpe"]),
    "an unknown verb": (("depoly", "net.onnx"), 2, ["No such command 'depoly'"]),
    "no workload": (("export",), 2, ["Missing argument 'WORKLOAD'"]),
    "nothing to deploy": (("deploy",), 2, ["deploy takes a workload or --resume, one of the two"]),
    "too much to deploy": (
        ("deploy", "net.onnx", "--resume", "last"),
        2,
        ["deploy takes a workload or --resume, one of the two"],
    ),
    # --- data
    "NHWC data for an NCHW model": (
        ("export", "net.onnx", "--calibration", "nhwc.npz"),
        2,
        [
            "nhwc.npz[0]: input 'x' found shape (8, 8, 3), expected (3, 8, 8)",
            "do: It fits after a NHWC to NCHW transpose: array.transpose(2, 0, 1) a sample.",
        ],
    ),
    "data of another dtype": (
        ("export", "net.onnx", "--calibration", "double.npz"),
        2,
        ["input 'x' found dtype float64, expected float32", "do: Convert it: array.astype("],
    ),
    "an empty data set": (
        ("export", "net.onnx", "--calibration", "none.npz"),
        2,
        ["none.npz is empty: 0 samples"],
    ),
    "NaN in the data": (
        ("export", "net.onnx", "--calibration", "nan.npz"),
        2,
        ["nan.npz[0]: input 'x' holds NaN in 192 of 192 values"],
    ),
    "a cut .npz": (
        ("export", "net.onnx", "--calibration", "cut.npz"),
        2,
        ["cut.npz is not a sound .npz file"],
    ),
    "a folder without images": (
        ("export", "net.onnx", "--calibration", "notes"),
        2,
        ["notes holds no image: 1 files, none ending in .jpg"],
    ),
    "a folder that is not there": (
        ("export", "net.onnx", "--calibration", "imges/"),
        2,
        ["data 'imges/' not found: looked at "],
    ),
    "a damaged image": (
        ("export", "net.onnx", "--calibration", "broken"),
        2,
        ["broken/1.png is unreadable or truncated"],
    ),
    "images for two channels": (
        ("export", "two-channels.onnx", "--calibration", "broken"),
        2,
        ["input 'x' has 2 channels as NCHW: a rgb picture has 1 or 3"],
    ),
    "a file that is no data": (
        ("export", "net.onnx", "--calibration", "page.onnx"),
        2,
        ["data 'page.onnx' is neither a folder, a .zip, an .npz nor module:function"],
    ),
    "an empty class": (
        (*FP32, "--evaluation", "classes"),
        2,
        ["class folder cat in ", "labels of the classes after it depend on it"],
    ),
    "too few labels": (
        (*FP32, "--evaluation", "mislabelled.npz"),
        2,
        ["mislabelled.npz is mislabelled: 2 labels in 'labels' for 4 samples"],
    ),
    "a label that is no class": (
        (*FP32, "--evaluation", "class9.npz"),
        2,
        ["mislabelled: class 9 found, expected 0 to 4"],
    ),
    "no labels": (
        (*FP32, "--evaluation", "unlabelled.npz"),
        2,
        ["unlabelled.npz has no label, and an evaluation needs one a sample"],
    ),
    "an unknown metric": (
        (*FP32, "--evaluation", "class9.npz", "--metric", "top2"),
        2,
        ["there is no metric 'top2'", "Did you mean 'top"],
    ),
    "int8 without calibration": (
        INT8,
        2,
        ["workload 'net' has no calibration data, which int8 needs", "--calibration images/"],
    ),
}
