"""Options of the Hailo compiler and the script made of them: normalization, bits, own lines."""

from pathlib import Path
from typing import Any

import hailo_networks as nets
import pytest
from hailo_networks import dfc_faults, dfc_options, dfc_script
from hypothesis import given
from hypothesis import strategies as st

Table = dict[str, Any]


def entry(**changes: object) -> Table:
    """An input as the sidecar has it."""
    found: Table = {
        "name": "x",
        "layer": "net/input_layer1",
        "scale": [58.395, 57.12, 57.375],
        "offset": [123.675, 116.28, 103.53],
        "reverse_channels": False,
    }
    return found | changes


def script(options: Table, *inputs: Table, precision: str = "int8", samples: int = 1024) -> Any:
    chosen = dfc_options.checked(options, precision)
    layers = {"a16_w16": chosen["a16_w16"], "a8_w4": chosen["a8_w4"]}
    return dfc_script.generated(list(inputs) or [entry()], chosen, layers, samples=samples)


def test_normalization_is_that_of_the_vendors_own_models() -> None:
    assert dfc_script.normalization(nets.declared(), 3) == (
        [58.395, 57.12, 57.375],
        [123.675, 116.28, 103.53],
    )
    half = nets.declared(mean=[0.5], std=[0.5])
    assert dfc_script.normalization(half, 3) == ([127.5] * 3, [127.5] * 3)
    assert dfc_script.normalization(nets.declared(mean=None, std=None), 1) == ([255.0], [0.0])
    raw = nets.declared(mean=None, std=None, value_range=[0.0, 255.0])
    assert dfc_script.normalization(raw, 3) is None
    signed = nets.declared(mean=None, std=None, value_range=[-1.0, 1.0])
    assert dfc_script.normalization(signed, 3) == ([127.5] * 3, [127.5] * 3)


@given(
    low=st.floats(-200, 200),
    width=st.floats(0.05, 500),
    mean=st.floats(-3, 3),
    std=st.floats(0.05, 5),
    raw=st.integers(0, 255),
)
def test_normalization_undoes_how_data_is_prepared(
    low: float, width: float, mean: float, std: float, raw: int
) -> None:
    spec = nets.declared(value_range=[low, low + width], mean=[mean], std=[std])
    value = ((raw / 255) * width + low - mean) / std
    pair = dfc_script.normalization(spec, 1)
    scale, offset = pair if pair else ([1.0], [0.0])
    assert abs(value * scale[0] + offset[0] - raw) < 1e-3 * max(1.0, abs(offset[0]) / 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [0.2, 0.2]}, "3 channels and 2 values of std"),
        ({"std": [0.2, 0.0, 0.2]}, "cannot be undone"),
        ({"value_range": [1.0, 1.0]}, "cannot be undone"),
    ],
)
def test_a_normalization_that_cannot_be_is_refused(changes: Table, message: str) -> None:
    with pytest.raises(dfc_faults.BadInput, match=message):
        dfc_script.normalization(nets.declared(**changes), 3)


def test_the_script_of_the_defaults() -> None:
    made = script({})
    assert made.text.splitlines() == [
        "# generated from the workload and the options: optimization",
        "set_seed(seed=0)",
        "normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])",
        "model_optimization_flavor(compression_level=0, batch_size=8)",
        "model_optimization_config(calibration, batch_size=8, calibset_size=1024)",
    ]
    assert made.compile == []
    assert made.commands().splitlines() == made.text.splitlines()[1:]


def test_all_that_options_ask_for_stands_in_the_script_and_own_lines_stand_apart() -> None:
    options = {
        "optimization_level": 1,
        "compression_level": 1,
        "optimization_batch_size": 4,
        "input_color": "bgr",
        "a16_w16": ["conv1", "fc*"],
        "a8_w4": ["conv2"],
        "performance": "max",
        "fps": 60,
        "batch_size": 8,
        "optimize_for_power": True,
        "context_switch": "enabled",
        "allocator_timeout_min": 25,
        "seed": 3,
        "model_script": "# mine\npost_quantization_optimization(finetune,\n"
        "    policy=disabled)  # none\nallocator_param(enable_hw_padding=False)\n",
    }
    del options["allocator_timeout_min"]
    made = script(options, entry(reverse_channels=True), precision="mixed")
    assert made.optimize == [
        "set_seed(seed=3)",
        "normalization1 = normalization([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])",
        "input_conversion1 = input_conversion(net/input_layer1, bgr_to_rgb)",
        "model_optimization_flavor(optimization_level=1, compression_level=1, batch_size=4)",
        "model_optimization_config(calibration, batch_size=4, calibset_size=1024)",
        "quantization_param({conv1, fc*}, precision_mode=a16_w16)",
        "quantization_param({conv2}, precision_mode=a8_w4)",
        "post_quantization_optimization(finetune, policy=disabled)",
    ]
    assert made.compile == [
        "performance_param(compiler_optimization_level=max, fps=60, optimize_for_batch=8,"
        " optimize_for_power=True)",
        "context_switch_param(mode=enabled)",
        "allocator_param(enable_hw_padding=False)",
    ]
    _, own = made.text.split(dfc_script.OWN)
    assert own.strip() == str(options["model_script"]).strip()
    timed = script({"allocator_timeout_min": 25, "max_utilization": 0.8})
    assert timed.compile == ["resources_param(max_utilization=0.8)", "allocator_param(timeout=25m)"]


