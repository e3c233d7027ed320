"""What plans say that single calls of graphs give: windows with what lies around them, bands their rows."""

from __future__ import annotations

from pathlib import Path

import nicrt
import synthetic
from nicrt import _core


def planned(codec: nicrt.Codec, size: tuple[int, int], region: tuple[int, int, int, int] | None = None) -> _core.Plan:
    (variant,) = codec.bundle.manifest.variants
    values = _core.default_values(codec.bundle.core, variant, size)
    return _core.plan(codec.bundle.core, variant, values, size, region=region)


def test_windows(codec: nicrt.Codec) -> None:
    for region in (None, (700, 900, 1300, 2000)):
        plan = planned(codec, (2500, 3000), region)
        more = 0
        for step in plan.steps:
            if isinstance(step, _core.EntropyStep):
                continue
            for number, (around, kept, _, _) in enumerate(step.calls):
                for (_, tensor), shape in zip(step.outputs, step.output_shapes(number), strict=True):
                    planned_tensor = plan.tensors[tensor]
                    assert planned_tensor.stride > 0
                    rows, columns = (shape[axis] * planned_tensor.stride for axis in planned_tensor.axes)
                    assert (rows, columns) == (around[2] - around[0], around[3] - around[1])
                more += around != kept
        assert more  # calls that give more than is kept


def test_bands(tmp_path: Path) -> None:
    plan = planned(nicrt.load(synthetic.banded(tmp_path / "banded"), threads=1), (100, 140))
    banded = [step for step in plan.steps if isinstance(step, _core.GraphStep) and step.banded]
    assert any(len(step.calls) > 1 for step in banded)
    for step in banded:
        bands = [step.output_shapes(number) for number in range(len(step.calls))]
        for place, (_, tensor) in enumerate(step.outputs):
            shape = plan.tensors[tensor].shape
            assert sum(band[place][2] for band in bands) == shape[2]
            assert {(*band[place][:2], *band[place][3:]) for band in bands} == {(*shape[:2], *shape[3:])}
