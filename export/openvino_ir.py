"""ONNX -> OpenVINO IR. An INT8 QDQ graph stays INT8; FP32 weights stay FP32."""

from __future__ import annotations

from pathlib import Path

from edge.errors import ExportError


def write_ir(onnx_file: Path, xml_file: Path) -> None:
    """Write `xml_file` and the `.bin` beside it."""
    import openvino as ov

    try:
        model = ov.convert_model(str(onnx_file))
        ov.save_model(model, str(xml_file), compress_to_fp16=False)
    except RuntimeError as exc:
        raise ExportError(f"OpenVINO cannot convert {onnx_file.name}: {exc}") from exc