def test_several_inputs_are_normalized_each_behind_its_own_layer() -> None:
    other = entry(layer="net/input_layer2", scale=[255.0], offset=[0.0])
    plain = entry(layer="net/input_layer3", scale=None, offset=None)
    lines = script({}, entry(), other, plain).optimize
    assert lines[2] == "normalization2 = normalization([0.0], [255.0], net/input_layer2)"
    assert lines[1].endswith("57.375], net/input_layer1)")
    assert sum("normalization" in line for line in lines) == 2


def test_an_own_line_takes_the_place_of_the_generated_one() -> None:
    own = "model_optimization_flavor(optimization_level=0, compression_level=0)"
    chosen = dfc_options.checked({"model_script": own}, "int8")
    made = dfc_script.generated([entry()], chosen, {}, samples=64)
    assert [line for line in made.optimize if "flavor" in line] == [own]
    asked = {"optimization_level": 0, "compression_level": 0}
    assert dfc_script.asked(made, chosen) == asked
    named = dfc_options.checked({"optimization_level": 4}, "int8")
    made = dfc_script.generated([entry()], named, {}, samples=64)
    assert dfc_script.asked(made, named)["optimization_level"] == 4
    default = dfc_options.checked({}, "int8")
    made = dfc_script.generated([entry()], default, {}, samples=64)
    assert dfc_script.asked(made, default)["optimization_level"] == 2


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        pytest.param(
            {"model_script": "normalization1 = normalization([0, 0, 0], [255, 255, 255])"},
            "double normalization",
            "Drop the line",
            id="double normalization",
        ),
        pytest.param(
            {"model_script": 'nms_postprocess("c.json", meta_arch=yolov8, engine=cpu)'},
            "changes what the network takes or gives",
            "decoded on the host",
            id="boxes",
        ),
        pytest.param(
            {"model_script": "a = input_conversion(input_layer1, yuv_to_rgb)"},
            "changes what the network takes",
            "input_color",
            id="colours",
        ),
        pytest.param(
            {
                "optimization_level": 1,
                "model_script": "model_optimization_flavor(optimization_level=0)",
            },
            "option optimization_level is given too",
            "one place",
            id="twice",
        ),
    ],
)
def test_own_lines_that_contradict_are_refused(options: Table, message: str, hint: str) -> None:
    with pytest.raises(dfc_faults.BadInput, match=message) as caught:
        script(options)
    assert hint in caught.value.hint


def test_an_own_normalization_is_refused_where_none_is_generated_too() -> None:
    line = "normalization1 = normalization([0.0, 0.0, 0.0], [255.0, 255.0, 255.0])"
    with pytest.raises(dfc_faults.BadInput, match="beside data in the model's own units"):
        script({"model_script": line}, entry(scale=None, offset=None))


def test_own_lines_may_lie_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.alls"
    path.write_text("set_seed(seed=7)\n", encoding="utf-8")
    assert script({"model_script": str(path)}).optimize[-1] == "set_seed(seed=7)"
    with pytest.raises(dfc_faults.BadInput, match="cannot be read"):
        script({"model_script": str(tmp_path / "no.alls")})


@pytest.mark.parametrize(
    ("options", "precision", "message", "hint"),
    [
        ({"optimisation_level": 1}, "int8", "option 'optimisation_level'", "optimization_level"),
        ({"hw_arch": "hailo8x"}, "int8", "hw_arch: 'hailo8x'", "hailo8"),
        ({"optimization_level": 5}, "int8", "optimization_level: 5", "4"),
        ({"compression_level": 6}, "int8", "compression_level is 6, expected 0 to 5", "value"),
        ({"fps": -1.0}, "int8", "fps is -1.0, expected 0 or more", "value"),
        ({"a16_w16": "conv1"}, "int8", "a16_w16 is 'conv1'", "type"),
        ({"a16_w16": [1]}, "int8", "expected names of layers", "strings"),
        ({"a16_w16": ["a"], "a8_w4": ["a"]}, "int8", "'a' is asked for in 16 bits and", "a8_w4"),
        ({"a8_w4": ["a"]}, "int16", "int16 takes all", "mixed"),
        ({}, "mixed", "neither a16_w16 nor a8_w4", "int8"),
        ({"performance": "max", "max_utilization": 0.5}, "int8", "excludes it", "Leave"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: Table, precision: str, message: str, hint: str
) -> None:
    with pytest.raises(dfc_faults.BadInput, match=message) as caught:
        dfc_options.checked(options, precision)
    assert hint in caught.value.hint


def test_floats_are_unsupported() -> None:
    with pytest.raises(dfc_faults.Unsupported, match="fp32") as caught:
        dfc_options.checked({}, "fp32")
    assert "int8, int16 or mixed" in caught.value.hint


def test_the_program_keeps_its_errors_apart() -> None:
    program = nets.program()
    kinds = (program.Missing, program.Unsupported, program.BadInput)
    assert [kind.__name__ for kind in kinds] == ["Missing", "Unsupported", "BadInput"]
    assert program.BadInput("what", "remedy").hint == "remedy"
    assert not issubclass(program.Unsupported, program.BadInput)
