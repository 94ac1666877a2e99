"""Write the graphs that belong to no pack, `edge/int8_*product.onnx`: `python -m export.int8_product`."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.int8_product import PRODUCT_GRAPH, PROJECTED_GRAPH, ZERO_POINT

OPSET, IR_VERSION = 17, 8  # old enough for every runtime that edge allows


def int8_product_graph() -> bytes:
    """What `edge.int8_product` says of its graph, as an ONNX file."""
    from onnx import helper

    nodes = [helper.make_node("QuantizeLinear", ["rows", "scale", "zero_point"], ["rounded"])]
    return _graph("int8_product", nodes, [])


def int8_projected_product_graph() -> bytes:
    """The same with the projection before it."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("QuantizeLinear", ["rows", "scale", "zero_point"], ["levels_of_rows"]),
        helper.make_node("MatMulInteger", ["levels_of_rows", "axes", "zero_point"], ["whole_numbers"]),
        helper.make_node("Cast", ["whole_numbers"], ["projected"], to=TensorProto.FLOAT),
        helper.make_node("QuantizeLinear", ["projected", "projected_scale", "zero_point"], ["rounded"]),
    ]
    inputs = [
        helper.make_tensor_value_info("axes", TensorProto.INT8, ["D", "P"]),
        helper.make_tensor_value_info("projected_scale", TensorProto.FLOAT, []),
    ]
    return _graph("int8_projected_product", nodes, inputs)


def _graph(name: str, rounding: list[Any], more_inputs: list[Any]) -> bytes:
    """rounding: nodes from `rows` to `rounded`, which is multiplied by the columns."""
    from onnx import TensorProto, helper, numpy_helper

    zero_point = numpy_helper.from_array(np.array(ZERO_POINT, dtype=np.uint8), "zero_point")
    inputs = [
        helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", "D"]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        *more_inputs,
        helper.make_tensor_value_info("constants", TensorProto.UINT8, ["N", "C"]),
        helper.make_tensor_value_info("columns", TensorProto.INT8, ["F", "W"]),
    ]
    output = helper.make_tensor_value_info("products", TensorProto.INT32, ["N", "W"])
    nodes = [
        *rounding,
        helper.make_node("Concat", ["rounded", "constants"], ["levels"], axis=1),
        helper.make_node("MatMulInteger", ["levels", "columns", "zero_point"], ["products"]),
    ]
    graph = helper.make_graph(nodes, name, inputs, [output], [zero_point])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    PRODUCT_GRAPH.write_bytes(int8_product_graph())
    PROJECTED_GRAPH.write_bytes(int8_projected_product_graph())
